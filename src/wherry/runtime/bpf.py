"""Classic BPF: instructions, their bytes, and decision trees over ranges of one number.

Source: linux/bpf_common.h, linux/filter.h (struct sock_filter: u16 code, u8 jt, u8 jf, u32 k).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LD_W_ABS = 0x20  # BPF_LD | BPF_W | BPF_ABS: A = data[k]
ALU_AND_K = 0x54  # A &= k
JMP_JA = 0x05  # pc += k
JMP_JEQ_K = 0x15
JMP_JGT_K = 0x25
JMP_JGE_K = 0x35
RET_K = 0x06

INSTRUCTION_SIZE = 8
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS, linux/bpf_common.h
_MAX_JUMP = 255  # jt and jf are one byte each
_LAYOUT = struct.Struct("=HBBI")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One struct sock_filter; `jt` and `jf` count the instructions to skip."""

    code: int
    k: int
    jt: int = 0
    jf: int = 0


Code = tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """From `start` up to the next range's start, run `body`, which must end in returns."""

    start: int
    body: Code


def encode(code: Iterable[Instruction]) -> bytes:
    """Return `code` as an array of struct sock_filter in this machine's byte order."""
    pack = _LAYOUT.pack
    return b"".join(
        pack(instruction.code, instruction.jt, instruction.jf, instruction.k)
        for instruction in code
    )


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Return ascending `ranges` with neighbours of equal bodies joined."""
    merged: list[Range] = []
    for item in ranges:
        if not merged or merged[-1].body != item.body:
            merged.append(item)
    return merged


def tree(ranges: Sequence[Range]) -> Code:
    """Return a balanced decision tree over A for ascending `ranges`, the first from 0.

    A is left as it was, and only tests and forward jumps are used, so that the kernel's bitmap of
    always-allowed calls (Linux 5.11) can be computed from it.
    """
    if len(ranges) == 1:
        return ranges[0].body
    middle = len(ranges) // 2
    lower, upper = tree(ranges[:middle]), tree(ranges[middle:])
    pivot = ranges[middle].start
    if len(lower) <= _MAX_JUMP:
        return (Instruction(JMP_JGE_K, pivot, jt=len(lower)), *lower, *upper)
    far = Instruction(JMP_JA, len(lower))
    return (Instruction(JMP_JGE_K, pivot, jf=1), far, *lower, *upper)
