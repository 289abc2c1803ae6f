"""Interpreters for the BPF that wherry writes: classic (seccomp) and extended (device rules).

They know only the instructions that the kernel's verifiers accept for those two uses and that
wherry emits, and refuse every other, so that a test fails where the kernel would.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_SOCK_FILTER = struct.Struct("=HBBI")
_BPF_INSN = struct.Struct("=BBhi")
_U32, _U64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


def seccomp_data(arch: int, nr: int, args: tuple[int, ...] = ()) -> bytes:
    """Return struct seccomp_data: nr, arch, instruction pointer, six arguments."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    return struct.pack("=IIQ6Q", nr & _U32, arch, 0, *(a & _U64 for a in padded))


def run_classic(program: bytes, data: bytes) -> tuple[int, int]:
    """Return (what the program returns for `data`, instructions executed)."""
    code = _classic(program)
    a, pc, steps = 0, 0, 0
    while True:
        opcode, jt, jf, k = code[pc]
        pc += 1
        steps += 1
        match opcode:
            case 0x20:
                assert k % 4 == 0 and k + 4 <= len(data), f"load outside seccomp_data: {k}"
                (a,) = struct.unpack_from("=I", data, k)
            case 0x54:
                a &= k
            case 0x05:
                pc += k
            case 0x15:
                pc += jt if a == k else jf
            case 0x25:
                pc += jt if a > k else jf
            case 0x35:
                pc += jt if a >= k else jf
            case 0x06:
                return k, steps
            case _:
                raise AssertionError(f"instruction {opcode:#x} at {pc - 1}")


@lru_cache(maxsize=16)
def _classic(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(_SOCK_FILTER.iter_unpack(program))


def run_device(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Return what a BPF_PROG_TYPE_CGROUP_DEVICE program answers: 1 allows, 0 denies.

    `kind` is BPF_DEVCG_DEV_BLOCK (1) or _CHAR (2), `access` bits of mknod 1, read 2, write 4.
    """
    code = list(_BPF_INSN.iter_unpack(program))
    context = struct.pack("=III", access << 16 | kind, major, minor)
    registers: dict[int, int] = {}
    pc = 0
    while True:
        opcode, regs, offset, imm = code[pc]
        destination, source = regs & 0xF, regs >> 4
        pc += 1
        match opcode:
            case 0x61:
                assert source == 1 and 0 <= offset <= 8, "load outside bpf_cgroup_dev_ctx"
                (registers[destination],) = struct.unpack_from("=I", context, offset)
            case 0xB7:
                registers[destination] = imm & _U64
            case 0xBC:
                registers[destination] = registers[source] & _U32
            case 0x54:
                registers[destination] = registers[destination] & imm & _U32
            case 0x74:
                registers[destination] = (registers[destination] & _U32) >> imm
            case 0x16:
                pc += offset if registers[destination] & _U32 == imm & _U32 else 0
            case 0x56:
                pc += offset if registers[destination] & _U32 != imm & _U32 else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"instruction {opcode:#x} at {pc - 1}")
