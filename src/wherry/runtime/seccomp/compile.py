"""A seccomp filter to classic BPF: one balanced tree of system call numbers per architecture.

    A = arch; for each architecture: A == it? A = nr, tree of number ranges : next; kill
    a range's body is `return`, or the argument tests of its one system call and then `return`

x32 calls come as AUDIT_ARCH_X86_64 with bit 30 of the number set: they are more ranges of the same
tree. Source: seccomp(2), linux/seccomp.h (struct seccomp_data: nr 0, arch 4, args from 16).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wherry.model.errors import Invalid
from wherry.runtime.bpf import (
    ALU_AND_K,
    INSTRUCTION_SIZE,
    JMP_JA,
    JMP_JEQ_K,
    JMP_JGE_K,
    JMP_JGT_K,
    LD_W_ABS,
    MAX_INSTRUCTIONS,
    RET_K,
    Code,
    Instruction,
    Range,
    encode,
    merge,
    tree,
)
from wherry.runtime.seccomp.architectures import ARCHITECTURES, Architecture, native
from wherry.runtime.seccomp.rules import RET_ALLOW, RET_KILL_PROCESS, Argument, Filter, Op, Rule
from wherry.runtime.seccomp.syscalls import X32_BIT, table

_NR, _ARCH, _ARGS = 0, 4, 16
_LOW, _HIGH = (0, 4) if sys.byteorder == "little" else (4, 0)
_U32 = 0xFFFF_FFFF
_SKIPPED = 0xFFFF_FFFF  # nr -1: a tracer told the kernel to skip the call (ptrace(2))
_AUDIT_X86_64 = 0xC000_003E
_ENOSYS = 0x0005_0000 | 38  # SECCOMP_RET_ERRNO

# The kernel reads these arguments as int, whatever the register's upper half holds; compared as 64
# bits, socket(0x1_0000_0028) would pass for another family than AF_VSOCK.
_INT_ARGUMENTS = frozenset({("socket", 0), ("socketpair", 0)})


def compile_filter(filter: Filter, *, arch: str) -> bytes:
    """Return `filter` as an array of struct sock_filter for a machine of `arch`.

    A call of an architecture that is not the native one nor listed kills the process. Where the
    default is not to allow, a call newer than any that the filter names gets ENOSYS rather than the
    default, so that libc falls back to what it used before (runc does the same).

    Raises Unsupported for an unknown `arch`, Invalid when the kernel's limit of 4096 instructions
    is passed.
    """
    native_name, _ = native(arch)
    by_audit: dict[int, list[Architecture]] = {}
    for name in dict.fromkeys((native_name, *filter.architectures)):
        if architecture := ARCHITECTURES[name]:
            by_audit.setdefault(architecture.audit, []).append(architecture)
    code: list[Instruction] = [Instruction(LD_W_ABS, _ARCH)]
    for audit, architectures in by_audit.items():
        body = (Instruction(LD_W_ABS, _NR), *tree(_ranges(filter, architectures)))
        code += (
            Instruction(JMP_JEQ_K, audit, jt=1),
            Instruction(JMP_JA, len(body)),
            *body,
        )
    code.append(_return(RET_KILL_PROCESS))
    if len(code) > MAX_INSTRUCTIONS:
        raise Invalid(
            f"seccomp profile: {len(code)} BPF instructions, the kernel takes {MAX_INSTRUCTIONS}",
            hint="fewer argument conditions",
        )
    program = encode(code)
    assert len(program) == len(code) * INSTRUCTION_SIZE
    return program


def _ranges(filter: Filter, architectures: Sequence[Architecture]) -> list[Range]:
    """The whole number space of one AUDIT_ARCH_ value, which x86_64 and x32 share."""
    beyond = (_return(filter.default_ret if filter.default_ret == RET_ALLOW else _ENOSYS),)
    if architectures[0].audit != _AUDIT_X86_64:
        return merge(_space(filter, architectures[0], 0, beyond))
    by_abi = {architecture.abi: architecture for architecture in architectures}
    ranges: list[Range] = []
    for abi, start in (("x86_64", 0), ("x32", X32_BIT)):
        if abi in by_abi:
            ranges += _space(filter, by_abi[abi], start, beyond)
        else:
            ranges.append(Range(start, (_return(RET_KILL_PROCESS),)))
    ranges.append(Range(_SKIPPED, beyond))
    return merge(ranges)


def _space(filter: Filter, architecture: Architecture, start: int, beyond: Code) -> list[Range]:
    """The numbers of one ABI from `start`: gaps get the default, what follows the last `beyond`."""
    default = (_return(filter.default_ret),)
    ranges: list[Range] = []
    for number, body in sorted(_calls(filter, architecture).items()):
        if number > start:
            ranges.append(Range(start, default))
        ranges.append(Range(number, body))
        start = number + 1
    ranges.append(Range(start, beyond))
    return ranges


def _calls(filter: Filter, architecture: Architecture) -> dict[int, Code]:
    """What to do for each system call number that `filter` names on `architecture`."""
    numbers = table(architecture.abi)
    by_name: dict[str, list[Rule]] = {}
    for rule in filter.rules:
        for name in rule.names:
            if name in numbers:
                by_name.setdefault(name, []).append(rule)
    return {
        numbers[name]: _body(name, rules, filter.default_ret, wide=architecture.wide)
        for name, rules in by_name.items()
    }


def _body(name: str, rules: Sequence[Rule], default: int, *, wide: bool) -> Code:
    for rule in rules:
        if not rule.arguments:
            return (_return(rule.ret),)
    code: list[Instruction] = []
    for rule in rules:
        code += _rule(name, rule, wide=wide)
    return (*code, _return(default))


def _rule(name: str, rule: Rule, *, wide: bool) -> list[Instruction]:
    """The rule's tests and its return; a failing test jumps past them."""
    code = [_return(rule.ret)]
    for argument in reversed(rule.arguments):
        full = wide and (name, argument.index) not in _INT_ARGUMENTS
        code[:0] = (_test_wide if full else _test_narrow)(argument, failed=len(code))
    return code


def _test_narrow(argument: Argument, *, failed: int) -> list[Instruction]:
    """Fall through when `argument` holds for the lower 32 bits, else skip `failed` more."""
    value = argument.value & _U32
    code = [Instruction(LD_W_ABS, _ARGS + 8 * argument.index + _LOW)]
    match argument.op:
        case Op.EQ:
            code.append(Instruction(JMP_JEQ_K, value, jf=failed))
        case Op.NE:
            code.append(Instruction(JMP_JEQ_K, value, jt=failed))
        case Op.GT:
            code.append(Instruction(JMP_JGT_K, value, jf=failed))
        case Op.GE:
            code.append(Instruction(JMP_JGE_K, value, jf=failed))
        case Op.LT:
            code.append(Instruction(JMP_JGE_K, value, jt=failed))
        case Op.LE:
            code.append(Instruction(JMP_JGT_K, value, jt=failed))
        case Op.MASKED_EQ:
            code.append(Instruction(ALU_AND_K, value))
            code.append(Instruction(JMP_JEQ_K, argument.value_two & value, jf=failed))
    return code


def _test_wide(argument: Argument, *, failed: int) -> list[Instruction]:
    """Fall through when `argument` holds for all 64 bits, else skip `failed` more."""
    low, high = argument.value & _U32, argument.value >> 32
    offset = _ARGS + 8 * argument.index
    load_low, load_high = (
        Instruction(LD_W_ABS, offset + _LOW),
        Instruction(LD_W_ABS, offset + _HIGH),
    )
    match argument.op:
        case Op.EQ:
            return [
                load_high,
                Instruction(JMP_JEQ_K, high, jf=failed + 2),
                load_low,
                Instruction(JMP_JEQ_K, low, jf=failed),
            ]
        case Op.NE:
            return [
                load_high,
                Instruction(JMP_JEQ_K, high, jf=2),
                load_low,
                Instruction(JMP_JEQ_K, low, jt=failed),
            ]
        case Op.GT | Op.GE:
            return [
                load_high,
                Instruction(JMP_JGT_K, high, jt=3),
                Instruction(JMP_JEQ_K, high, jf=failed + 2),
                load_low,
                Instruction(JMP_JGT_K if argument.op is Op.GT else JMP_JGE_K, low, jf=failed),
            ]
        case Op.LT | Op.LE:
            return [
                load_high,
                Instruction(JMP_JGT_K, high, jt=failed + 3),
                Instruction(JMP_JEQ_K, high, jf=2),
                load_low,
                Instruction(JMP_JGE_K if argument.op is Op.LT else JMP_JGT_K, low, jt=failed),
            ]
        case Op.MASKED_EQ:
            wanted = argument.value_two & argument.value
            return [
                load_high,
                Instruction(ALU_AND_K, high),
                Instruction(JMP_JEQ_K, wanted >> 32, jf=failed + 3),
                load_low,
                Instruction(ALU_AND_K, low),
                Instruction(JMP_JEQ_K, wanted & _U32, jf=failed),
            ]


def _return(ret: int) -> Instruction:
    return Instruction(RET_K, ret)
