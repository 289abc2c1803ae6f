"""What a seccomp filter is once nothing about it is conditional: actions, comparisons, rules.

Source: the OCI runtime specification's `linux.seccomp`, seccomp(2), linux/seccomp.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from wherry.model.errors import Invalid, Unsupported

EPERM = 1
MAX_ERRNO = 4095  # linux/err.h; the kernel clamps SECCOMP_RET_ERRNO's data to it

_ACTIONS = {
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")

RET_KILL_PROCESS = _ACTIONS["SCMP_ACT_KILL_PROCESS"]
RET_ALLOW = _ACTIONS["SCMP_ACT_ALLOW"]

_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
}
# What runc does where a profile has no `flags`: without it every task under the filter pays for
# Speculative Store Bypass mitigation on kernels before 5.16.
DEFAULT_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)


class Op(Enum):
    """How an argument is compared, all as unsigned numbers."""

    NE = "SCMP_CMP_NE"
    LT = "SCMP_CMP_LT"
    LE = "SCMP_CMP_LE"
    EQ = "SCMP_CMP_EQ"
    GE = "SCMP_CMP_GE"
    GT = "SCMP_CMP_GT"
    MASKED_EQ = "SCMP_CMP_MASKED_EQ"


@dataclass(frozen=True, slots=True)
class Argument:
    """One comparison: argument `index` (0 to 5) against `value`.

    For MASKED_EQ `value` is the mask and `value_two` what the masked argument must be.
    """

    index: int
    op: Op
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """`ret` (a SECCOMP_RET_ value with its data) for `names` when all of `arguments` hold."""

    names: tuple[str, ...]
    ret: int
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter without conditions on the machine; what `compile_filter` turns into BPF.

    For one system call, the first rule without arguments decides if there is one; otherwise the
    first rule whose arguments hold; otherwise `default_ret`. Names unknown to an architecture do
    not count there. `architectures` are OCI names beside the native one, which is always in.
    """

    default_ret: int
    rules: tuple[Rule, ...] = ()
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = DEFAULT_FLAGS

    @property
    def flag_bits(self) -> int:
        """SECCOMP_FILTER_FLAG_ bits for seccomp(2)."""
        bits = 0
        for flag in self.flags:
            bits |= _FLAGS[flag]
        return bits


def ret_of(action: str, errno: int | None, where: str) -> int:
    """Return the SECCOMP_RET_ value of `action`; `errno` is its data, EPERM where None.

    Raises Invalid (unknown action, errno out of range) or Unsupported (SCMP_ACT_NOTIFY).
    """
    if action == "SCMP_ACT_NOTIFY":
        raise Unsupported(
            f"seccomp profile: {where}: SCMP_ACT_NOTIFY is not in this version",
            hint="there is no listener to hand the notifications to",
        )
    if action not in _ACTIONS:
        raise Invalid(
            f"seccomp profile: {where}: string {action} is not a valid action for seccomp",
            hint="one of " + ", ".join(_ACTIONS),
        )
    data = EPERM if errno is None else errno
    if not 0 <= data <= MAX_ERRNO:
        raise Invalid(f"seccomp profile: {where}: errno {data} is not within 0..{MAX_ERRNO}")
    return _ACTIONS[action] | (data if action in _WITH_DATA else 0)


def check_flag(flag: str) -> str:
    """Return `flag` if seccomp(2) has it and it makes sense for a container, or raise Invalid."""
    if flag not in _FLAGS:
        raise Invalid(
            f"seccomp profile: flags: seccomp flag {flag} is not known",
            hint="one of " + ", ".join(_FLAGS),
        )
    return flag
