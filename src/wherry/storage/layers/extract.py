"""A plain archive into a directory of a container's root, which may be running and hostile.

Every directory is found by openat2 below the root's descriptor, and every entry made in an open
directory without following a link, so that links swapped meanwhile lead nowhere outside
(CVE-2018-15664). Nothing of the container is executed or loaded (CVE-2019-14271).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from wherry.kernel.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    make_dirs_in_root,
    open_in_root,
)
from wherry.model.errors import Forbidden, Invalid, NotFound
from wherry.storage.layers.directories import Parents, Unfinished, hard_link
from wherry.storage.layers.entries import (
    DEFAULT_LIMITS,
    Entry,
    Kind,
    Limits,
    OwnerMap,
    Readable,
    show,
)
from wherry.storage.layers.placing import Placer, clean_name, clear_name, failed
from wherry.storage.layers.reader import TarReader
from wherry.storage.layers.unpack import Unpacked

_IMPLIED_MODE: Final = 0o755
_ATTEMPTS: Final = 4


def extract(
    stream: Readable,
    root_fd: int,
    base: bytes | str,
    *,
    owner: OwnerMap | None = None,
    no_overwrite_dir_non_dir: bool = False,
    clamp_mtime: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Unpacked:
    """Extract the uncompressed archive `stream` below the directory `base` of `root_fd`.

    Names that start with `.wh.` are plain names. `owner` maps each entry's owner. A directory
    that is there is kept and gets the entry's metadata; anything else is replaced, unless
    `no_overwrite_dir_non_dir` forbids to replace a directory by something else or the reverse
    (Engine API, PUT /containers/{id}/archive). `clamp_mtime` (seconds) makes later times that time.
    Raises NotFound or Invalid for `base`, Invalid naming the entry, Full, Forbidden. What was
    extracted before an error stays.
    """
    where = os.fsencode(base)
    try:
        os.close(open_in_root(root_fd, where, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        raise NotFound("path", os.fsdecode(where)) from None
    except NotADirectoryError:
        raise Invalid("extraction point is not a directory", hint=os.fsdecode(where)) from None
    except OSError as problem:
        raise Invalid(f"{show(where)}: {os.strerror(problem.errno or 0)}") from problem
    reader = TarReader(stream, limits, strict_end=False)
    clamp_ns = None if clamp_mtime is None else clamp_mtime * 10**9
    return _Extraction(root_fd, where, reader, owner, no_overwrite_dir_non_dir, clamp_ns).run()


class _Extraction:
    def __init__(
        self,
        root_fd: int,
        base: bytes,
        reader: TarReader,
        owner: OwnerMap | None,
        keep_kinds: bool,
        clamp_ns: int | None,
    ) -> None:
        self._root_fd = root_fd
        self._base = base
        self._reader = reader
        self._keep_kinds = keep_kinds
        self._clamp_ns = clamp_ns
        self._placer = Placer(reader, None, owner)
        self._implied_owner = owner(0, 0) if owner is not None else (0, 0)
        self._parents = Parents(root_fd, base)
        self._directories = Unfinished()

    def run(self) -> Unpacked:
        size = count = 0
        try:
            for entry in self._reader:
                count += 1
                if self._clamp_ns is not None:
                    entry = entry._replace(
                        mtime_ns=min(entry.mtime_ns, self._clamp_ns), atime_ns=None
                    )
                try:
                    size += self._add(entry)
                except OSError as problem:
                    raise failed(entry, problem) from problem
            self._reader.drain()
            self._directories.finish(self._parents, self._placer)
        finally:
            self._parents.forget()
        return Unpacked(size, count, tuple(self._placer.skipped))

    def _add(self, entry: Entry) -> int:
        path = clean_name(entry.name, entry)
        if not path:  # the base itself is the user's and stays as it is
            return 0
        directory, _, name = path.rpartition(b"/")
        self._make_parent(directory)
        for attempt in range(_ATTEMPTS):
            try:
                self._place(path, directory, name, entry)
                break
            except FileExistsError:
                # The container may put something there again and again.
                if attempt == _ATTEMPTS - 1:
                    raise
                self._make_room(directory, name, entry)
        return entry.size

    def _make_parent(self, directory: bytes) -> None:
        try:
            self._parents.find(directory)
        except FileNotFoundError:
            full = self._base + b"/" + directory
            os.close(
                make_dirs_in_root(self._root_fd, full, _IMPLIED_MODE, owner=self._implied_owner)
            )

    def _place(self, path: bytes, directory: bytes, name: bytes, entry: Entry) -> None:
        match entry.kind:
            case Kind.DIRECTORY:
                self._directories.make(self._parents.find(directory), path, name, entry)
            case Kind.HARDLINK:
                hard_link(self._parents, directory, name, entry)
            case _:
                self._placer.place(self._parents.find(directory), name, entry)

    def _make_room(self, directory: bytes, name: bytes, entry: Entry) -> None:
        parent = self._parents.find(directory)
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if _is_mount_point(parent, name):
            raise Forbidden(f"archive entry {show(entry.name)}: {os.strerror(errno.EBUSY)}")
        is_directory = stat.S_ISDIR(status.st_mode)
        if self._keep_kinds and is_directory != (entry.kind is Kind.DIRECTORY):
            kinds = ("directory", "non-directory")
            there, new = kinds if is_directory else reversed(kinds)
            raise Invalid(f"cannot overwrite {there} {show(name)} with {new} {show(entry.name)}")
        if clear_name(parent, name):
            self._parents.forget()


def _is_mount_point(parent: int, name: bytes) -> bool:
    """Return whether something is mounted on `name`, in whichever mount namespace `parent` belongs to.

    From outside that namespace the kernel does not answer EBUSY: unlink and rmdir succeed and take
    the mount away (Linux 3.18, "vfs: Lazily remove mounts on unlinked files and directories").
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
    try:
        os.close(open_in_root(parent, name, os.O_PATH | os.O_NOFOLLOW, resolve=resolve))
    except OSError as problem:
        return problem.errno == errno.EXDEV
    return False
