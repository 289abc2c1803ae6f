"""A context from an archive: `docker build -`, POST /build, `ADD` of what is in one.

Owners become 0:0, as Docker has it: who packed the context is nothing the image should tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wherry.kernel.hashing import sha256
from wherry.storage.layers.compression import ReadAhead, decompressed
from wherry.storage.layers.directories import Parents, Unfinished, hard_link
from wherry.storage.layers.entries import DEFAULT_LIMITS, Entry, Kind, Limits, Readable, bad_entry
from wherry.storage.layers.placing import Creation, Placer, clean_name, clear_name, failed
from wherry.storage.layers.reader import TarReader

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _root(uid: int, gid: int) -> tuple[int, int]:
    del uid, gid
    return 0, 0


class _Hashed:
    """A reader's content, hashed on its way."""

    def __init__(self, reader: TarReader) -> None:
        self._reader = reader
        self.hasher = sha256()

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
        self._directories = Unfinished()

    def run(self) -> None:
        try:
            for entry in self._reader:
                try:
                    self._add(entry)
                except OSError as problem:
                    raise failed(entry, problem) from problem
            self._reader.drain()
            self._directories.finish(self._parents, self._placer)
        finally:
            self._parents.forget()

    def _add(self, entry: Entry) -> None:
        path = clean_name(entry.name, entry)
        if not path:
            if entry.kind is not Kind.DIRECTORY:
                raise bad_entry(entry.name, "the context itself is not a directory")
            self._directories.meet(path, entry, os.fstat(self._root))
            return
        if any(key.startswith("trusted.") for key in entry.xattrs):
            kept = {k: v for k, v in entry.xattrs.items() if not k.startswith("trusted.")}
            entry = entry._replace(xattrs=kept)
        directory, _, name = path.rpartition(b"/")
        parent = self._parent(directory, entry)
        try:
            self._place(parent, path, directory, name, entry)
        except FileExistsError:
            parent = self._parent(directory, entry)  # placing a link may have closed it
            if clear_name(parent, name):
                self._parents.forget()
                parent = self._parent(directory, entry)
            self._place(parent, path, directory, name, entry)

    def _place(self, parent: int, path: bytes, directory: bytes, name: bytes, entry: Entry) -> None:
        match entry.kind:
            case Kind.DIRECTORY:
                self._directories.make(parent, path, name, entry)
            case Kind.HARDLINK:
                hard_link(self._parents, directory, name, entry)
            case Kind.FILE if entry.sparse is None:
                self._content.hasher = sha256()
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
