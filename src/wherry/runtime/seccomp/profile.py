"""Docker's profile files: rules that hang on capabilities, architecture and kernel version.

Source: Docker's documentation of `--security-opt seccomp=FILE`; which combinations are refused was
observed on Docker Engine 28.5.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from wherry.model.errors import Invalid
from wherry.runtime.capabilities import mask_of
from wherry.runtime.seccomp.architectures import native
from wherry.runtime.seccomp.oci import (
    read_architectures,
    read_default_action,
    read_flags,
    read_rules,
)
from wherry.runtime.seccomp.rules import DEFAULT_FLAGS, Filter, Rule, ret_of
from wherry.runtime.seccomp.shapes import as_list, as_number, as_object, as_text, as_texts

_KERNEL = re.compile(r"([0-9]+)\.([0-9]+)")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What `includes` or `excludes` say: a capability mask, Go's architecture names, a version."""

    capabilities: int = 0
    arches: tuple[str, ...] = ()
    min_kernel: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Rules that count where all of `includes` holds and nothing of `excludes` does."""

    rules: tuple[Rule, ...]
    includes: Conditions = field(default_factory=Conditions)
    excludes: Conditions = field(default_factory=Conditions)

    def applies(self, arch: str, capabilities: int, kernel: tuple[int, int]) -> bool:
        """Whether the rules count on `arch` (Go's name) for a container with `capabilities`."""
        includes, excludes = self.includes, self.excludes
        return not (
            arch in excludes.arches
            or excludes.capabilities & capabilities
            or (excludes.min_kernel is not None and kernel >= excludes.min_kernel)
            or (includes.arches and arch not in includes.arches)
            or includes.capabilities & ~capabilities
            or (includes.min_kernel is not None and kernel < includes.min_kernel)
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as its file has it. `arch_map` pairs an OCI architecture with its siblings."""

    default_ret: int
    entries: tuple[Entry, ...]
    architectures: tuple[str, ...] = ()
    arch_map: tuple[tuple[str, tuple[str, ...]], ...] = ()
    flags: tuple[str, ...] = DEFAULT_FLAGS


def parse_profile(text: str | bytes) -> Profile:
    """Return the profile that a Docker JSON file holds.

    Raises Invalid, naming the place, and Unsupported for SCMP_ACT_NOTIFY.
    """
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"Decoding seccomp profile failed: {error}") from None
    top = as_object(document, "the document")
    architectures = read_architectures(top.get("architectures"), "architectures")
    arch_map = tuple(
        _read_arch_map(item, f"archMap[{i}]")
        for i, item in enumerate(as_list(top.get("archMap"), "archMap"))
    )
    if architectures and arch_map:
        raise Invalid(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    errno = as_number(top.get("defaultErrnoRet"), "defaultErrnoRet")
    return Profile(
        default_ret=ret_of(read_default_action(top), errno, "defaultAction"),
        entries=tuple(
            _read_entry(item, f"syscalls[{i}]")
            for i, item in enumerate(as_list(top.get("syscalls"), "syscalls"))
        ),
        architectures=architectures,
        arch_map=arch_map,
        flags=read_flags(top),
    )


def resolve(profile: Profile, *, arch: str, capabilities: int, kernel: tuple[int, int]) -> Filter:
    """Return what `profile` means on one machine for a container with a mask of `capabilities`.

    `arch` is os.uname().machine or Go's name; `kernel` as `kernel_version` returns it. Raises
    Unsupported for an architecture without a table.
    """
    oci_name, go_name = native(arch)
    architectures = profile.architectures
    for name, siblings in profile.arch_map:
        if name == oci_name:
            architectures = (name, *siblings)
    return Filter(
        default_ret=profile.default_ret,
        rules=tuple(
            rule
            for entry in profile.entries
            if entry.applies(go_name, capabilities, kernel)
            for rule in entry.rules
        ),
        architectures=architectures,
        flags=profile.flags,
    )


def kernel_version(release: str) -> tuple[int, int]:
    """Return (6, 18) for `6.18.44-amd64`, as os.uname().release writes it. Raises Invalid."""
    found = _KERNEL.match(release)
    if found is None:
        raise Invalid(f"invalid kernel release: {release!r}")
    return int(found[1]), int(found[2])


def _read_arch_map(item: object, where: str) -> tuple[str, tuple[str, ...]]:
    entry = as_object(item, where)
    name = as_text(entry.get("architecture"), f"{where}.architecture")
    read_architectures([name], f"{where}.architecture")
    return name, read_architectures(entry.get("subArchitectures"), f"{where}.subArchitectures")


def _read_entry(item: object, where: str) -> Entry:
    entry = as_object(item, where)
    names = as_texts(entry.get("names"), f"{where}.names")
    if name := as_text(entry.get("name"), f"{where}.name"):
        if names:
            raise Invalid(
                "both 'name' and 'names' are specified in the seccomp profile, "
                "use either 'name' or 'names'",
                hint=where,
            )
        names = (name,)
    return Entry(
        rules=tuple(read_rules(entry, names, where)),
        includes=_read_conditions(entry.get("includes"), f"{where}.includes"),
        excludes=_read_conditions(entry.get("excludes"), f"{where}.excludes"),
    )


def _read_conditions(item: object, where: str) -> Conditions:
    entry = as_object(item, where)
    try:
        capabilities = mask_of(as_texts(entry.get("caps"), f"{where}.caps"))
    except Invalid as error:
        raise Invalid(f"seccomp profile: {where}.caps: {error.message}") from None
    version = as_text(entry.get("minKernel"), f"{where}.minKernel")
    kernel = _KERNEL.fullmatch(version)
    if version and kernel is None:
        raise Invalid(
            f'seccomp profile: {where}.minKernel: invalid kernel version: "{version}", '
            'expected "<kernel>.<major>"'
        )
    return Conditions(
        capabilities=capabilities,
        arches=as_texts(entry.get("arches"), f"{where}.arches"),
        min_kernel=(int(kernel[1]), int(kernel[2])) if kernel else None,
    )
