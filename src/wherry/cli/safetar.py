"""Unpacking an archive that a container wrote, which is hostile: nothing outside the target is touched.

Every folder on the way is opened without following links, from a descriptor of the target, so that
neither `..` nor a link made a moment ago leads out (as CVE-2019-14271 and CVE-2018-15664 did).
"""

from __future__ import annotations

import os

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from typing import IO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20


class Unpacker:
    """Unpacks members under `target`, each path renamed by the caller first."""

    def __init__(self, archive: tarfile.TarFile, target: str, *, owners: bool) -> None:
        self._archive = archive
        self._owners = owners
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folders: list[tuple[str, tarfile.TarInfo]] = []

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def unpack(self, member: tarfile.TarInfo, path: str) -> None:
        """Make `member` at `path` under the target. Raises Failure naming the entry."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Failure(f"refusing to unpack {member.name!r}: it leads out of the target")
        if not parts:
            return
        try:
            parent = self._open(parts[:-1])
            try:
                self._make(member, parent, parts[-1])
            finally:
                os.close(parent)
        except OSError as error:
            raise Failure(f"cannot unpack {member.name!r}: {error.strerror or error}") from None
        if member.isdir():
            self._folders.append(("/".join(parts), member))

    def finish(self) -> None:
        """Set the times of folders, which what was unpacked into them has changed."""
        for path, member in reversed(self._folders):
            try:
                descriptor = self._open(path.split("/"))
            except OSError:
                continue
            try:
                os.utime(descriptor, (member.mtime, member.mtime))
            finally:
                os.close(descriptor)

    def _open(self, parts: list[str]) -> int:
        at = os.dup(self._root)
        try:
            for part in parts:
                try:
                    below = os.open(part, _FOLDER, dir_fd=at)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=at)
                    below = os.open(part, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
        except BaseException:
            os.close(at)
            raise
        return at

    def _make(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.isdir():
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                os.close(os.open(name, _FOLDER, dir_fd=parent))
            self._finish(member, parent, name)
            return
        _make_room(parent, name)
        if member.isfile():
            self._file(member, parent, name)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
            if self._owners:
                os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            self._link(member, parent, name)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
            self._finish(member, parent, name)
        elif member.ischr() or member.isblk():
            kind = 0o020000 if member.ischr() else 0o060000
            os.mknod(
                name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent
            )
            self._finish(member, parent, name)

    def _file(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        source: IO[bytes] | None = self._archive.extractfile(member)
        descriptor = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            while source is not None and (data := source.read(_PIECE)):
                view = memoryview(data)
                while len(view):
                    view = view[os.write(descriptor, view) :]
            if self._owners:
                os.fchown(descriptor, member.uid, member.gid)
            os.fchmod(descriptor, member.mode & 0o7777)
            os.utime(descriptor, (member.mtime, member.mtime))
        finally:
            os.close(descriptor)

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        parts = [part for part in member.linkname.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise Failure(f"refusing to unpack {member.name!r}: its link leads out of the target")
        folder = self._open(parts[:-1])
        try:
            os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(folder)

    def _finish(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if self._owners:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        # What was just made, or checked not to be a link, is what the mode goes to.
        os.chmod(name, member.mode & 0o7777, dir_fd=parent)


def _make_room(parent: int, name: str) -> None:
    """Remove what is not a folder at `name`; a folder stays, and making the entry then fails."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
