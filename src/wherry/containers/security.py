"""`--security-opt`, `--cap-add`, `--cap-drop` and `--privileged` resolved. Pure, apart from a cache.

Source: docker-run(1), Security configuration; messages are those of Docker Engine 28.5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from wherry.model.containers import Security
from wherry.model.errors import Invalid, Unsupported
from wherry.model.literals import parse_bool
from wherry.model.oci import DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS
from wherry.runtime import capabilities, seccomp

_PROGRAMS = 64


@dataclass(frozen=True, slots=True)
class SecurityPlan:
    """What of `Security` reaches the process. `seccomp` is `default`, `unconfined` or a profile's JSON."""

    capabilities: int
    seccomp: str
    no_new_privileges: bool
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]


def plan_security(security: Security, *, available: int = capabilities.ALL) -> SecurityPlan:
    """Return what `security` comes to; `available` bounds the capabilities.

    Raises Invalid for what is malformed, Unsupported for what cannot be honoured here.
    """
    privileged = security.privileged
    profile = "unconfined" if privileged else "default"
    no_new_privileges = unconfined_paths = False
    for option in security.options:
        name, value = _split(option)
        match name:
            case "no-new-privileges":
                no_new_privileges = _flag(option, value)
            case "seccomp":
                profile = _profile_name(value)
            case "systempaths" if value == "unconfined":
                unconfined_paths = True
            case "apparmor" | "label":
                _check_absent(name, value)
            case "writable-cgroups":
                if _flag(option, value):
                    raise Unsupported("--security-opt writable-cgroups is not in this version")
            case _:
                raise Invalid(f'invalid --security-opt 2: "{option}"')
    if profile not in ("default", "unconfined"):
        parsed_profile(profile)
    open_paths = privileged or unconfined_paths
    masked, readonly = security.masked_paths, security.readonly_paths
    return SecurityPlan(
        capabilities=capabilities.resolve(
            security.cap_add, security.cap_drop, privileged=privileged, available=available
        ),
        seccomp=profile,
        no_new_privileges=no_new_privileges,
        masked_paths=() if open_paths else DEFAULT_MASKED_PATHS if masked is None else masked,
        readonly_paths=()
        if open_paths
        else DEFAULT_READONLY_PATHS
        if readonly is None
        else readonly,
    )


def _split(option: str) -> tuple[str, str]:
    if option == "no-new-privileges":
        return option, ""
    # The colon is the older separator; a seccomp profile may hold both characters.
    for separator in "=:":
        name, found, value = option.partition(separator)
        if found and name.replace("-", "").isalpha():
            return name, value
    raise Invalid(f'invalid --security-opt 1: "{option}"')


def _flag(option: str, value: str) -> bool:
    try:
        return parse_bool(value) if value else True
    except Invalid:
        raise Invalid(f'invalid --security-opt 2: "{option}"') from None


def _profile_name(value: str) -> str:
    match value:
        case "unconfined":
            return value
        case "builtin" | "default" | "":
            return "default"
        case _:
            return value


def _check_absent(name: str, value: str) -> None:
    # There is no AppArmor or SELinux support: asking for less confinement is met, for more is not.
    if value not in ("unconfined", "disable", ""):
        raise Unsupported(
            f"--security-opt {name}={value} is not in this version",
            hint=f"{name} profiles are not applied; user namespaces confine instead",
        )


_profiles: dict[str, seccomp.Profile] = {}
_programs: dict[tuple[str, int, str, tuple[int, int]], SeccompProgram] = {}


def parsed_profile(text: str) -> seccomp.Profile:
    """Return the profile that the JSON `text` writes, parsed once. Raises Invalid."""
    key = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    if key not in _profiles:
        try:
            profile = seccomp.parse_profile(text)
        except Invalid as error:
            raise Invalid(
                f"decoding seccomp profile failed: {error.message}", hint=error.hint
            ) from error
        if len(_profiles) >= _PROGRAMS:
            _profiles.clear()
        _profiles[key] = profile
    return _profiles[key]


@dataclass(frozen=True, slots=True)
class SeccompProgram:
    """A compiled filter (struct sock_filter[], empty for none) and its SECCOMP_FILTER_FLAG_* bits."""

    code: bytes = b""
    flags: int = 0


def seccomp_program(plan: SecurityPlan, *, arch: str, kernel: tuple[int, int]) -> SeccompProgram:
    """Return the filter that `plan` asks for; compiled once for each profile."""
    if plan.seccomp == "unconfined":
        return SeccompProgram()
    if plan.seccomp == "default":
        return SeccompProgram(seccomp.default_program(plan.capabilities, arch=arch, kernel=kernel))
    key = (plan.seccomp, plan.capabilities, arch, kernel)
    if key not in _programs:
        if len(_programs) >= _PROGRAMS:
            _programs.clear()
        resolved = seccomp.resolve(
            parsed_profile(plan.seccomp), arch=arch, capabilities=plan.capabilities, kernel=kernel
        )
        code = seccomp.compile_filter(resolved, arch=arch)
        _programs[key] = SeccompProgram(code, resolved.flag_bits)
    return _programs[key]
