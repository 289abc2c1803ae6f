"""Paths inside trees that someone hostile may own: walked by descriptors, never by joined strings.

Everything here resolves with openat2(2) below a descriptor or works on one name in an open
directory, so a link swapped half-way leads nowhere outside. Names are bytes inside; a `str` is
taken with `os.fsencode`. Every descriptor made is O_CLOEXEC and the caller owns it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # pathlib brings urllib and ipaddress, a megabyte that the supervisor has no use for.
    from pathlib import Path

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

CONTAINED: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
"""Links are followed as the tree's own processes would follow them, with the descriptor as `/`."""

_SYS_OPENAT2: Final = 437  # the same number on every architecture (Linux 5.6)
# openat2(2): a rename or mount elsewhere during a `..` step makes a scoped walk answer EAGAIN.
_RACES_TOLERATED: Final = 32
_LINKS_FOLLOWED: Final = 40  # path_resolution(7)
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD_LEVELS: Final = 32


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_openat2 = _libc.syscall
_openat2.argtypes = (
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_char_p,
    ctypes.POINTER(_OpenHow),
    ctypes.c_size_t,
)
_openat2.restype = ctypes.c_long
_syncfs = _libc.syncfs
_syncfs.argtypes = (ctypes.c_int,)
_syncfs.restype = ctypes.c_int
_HOW_SIZE: Final = ctypes.sizeof(_OpenHow)


def open_in_root(
    root_fd: int, path: bytes | str, flags: int, mode: int = 0, *, resolve: int = CONTAINED
) -> int:
    """Return a descriptor of `path` resolved below `root_fd`, as openat2(2) does.

    With the default `resolve` an absolute link and `..` stay below the root (as after chroot) and
    magic links of /proc are refused with ELOOP. Raises OSError carrying the path.
    """
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, "a path cannot contain a NUL byte", name)
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_RACES_TOLERATED):
        descriptor = _openat2(_SYS_OPENAT2, root_fd, name or b".", how, _HOW_SIZE)
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), name)
    # On a mount that is attached nowhere, `..` at the root answers EAGAIN for ever (seen on Linux 6.18).
    return _walk(root_fd, name, flags, mode, follow=not resolve & RESOLVE_NO_SYMLINKS)


def open_file_in_root(root_fd: int, path: bytes | str, *, resolve: int = CONTAINED) -> int:
    """Return a descriptor to read the regular file at `path`; links are followed as `resolve` says.

    Raises OSError, EINVAL for anything else: opening a device may already do something (a watchdog's
    counts down from then on, watchdog-api.rst), and an image may have one under any name.
    """
    found = open_in_root(root_fd, path, os.O_PATH, resolve=resolve)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fsencode(path))
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def _walk(root_fd: int, path: bytes, flags: int, mode: int, *, follow: bool) -> int:
    """Do what openat2 with RESOLVE_IN_ROOT does, one component at a time.

    No step follows a link, so a link swapped in meanwhile is ELOOP or ENOTDIR, never a way out.
    """
    step = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    held = [os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)]
    pending = list(reversed(split(path)))
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part == b"..":
                if len(held) > 1:
                    os.close(held.pop())
                continue
            target = _link_target(part, held[-1])
            if target is not None and (pending or not flags & os.O_NOFOLLOW):
                links += 1
                if not follow or links > _LINKS_FOLLOWED:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                while target.startswith(b"/") and len(held) > 1:
                    os.close(held.pop())
                pending += reversed(split(target))
            elif pending:
                held.append(os.open(part, step, dir_fd=held[-1]))
            else:
                last = flags | os.O_NOFOLLOW | os.O_CLOEXEC
                return os.open(part, last, mode, dir_fd=held[-1])
        return os.open(".", flags & ~(os.O_CREAT | os.O_EXCL) | os.O_CLOEXEC, dir_fd=held[-1])
    finally:
        for fd in held:
            os.close(fd)


def _link_target(name: bytes, dir_fd: int) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def split(path: bytes) -> tuple[bytes, ...]:
    """Return the components of `path` without empty ones and `.`; `..` is kept."""
    return tuple(part for part in path.split(b"/") if part not in (b"", b"."))


def make_dirs_in_root(
    root_fd: int, path: bytes | str, mode: int = 0o755, *, owner: tuple[int, int] | None = None
) -> int:
    """Return an O_PATH descriptor of the directory `path` below `root_fd`, made where missing.

    Links on the way are followed inside the root. The directories made get exactly `mode` and,
    where given, `owner` (uid, gid). Raises OSError: ENOTDIR for something else in the way.
    """
    flags = os.O_PATH | os.O_DIRECTORY
    target = os.fsencode(path)
    try:
        return open_in_root(root_fd, target, flags)
    except FileNotFoundError:
        pass
    parts = split(target)
    for depth in range(1, len(parts) + 1):
        _make_one(root_fd, b"/".join(parts[: depth - 1]), parts[depth - 1], mode, owner)
    return open_in_root(root_fd, target, flags)


def _make_one(
    root_fd: int, parent: bytes, name: bytes, mode: int, owner: tuple[int, int] | None
) -> None:
    if name == b"..":
        return
    parent_fd = open_in_root(root_fd, parent, os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
    except FileExistsError:
        return
    else:
        made = os.open(name, _OPEN_DIRECTORY, dir_fd=parent_fd)
        try:
            if owner is not None:
                os.fchown(made, *owner)
            os.fchmod(made, mode)
        finally:
            os.close(made)
    finally:
        os.close(parent_fd)


def follow_in_root(root_fd: int, path: bytes) -> bytes:
    """Return `path`, relative to `root_fd`, with all links resolved, whether or not the end exists.

    A name, not a promise: it may be changed at any time, and is opened as hostile as it was.
    """
    done: list[bytes] = []
    todo = list(reversed(split(path)))
    links = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            del done[-1:]
            continue
        target = None
        if links < _LINKS_FOLLOWED:
            target = _read_link(root_fd, b"/".join((*done, part)))
        if target is None:
            done.append(part)
            continue
        links += 1
        if target.startswith(b"/"):
            done.clear()
        todo += reversed(split(target))
    return b"/".join(done)


def _read_link(root_fd: int, path: bytes) -> bytes | None:
    try:
        fd = open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return os.readlink(b"", dir_fd=fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def remove_path(path: Path) -> None:
    """Remove `path` and all below it as `remove_tree` does; missing is fine."""
    try:
        parent = os.open(path.parent, _OPEN_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        remove_tree(parent, path.name)
    finally:
        os.close(parent)


def remove_tree(dir_fd: int, name: bytes | str, *, missing_ok: bool = True) -> None:
    """Remove `name` in the directory `dir_fd`, with all below it.

    Never follows a link, never enters another mount (OSError EXDEV, or EBUSY for the mount
    itself), needs neither recursion nor a descriptor per level: what lies deep is first moved to
    the top. Entries that vanish meanwhile are fine. Raises OSError for anything that stays.
    """
    entry = os.fsencode(name)
    if entry in (b"", b".", b"..") or b"/" in entry:
        raise OSError(errno.EINVAL, "not a name in a directory", entry)
    try:
        if _unlinked(dir_fd, entry):
            return
        top = _open_level(dir_fd, entry)
    except FileNotFoundError:
        if missing_ok:
            return
        raise
    try:
        # A process still writing into the tree can refill a directory; it gets a few rounds.
        for attempt in range(8):
            _empty(top)
            try:
                os.rmdir(entry, dir_fd=dir_fd)
            except FileNotFoundError:
                return
            except OSError as problem:
                if problem.errno != errno.ENOTEMPTY or attempt == 7:
                    raise
            else:
                return
    finally:
        os.close(top)


def _unlinked(dir_fd: int, name: bytes) -> bool:
    """Whether `name` was something else than a directory, and is now gone."""
    if stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=dir_fd)
    return True


def _open_level(dir_fd: int, name: bytes) -> int:
    resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
    return open_in_root(dir_fd, name, _OPEN_DIRECTORY, resolve=resolve)


def _empty(top: int) -> None:
    """Remove all that is in the directory `top`, which stays open and keeps existing."""
    moved = 0
    levels: list[tuple[int, bytes, list[bytes]]] = [(top, b"", _clear_files(top))]
    try:
        while levels:
            fd, own_name, pending = levels[-1]
            if pending:
                child = pending.pop()
                if _rmdir(fd, child):
                    continue
                if len(levels) > _HELD_LEVELS:
                    moved += 1
                    levels[0][2].append(_lift(fd, child, top, moved))
                    continue
                try:
                    below = _open_level(fd, child)
                except FileNotFoundError:
                    continue
                levels.append((below, child, []))
                levels[-1] = (below, child, _clear_files(below))
                continue
            levels.pop()
            if levels:
                os.close(fd)
                _rmdir(levels[-1][0], own_name)
    finally:
        for fd, _, _ in levels[1:]:
            os.close(fd)


def _clear_files(fd: int) -> list[bytes]:
    """Unlink what is not a directory in `fd`; return the names of the directories."""
    directories: list[bytes] = []
    with os.scandir(fd) as found:
        entries = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in found]
    for name, is_directory in entries:
        if is_directory:
            directories.append(name)
            continue
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            directories.append(name)
    return directories


def _rmdir(fd: int, name: bytes) -> bool:
    """Whether the directory `name` in `fd` is gone; False when it is not empty."""
    try:
        os.rmdir(name, dir_fd=fd)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        os.unlink(name, dir_fd=fd)
    except OSError as problem:
        if problem.errno == errno.ENOTEMPTY:
            return False
        raise
    return True


def _lift(fd: int, name: bytes, top: int, number: int) -> bytes:
    """Move the directory `name` of `fd` up into `top`; return its name there."""
    while True:
        fresh = b".wherry-removing-%d-%d" % (os.getpid(), number)
        try:
            os.rename(name, fresh, src_dir_fd=fd, dst_dir_fd=top)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            number += 1_000_003
        else:
            return fresh


def sync_filesystem(fd: int) -> None:
    """Write out everything of the file system that holds `fd`: syncfs(2). Raises OSError."""
    if _syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
