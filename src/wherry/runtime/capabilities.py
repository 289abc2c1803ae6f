"""Capabilities: names, numbers, masks, and Docker's `--cap-add` and `--cap-drop`.

A set of capabilities is an int bitmask everywhere inside; names appear at the edges only.
Source: capabilities(7), linux/capability.h (Linux 6.18: 0 to 40).
"""

from __future__ import annotations

from collections.abc import Iterable

from wherry.model.errors import Internal, Invalid, Unsupported

NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
ALL: int = (1 << len(NAMES)) - 1
_NUMBERS = {name: number for number, name in enumerate(NAMES)}
_EVERYTHING = "ALL"


def normalize(name: str) -> str:
    """Return `name` as `CAP_…`, or `ALL`; case and the prefix do not matter.

    Raises Invalid, in Docker's words.
    """
    upper = name.upper()
    if upper == _EVERYTHING:
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in _NUMBERS:
        raise Invalid(f'unknown capability: "{full}"')
    return full


def mask_of(names: Iterable[str]) -> int:
    """Return the bitmask of `names`, with or without the prefix; `ALL` is every one. Raises Invalid."""
    mask = 0
    for name in names:
        full = normalize(name)
        mask |= ALL if full == _EVERYTHING else 1 << _NUMBERS[full]
    return mask


def names_of(mask: int) -> tuple[str, ...]:
    """Return the names in `mask`, ascending by number; bits without a name are left out."""
    return tuple(name for number, name in enumerate(NAMES) if mask >> number & 1)


# What Docker Engine 28.5 gives a container when nothing is said (`process.capabilities` of its OCI spec).
DEFAULT: int = mask_of(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
    "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split()
)


def bounding(status: str) -> int:
    """Return the bounding set's mask out of the text of /proc/PID/status. Raises Internal."""
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    raise Internal("no CapBnd line in /proc/PID/status")


def resolve(
    add: Iterable[str], drop: Iterable[str], *, privileged: bool = False, available: int = ALL
) -> int:
    """Return the mask that a container gets, after Docker's rules for `add` and `drop`.

    `add` ALL is everything but what is dropped by name; otherwise `drop` ALL leaves what is added; a
    name in both lists is added. `privileged` is everything, whatever the lists say (but they are
    still checked). `available` bounds the answer: the engine's own bounding set, or ALL for a container
    with a user namespace of its own (user_namespaces(7): its first process has a full set).

    Raises Invalid for an unknown name, Unsupported for one asked for by name that is not available.
    """
    added = _normalized(add, "CapAdd")
    dropped = _normalized(drop, "CapDrop")
    asked = mask_of(name for name in added if name != _EVERYTHING)
    if missing := names_of(asked & ~available):
        raise Unsupported(
            "invalid CapAdd: capability not supported by your kernel or not available in the "
            f'current environment: "{missing[0]}"',
            hint="the engine itself runs without it",
        )
    unwanted = mask_of(name for name in dropped if name != _EVERYTHING)
    if privileged:
        wanted = ALL
    elif _EVERYTHING in added:
        wanted = ALL & ~unwanted
    elif _EVERYTHING in dropped:
        wanted = asked
    else:
        wanted = DEFAULT & ~unwanted | asked
    return wanted & available


def _normalized(names: Iterable[str], option: str) -> tuple[str, ...]:
    try:
        return tuple(normalize(name) for name in names)
    except Invalid as error:
        raise Invalid(f"invalid {option}: {error.message}") from None
