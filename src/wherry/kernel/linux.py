"""The real kernel: every foreign function is bound once, at import, with its types.

`clone3` is called through PyDLL (the interpreter lock is kept), so the child of a single-threaded
process owns a consistent interpreter; it must only exec or _exit in the end.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_uint, c_uint32, c_uint64, c_ulong, c_void_p
from typing import Any

from wherry.kernel import abi

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC_LOCKED = ctypes.PyDLL(None, use_errno=True)


def _bind(name: str, *types: Any) -> Any:
    return ctypes.CFUNCTYPE(c_int, *types, use_errno=True)((name, _LIBC))


def _system_call(*types: Any) -> Any:
    return ctypes.CFUNCTYPE(c_long, c_long, *types, use_errno=True)(("syscall", _LIBC))


_unshare = _bind("unshare", c_int)
_setns = _bind("setns", c_int, c_int)
_mount = _bind("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = _bind("umount2", c_char_p, c_int)
_prctl = _bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_setfsuid = _bind("setfsuid", c_uint)
_setfsgid = _bind("setfsgid", c_uint)
_sethostname = _bind("sethostname", c_char_p, c_ulong)
_setdomainname = _bind("setdomainname", c_char_p, c_ulong)
_capset = _bind("capset", c_void_p, c_void_p)
_fstatfs = _bind("fstatfs", c_int, c_void_p)
_open_tree = _system_call(c_int, c_char_p, c_uint)
_move_mount = _system_call(c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = _system_call(c_char_p, c_uint)
_fsconfig = _system_call(c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = _system_call(c_int, c_uint, c_uint)
_mount_setattr = _system_call(c_int, c_char_p, c_uint, c_void_p, c_ulong)
_pivot_root = _system_call(c_char_p, c_char_p)
_close_range = _system_call(c_uint, c_uint, c_uint)
_seccomp = _system_call(c_uint, c_uint, c_void_p)
_rt_sigaction = _system_call(c_int, c_void_p, c_void_p, c_ulong)
_keyctl = _system_call(c_int, c_char_p)
_any_call = _system_call(c_ulong, c_ulong, c_ulong, c_ulong, c_ulong)
_clone3 = ctypes.PYFUNCTYPE(c_long, c_long, c_void_p, c_ulong)(("syscall", _LIBC_LOCKED))
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
_after_fork_child.restype = None


_SIGNALS = 64


def errno_of(number: int) -> int:
    """Return the errno of the system call `number`, made with arguments that no call takes; 0 if it does."""
    refused = _any_call(number, (1 << 8 * ctypes.sizeof(c_ulong)) - 1, 0, 0, 0, 0) < 0
    return ctypes.get_errno() if refused else 0


class _CloneArgs(ctypes.Structure):
    _fields_ = (
        ("flags", c_uint64),
        ("pidfd", c_uint64),
        ("child_tid", c_uint64),
        ("parent_tid", c_uint64),
        ("exit_signal", c_uint64),
        ("stack", c_uint64),
        ("stack_size", c_uint64),
        ("tls", c_uint64),
        ("set_tid", c_uint64),
        ("set_tid_size", c_uint64),
        ("cgroup", c_uint64),
    )


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    )


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", c_uint32), ("pid", c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", c_uint32), ("permitted", c_uint32), ("inheritable", c_uint32))


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", c_void_p))


def _failed(path: bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    text = os.strerror(number)
    return OSError(number, text, os.fsdecode(path)) if path else OSError(number, text)


class Linux:
    """`calls.Kernel`, for real."""

    def clone3(self, flags: int, cgroup: int = -1) -> tuple[int, int]:
        pidfd = c_int(-1)
        arguments = _CloneArgs(
            flags=flags | abi.CLONE_PIDFD | (abi.CLONE_INTO_CGROUP if cgroup >= 0 else 0),
            pidfd=ctypes.addressof(pidfd),
            # With CLONE_PARENT the exit signal is the parent's own: it must be 0 here (clone(2)).
            exit_signal=0 if flags & abi.CLONE_PARENT else 17,
            cgroup=max(cgroup, 0),
        )
        pid = _clone3(abi.NR_CLONE3, ctypes.addressof(arguments), ctypes.sizeof(arguments))
        if pid == 0:
            _after_fork_child()
            return 0, -1
        if pid < 0:
            number = int(_LIBC_ERRNO().contents.value)
            raise OSError(number, f"clone3: {os.strerror(number)}")
        return pid, pidfd.value

    def unshare(self, flags: int) -> None:
        if _unshare(flags) < 0:
            raise _failed()

    def setns(self, fd: int, flags: int) -> None:
        if _setns(fd, flags) < 0:
            raise _failed()

    def mount(
        self,
        source: bytes | None,
        target: bytes,
        kind: bytes | None,
        flags: int,
        data: bytes | None,
    ) -> None:
        if _mount(source, target, kind, flags, data) < 0:
            raise _failed(target)

    def umount2(self, target: bytes, flags: int) -> None:
        if _umount2(target, flags) < 0:
            raise _failed(target)

    def pivot_root(self, new: bytes, old: bytes) -> None:
        if _pivot_root(abi.NR_PIVOT_ROOT, new, old) < 0:
            raise _failed(new)

    def open_tree(self, dir_fd: int, path: bytes, flags: int) -> int:
        fd: int = _open_tree(abi.NR_OPEN_TREE, dir_fd, path, flags | abi.OPEN_TREE_CLOEXEC)
        if fd < 0:
            raise _failed(path)
        return fd

    def move_mount(
        self, from_fd: int, from_path: bytes, to_fd: int, to_path: bytes, flags: int
    ) -> None:
        if _move_mount(abi.NR_MOVE_MOUNT, from_fd, from_path, to_fd, to_path, flags) < 0:
            raise _failed(to_path or from_path)

    def fsopen(self, kind: bytes) -> int:
        fd: int = _fsopen(abi.NR_FSOPEN, kind, abi.FSOPEN_CLOEXEC)
        if fd < 0:
            raise _failed(kind)
        return fd

    def fsconfig(self, fd: int, command: int, key: bytes | None, value: bytes | None) -> None:
        if _fsconfig(abi.NR_FSCONFIG, fd, command, key, value, 0) < 0:
            raise _failed(b"%s=%s" % (key, value) if key and value else key)

    def fsmount(self, fd: int, attributes: int) -> int:
        mounted: int = _fsmount(abi.NR_FSMOUNT, fd, abi.FSMOUNT_CLOEXEC, attributes)
        if mounted < 0:
            raise _failed()
        return mounted

    def mount_setattr(
        self,
        fd: int,
        path: bytes,
        flags: int,
        *,
        set_: int = 0,
        clear: int = 0,
        propagation: int = 0,
        userns: int = 0,
    ) -> None:
        attributes = _MountAttr(set_, clear, propagation, userns)
        size = ctypes.sizeof(attributes)
        pointer = ctypes.addressof(attributes)
        if _mount_setattr(abi.NR_MOUNT_SETATTR, fd, path, flags, pointer, size) < 0:
            raise _failed(path)

    def prctl(self, option: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        result: int = _prctl(option, a, b, c, 0)
        if result < 0:
            raise _failed()
        return result

    def capset(self, effective: int, permitted: int, inheritable: int) -> None:
        header = _CapHeader(abi.LINUX_CAPABILITY_VERSION_3, 0)
        low = 0xFFFFFFFF
        data = (_CapData * 2)(
            _CapData(effective & low, permitted & low, inheritable & low),
            _CapData(effective >> 32, permitted >> 32, inheritable >> 32),
        )
        if _capset(ctypes.addressof(header), ctypes.addressof(data)) < 0:
            raise _failed()

    def seccomp_filter(self, program: bytes, flags: int = 0) -> None:
        buffer = ctypes.create_string_buffer(program, len(program))
        filter_ = _FilterProgram(len(program) // 8, ctypes.addressof(buffer))
        pointer = ctypes.addressof(filter_)
        if _seccomp(abi.NR_SECCOMP, abi.SECCOMP_SET_MODE_FILTER, flags, pointer) < 0:
            raise _failed()

    def default_signals(self) -> None:
        # struct kernel_sigaction: handler, flags, restorer, mask; all zero is SIG_DFL. 9 and 19 cannot be set.
        action = ctypes.create_string_buffer(32)
        for number in range(1, _SIGNALS + 1):
            _rt_sigaction(abi.NR_RT_SIGACTION, number, ctypes.addressof(action), None, 8)

    def setfsuid(self, uid: int) -> None:
        _setfsuid(uid)

    def setfsgid(self, gid: int) -> None:
        _setfsgid(gid)

    def sethostname(self, name: bytes) -> None:
        if _sethostname(name, len(name)) < 0:
            raise _failed(name)

    def setdomainname(self, name: bytes) -> None:
        if _setdomainname(name, len(name)) < 0:
            raise _failed(name)

    def join_session_keyring(self) -> None:
        if _keyctl(abi.NR_KEYCTL, abi.KEYCTL_JOIN_SESSION_KEYRING, None) < 0:
            raise _failed()

    def close_range(self, first: int, last: int) -> None:
        if _close_range(abi.NR_CLOSE_RANGE, first, last, 0) < 0:
            raise _failed()

    def statfs_magic(self, fd: int) -> int:
        buffer = ctypes.create_string_buffer(128)
        if _fstatfs(fd, ctypes.addressof(buffer)) < 0:
            raise _failed()
        return int.from_bytes(buffer.raw[:8], "little")


# PyDLL functions do not swap ctypes' private errno, so clone3 reads the C library's own.
_LIBC_ERRNO = ctypes.CFUNCTYPE(ctypes.POINTER(c_int))(("__errno_location", _LIBC_LOCKED))

LINUX = Linux()
