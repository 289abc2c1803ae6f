"""A file or a folder of this machine as a stream of tar (PAX), never held whole."""

from __future__ import annotations

import os
import stat
import tarfile

from wherry.cli.failure import Failure
from wherry.cli.files import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 1 << 20
_BLOCK = 512
_CAPABILITY = "security.capability"
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


class TarStream:
    """The archive of `source`, its first name `name` (empty for the contents alone).

    `count` is the bytes handed out so far.
    """

    def __init__(self, source: str, name: str) -> None:
        self._source = source
        self._name = name
        self._links: dict[tuple[int, int], str] = {}
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the archive in pieces. Raises Failure for what cannot be read."""
        try:
            for path, name in walk(self._source, self._name):
                for piece in self._entry(path, name):
                    self.count += len(piece)
                    yield piece
        except OSError as error:
            raise Failure(reason(error)) from None
        self.count += 2 * _BLOCK
        yield bytes(2 * _BLOCK)

    def _entry(self, path: str, name: str) -> Iterator[bytes]:
        facts = os.lstat(path)
        kind = _TYPES.get(stat.S_IFMT(facts.st_mode))
        if kind is None:
            # A socket has no place in an archive.
            return
        member = tarfile.TarInfo(name or ".")
        member.type = kind
        member.mode = stat.S_IMODE(facts.st_mode)
        member.uid, member.gid = facts.st_uid, facts.st_gid
        member.mtime = facts.st_mtime_ns // 10**9
        headers: dict[str, str] = {}
        if facts.st_mtime_ns % 10**9:
            headers["mtime"] = f"{facts.st_mtime_ns // 10**9}.{facts.st_mtime_ns % 10**9:09d}"
        member.pax_headers = headers
        if kind == tarfile.SYMTYPE:
            member.linkname = os.readlink(path)
        elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            member.devmajor, member.devminor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        elif kind == tarfile.REGTYPE:
            if facts.st_nlink > 1:
                first = self._links.setdefault((facts.st_dev, facts.st_ino), name)
                if first != name:
                    member.type, member.linkname = tarfile.LNKTYPE, first
                    yield _header(member)
                    return
            yield from _file(member, path)
            return
        yield _header(member)


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _file(member: tarfile.TarInfo, path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        member.size = os.fstat(file.fileno()).st_size
        try:
            capability = os.getxattr(file.fileno(), _CAPABILITY)
        except OSError:
            pass
        else:
            text = capability.decode("utf-8", "surrogateescape")
            member.pax_headers = {**member.pax_headers, f"SCHILY.xattr.{_CAPABILITY}": text}
        yield _header(member)
        left = member.size
        while left > 0:
            data = file.read(min(left, _PIECE))
            if not data:
                raise Failure(f"{path} became shorter while it was read")
            left -= len(data)
            yield data
    if member.size % _BLOCK:
        yield bytes(-member.size % _BLOCK)


def walk(source: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, name in the archive) of the source and all under it, a folder before its own."""
    base = source if source == "/" else source.rstrip("/")
    yield base, name
    if not os.path.isdir(base) or os.path.islink(base):
        return
    pending = [(base, name)]
    while pending:
        folder, prefix = pending.pop()
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            inside = f"{prefix}/{entry.name}" if prefix else entry.name
            yield entry.path, inside
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, inside))
