"""eBPF programs of one kind: what a cgroup v2 allows to be opened (BPF_PROG_TYPE_CGROUP_DEVICE).

Source: bpf(2), linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from wherry.kernel import abi

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_QUERY = 16
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)
_bpf: Any = ctypes.CFUNCTYPE(
    ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, use_errno=True
)(("syscall", _libc))


class _Load(ctypes.Structure):
    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
    )


class _Attach(ctypes.Structure):
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    )


class _Query(ctypes.Structure):
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("prog_cnt", ctypes.c_uint32),
    )


def _call(command: int, arguments: ctypes.Structure) -> int:
    size = ctypes.sizeof(arguments)
    result: int = _bpf(abi.NR_BPF, command, ctypes.addressof(arguments), size)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def load_device_program(program: bytes, cgroup: int) -> None:
    """Attach `program` (struct bpf_insn[]) to the cgroup that the descriptor holds, in place of older ones.

    Raises OSError: EPERM without CAP_BPF and CAP_SYS_ADMIN, EINVAL for a program that does not verify.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(b"Apache-2.0")
    loaded = _call(
        _PROG_LOAD,
        _Load(
            prog_type=_TYPE_CGROUP_DEVICE,
            insn_cnt=len(program) // 8,
            insns=ctypes.addressof(instructions),
            license=ctypes.addressof(license_text),
        ),
    )
    try:
        older = _attached(cgroup)
        _call(_PROG_ATTACH, _Attach(cgroup, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        # Every attached program must allow an access, so the new one is there before the old ones go.
        for fd in older:
            _call(_PROG_DETACH, _Attach(cgroup, fd, _ATTACH_CGROUP_DEVICE, 0))
            os.close(fd)
    finally:
        os.close(loaded)


def _attached(cgroup: int) -> list[int]:
    identifiers = (ctypes.c_uint32 * _MOST)()
    query = _Query(
        target_fd=cgroup,
        attach_type=_ATTACH_CGROUP_DEVICE,
        prog_ids=ctypes.addressof(identifiers),
        prog_cnt=_MOST,
    )
    _call(_PROG_QUERY, query)
    return [
        _call(_PROG_GET_FD_BY_ID, _Attach(target_fd=identifiers[index]))
        for index in range(query.prog_cnt)
    ]
