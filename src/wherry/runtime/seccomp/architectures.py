"""Architectures by their three names: OCI's, the kernel's (uname) and Go's (in Docker profiles)."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.model.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Architecture:
    """One system call ABI: its table in `syscalls`, its AUDIT_ARCH_ value, its argument width."""

    abi: str
    audit: int
    wide: bool


# linux/audit.h: the ELF machine, __AUDIT_ARCH_64BIT (0x8000_0000), __AUDIT_ARCH_LE (0x4000_0000).
# x32 shares AUDIT_ARCH_X86_64 and is told apart by the number's x32 bit.
_OURS = {
    "SCMP_ARCH_X86_64": Architecture("x86_64", 0xC000_003E, wide=True),
    "SCMP_ARCH_X32": Architecture("x32", 0xC000_003E, wide=True),
    "SCMP_ARCH_X86": Architecture("i386", 0x4000_0003, wide=False),
    "SCMP_ARCH_AARCH64": Architecture("aarch64", 0xC000_00B7, wide=True),
    "SCMP_ARCH_ARM": Architecture("arm", 0x4000_0028, wide=False),
}
# The rest of the specification's list: accepted in a profile, and of no effect on the kernels that
# wherry runs on, which never report them.
_FOREIGN = (
    "SCMP_ARCH_NATIVE SCMP_ARCH_MIPS SCMP_ARCH_MIPS64 SCMP_ARCH_MIPS64N32 SCMP_ARCH_MIPSEL "
    "SCMP_ARCH_MIPSEL64 SCMP_ARCH_MIPSEL64N32 SCMP_ARCH_PPC SCMP_ARCH_PPC64 SCMP_ARCH_PPC64LE "
    "SCMP_ARCH_S390 SCMP_ARCH_S390X SCMP_ARCH_PARISC SCMP_ARCH_PARISC64 SCMP_ARCH_RISCV64 "
    "SCMP_ARCH_LOONGARCH64 SCMP_ARCH_M68K SCMP_ARCH_SH SCMP_ARCH_SHEB"
).split()
ARCHITECTURES: dict[str, Architecture | None] = {**_OURS, **dict.fromkeys(_FOREIGN)}

_NATIVE = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64"),
    "amd64": ("SCMP_ARCH_X86_64", "amd64"),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64"),
    "arm64": ("SCMP_ARCH_AARCH64", "arm64"),
}


def native(arch: str) -> tuple[str, str]:
    """Return the OCI and Go names of `arch` (os.uname().machine, or Go's). Raises Unsupported."""
    if arch not in _NATIVE:
        raise Unsupported(
            f"seccomp on {arch} is not in this version", hint="x86_64 and aarch64 are"
        )
    return _NATIVE[arch]
