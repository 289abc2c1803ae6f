"""Device rules: what the list means, and the program that enforces it on cgroup v2.

A list boils down to a default and exceptions to it, as the v1 controller keeps it; both versions are
given that, so that they cannot disagree. Source: the kernel's admin-guide/cgroup-v1/devices,
linux/bpf.h (struct bpf_insn, struct bpf_cgroup_dev_ctx), bpf(2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.model.errors import Unsupported
from wherry.model.resources import DeviceRule

Key = tuple[str, int | None, int | None]
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE
_KIND = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, _CHAR
_FULL = 7

_LDX_W, _EXIT, _MOV64_K = 0x61, 0x95, 0xB7
_MOV32, _AND32, _RSH32 = 0xBC, 0x54, 0x74
_JEQ32, _JNE32 = 0x16, 0x56  # BPF_JMP32: Linux 5.1


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """`allow` is what happens to a device that none of `exceptions` (kind, numbers, access) names."""

    allow: bool
    exceptions: tuple[DeviceRule, ...]


def reduce(rules: Iterable[DeviceRule]) -> DeviceTable:
    """Return what `rules`, later ones over earlier ones, boil down to; without any, deny all.

    Raises Unsupported for a rule that takes away a part of a wider one: neither version's table of
    exceptions can say it.
    """
    allow = False
    exceptions: dict[Key, int] = {}
    for rule in rules:
        bits = _bits(rule.access)
        if rule.kind == "a" and rule.major is None and rule.minor is None and bits == _FULL:
            allow, exceptions = rule.allow, {}
            continue
        for kind in ("b", "c") if rule.kind == "a" else (rule.kind,):
            key = (kind, rule.major, rule.minor)
            if rule.allow != allow:
                exceptions[key] = exceptions.get(key, 0) | bits
                continue
            for other, held in list(exceptions.items()):
                if other == key:
                    exceptions[key] = held & ~bits
                elif held & bits and _overlap(other, key):
                    raise Unsupported(
                        f"device rule '{rule.render()}' takes away a part of "
                        f"'{_render(other, held)}'",
                        hint="device cgroups keep exceptions to one default; name the same devices",
                    )
    return DeviceTable(
        allow,
        tuple(
            DeviceRule(not allow, kind, major, minor, _access(bits))
            for (kind, major, minor), bits in exceptions.items()
            if bits
        ),
    )


def device_program(rules: Iterable[DeviceRule]) -> bytes:
    """Return `rules` as an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE: it answers 1 to allow.

    Pure; loading it and attaching it to a cgroup is the caller's. Raises Unsupported as `reduce`.
    """
    table = reduce(rules)
    # r2 = access, r3 = kind (both halves of the context's first word), r4 = major, r5 = minor
    code = [
        _instruction(_LDX_W, 2, 1, 0),
        _instruction(_MOV32, 3, 2),
        _instruction(_AND32, 3, imm=0xFFFF),
        _instruction(_RSH32, 2, imm=16),
        _instruction(_LDX_W, 4, 1, 4),
        _instruction(_LDX_W, 5, 1, 8),
    ]
    for exception in table.exceptions:
        code += _exception(exception)
    code += _answer(table.allow)
    return b"".join(code)


def _exception(rule: DeviceRule) -> list[bytes]:
    """Answer if `rule` fits; each test that fails jumps behind the answer.

    An allowing exception has to hold all of the access that is asked for, a denying one any of it.
    """
    bits = _bits(rule.access)
    tests: list[tuple[int, int, int]] = [(_JNE32, 3, _KIND[rule.kind])]
    if rule.major is not None:
        tests.append((_JNE32, 4, rule.major))
    if rule.minor is not None:
        tests.append((_JNE32, 5, rule.minor))
    code = _answer(rule.allow)
    if bits != _FULL:
        jump, mask = (_JNE32, _FULL & ~bits) if rule.allow else (_JEQ32, bits)
        code[:0] = [
            _instruction(_MOV32, 1, 2),
            _instruction(_AND32, 1, imm=mask),
            _instruction(jump, 1, offset=len(code), imm=0),
        ]
    for jump, register, value in reversed(tests):
        code.insert(0, _instruction(jump, register, offset=len(code), imm=value))
    return code


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(_MOV64_K, 0, imm=int(allow)), _instruction(_EXIT)]


def _instruction(
    opcode: int, destination: int = 0, source: int = 0, offset: int = 0, *, imm: int = 0
) -> bytes:
    return struct.pack("=BBhI", opcode, destination | source << 4, offset, imm)


def _bits(access: str) -> int:
    return sum(_ACCESS[letter] for letter in set(access))


def _access(bits: int) -> str:
    return "".join(letter for letter in "rwm" if bits & _ACCESS[letter])


def _overlap(one: Key, other: Key) -> bool:
    return one[0] == other[0] and all(
        a is None or b is None or a == b for a, b in zip(one[1:], other[1:], strict=True)
    )


def _render(key: Key, bits: int) -> str:
    return DeviceRule(True, *key, _access(bits)).render()
