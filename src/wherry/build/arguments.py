"""Build arguments: predefined ones, the platforms', those of the file's head.

Source: Dockerfile reference, "ARG", "Automatic platform ARGs in the global scope".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wherry.model.images import Platform

PREDEFINED = frozenset(
    name
    for lower in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (lower, lower.upper())
)
"""Known to every RUN without ARG; they enter neither a key nor the history."""


def platform_text(platform: Platform) -> str:
    """Return `linux/arm64` or `linux/arm/v7`."""
    variant = f"/{platform.variant}" if platform.variant else ""
    # v8 is what arm64 is anyway; Docker leaves it out.
    if (platform.architecture, platform.variant) == ("arm64", "v8"):
        variant = ""
    return f"{platform.os}/{platform.architecture}{variant}"


def platform_arguments(build: Platform, target: Platform, stage: str) -> dict[str, str]:
    """Return the arguments that FROM may use as they are and a stage after `ARG NAME`."""
    found: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        variant = "" if platform.architecture == "arm64" else platform.variant
        found[f"{prefix}PLATFORM"] = platform_text(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}OSVERSION"] = ""
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = variant
    found["TARGETSTAGE"] = stage or "default"
    return found


class Arguments:
    """The arguments of one stage, as ARG declares them one after the other."""

    def __init__(self, given: Mapping[str, str], inherited: Mapping[str, str]) -> None:
        """`given` are the request's; `inherited` what the head of the file and the platform say."""
        self._given = given
        self._inherited = inherited
        self.declared: dict[str, str | None] = {}

    def declare(self, name: str, default: str | None) -> str | None:
        """Take note of an ARG; return its value, None where it has none."""
        if name in self._given:
            value: str | None = self._given[name]
        elif default is not None:
            value = default
        else:
            value = self._inherited.get(name)
        self.declared.pop(name, None)
        self.declared[name] = value
        return value

    def values(self) -> dict[str, str]:
        """Return what expands in instructions."""
        return {name: value for name, value in self.declared.items() if value is not None}

    def proxies(self) -> dict[str, str]:
        """Return the predefined ones that were given, in both cases: they go into RUN's environment only."""
        return {
            spelt: value
            for name, value in self._given.items()
            if name in PREDEFINED
            for spelt in (name.upper(), name.lower())
        }


def unused_arguments(given: Iterable[str], declared: Iterable[Iterable[str]]) -> list[str]:
    """Return the names of given arguments that no ARG (its `NAME[=value]` texts) takes, sorted."""
    taken = {text.partition("=")[0] for texts in declared for text in texts}
    quiet = {*PREDEFINED, "SOURCE_DATE_EPOCH"}
    return sorted(
        name
        for name in given
        if name not in taken and name not in quiet and not name.startswith("BUILDKIT_")
    )
