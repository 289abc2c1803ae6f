"""A context from an archive: `docker build -`, POST /build, `ADD` of what is in one.

Owners become 0:0, as Docker has it: who packed the context is nothing the image should tell.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wherry.model.errors import Invalid
from wherry.storage.layers.compression import ReadAhead, decompressed
from wherry.storage.layers.entries import DEFAULT_LIMITS, Entry, Kind, Limits, Readable, bad_entry
from wherry.storage.layers.placing import Creation, Parents, Placer, clean_name, clear_name, failed
from wherry.storage.layers.reader import TarReader

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _root(uid: int, gid: int) -> tuple[int, int]:
    del uid, gid
    return 0, 0


class _Hashed:
    """A reader's content, hashed on its way."""

    def __init__(self, reader: TarReader) -> None:
        self._reader = reader
        self.hasher = hashlib.sha256()

    def chunks(self) -> Iterator[memoryview]:
        for chunk in self._reader.chunks():
            self.hasher.update(chunk)
            yield chunk


def receive_tar(
    stream: Readable,
    target: Path,
    digests: dict[tuple[int, int], bytes],
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Fill the empty directory `target`; `digests` gets each file's SHA-256 by (device, inode).

    The stream may be compressed, and is read to its end. Raises Invalid naming the entry, Full.
    """
    root = os.open(target, _DIRECTORY)
    try:
        with ReadAhead(decompressed(stream)[1]) as archive:
            _Receiving(root, TarReader(archive, limits, strict_end=False), digests).run()
    finally:
        os.close(root)


class _Receiving:
    def __init__(self, root: int, reader: TarReader, digests: dict[tuple[int, int], bytes]) -> None:
        self._root = root
        self._reader = reader
        self._digests = digests
        self._content = _Hashed(reader)
        self._placer = Placer(self._content, Creation.read(), _root)
        self._parents = Parents(root)
        self._directories: dict[bytes, tuple[Entry, tuple[int, int]]] = {}

    def run(self) -> None:
        try:
            for entry in self._reader:
                try:
                    self._add(entry)
                except OSError as problem:
                    raise failed(entry, problem) from problem
            self._reader.drain()
            self._finish()
        finally:
            self._parents.forget()

    def _add(self, entry: Entry) -> None:
        path = clean_name(entry.name, entry)
        if not path:
            if entry.kind is not Kind.DIRECTORY:
                raise bad_entry(entry.name, "the context itself is not a directory")
            status = os.fstat(self._root)
            self._directories[b""] = (entry, (status.st_dev, status.st_ino))
            return
        if any(key.startswith("trusted.") for key in entry.xattrs):
            kept = {k: v for k, v in entry.xattrs.items() if not k.startswith("trusted.")}
            entry = entry._replace(xattrs=kept)
        directory, _, name = path.rpartition(b"/")
        parent = self._parent(directory, entry)
        try:
            self._place(parent, path, name, entry)
        except FileExistsError:
            if clear_name(parent, name):
                self._parents.forget()
                parent = self._parent(directory, entry)
            self._place(parent, path, name, entry)

    def _place(self, parent: int, path: bytes, name: bytes, entry: Entry) -> None:
        match entry.kind:
            case Kind.DIRECTORY:
                self._directory(parent, path, name, entry)
            case Kind.HARDLINK:
                self._link(parent, name, entry)
            case Kind.FILE if entry.sparse is None:
                self._content.hasher = hashlib.sha256()
                self._placer.place(parent, name, entry)
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                self._digests[(status.st_dev, status.st_ino)] = self._content.hasher.digest()
            case _:
                self._placer.place(parent, name, entry)

    def _parent(self, directory: bytes, entry: Entry) -> int:
        try:
            return self._parents.find(directory)
        except FileNotFoundError:
            pass
        parts = directory.split(b"/")
        for depth in range(1, len(parts) + 1):
            path = b"/".join(parts[:depth])
            try:
                self._parents.find(path)
            except FileNotFoundError:
                above = self._parents.find(b"/".join(parts[: depth - 1]))
                try:
                    os.mkdir(parts[depth - 1], 0o755, dir_fd=above)
                except FileExistsError:  # a link that leads nowhere
                    raise bad_entry(
                        entry.name, f"{path!r} on its path is not a directory"
                    ) from None
        return self._parents.find(directory)

    def _directory(self, parent: int, path: bytes, name: bytes, entry: Entry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                raise
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        self._directories[path] = (entry, (status.st_dev, status.st_ino))

    def _link(self, parent: int, name: bytes, entry: Entry) -> None:
        source = clean_name(entry.link, entry)
        directory, _, source_name = source.rpartition(b"/")
        try:
            source_parent = self._parents.find(directory)
            status = os.stat(source_name or b".", dir_fd=source_parent, follow_symlinks=False)
        except OSError:
            raise bad_entry(entry.name, "a hard link to nothing") from None
        if stat.S_ISDIR(status.st_mode):
            raise bad_entry(entry.name, "a hard link to a directory")
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if os.path.samestat(there, status):
                return
        os.link(
            source_name, name, src_dir_fd=source_parent, dst_dir_fd=parent, follow_symlinks=False
        )

    def _finish(self) -> None:
        for path, (entry, identity) in self._directories.items():
            try:
                fd = self._parents.find(path)
            except OSError as problem:
                if problem.errno not in _REPLACED:
                    raise
                continue
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) == identity:
                try:
                    self._placer.finish_directory(fd, entry)
                except OSError as problem:
                    raise failed(entry, problem) from problem


def looks_like_archive(head: bytes) -> bool:
    """Whether bytes that begin a stream are an archive's, rather than a Dockerfile's."""
    try:
        return TarReader(_Bytes(head), strict_end=False).next_entry() is not None
    except Invalid:
        return False


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, n: int, /) -> bytes:
        data, self._data = self._data[:n], self._data[n:]
        return data
