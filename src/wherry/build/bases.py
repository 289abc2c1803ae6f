"""Base images: from the store, or pulled where they are missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Protocol

from wherry.build.arguments import platform_text
from wherry.images.config import host_platform, parse_platform
from wherry.model.build import BuildRequest, Progress
from wherry.model.errors import Invalid, NotFound, Unsupported
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Platform

_BINFMT = "/proc/sys/fs/binfmt_misc"
_ELF_MACHINES = {
    "386": 3,
    "amd64": 62,
    "arm": 40,
    "arm64": 183,
    "loong64": 258,
    "mips64": 8,
    "mips64le": 8,
    "ppc64le": 21,
    "riscv64": 243,
    "s390x": 22,
}
"""e_machine (elf.h)."""
_QEMU = {"amd64": "x86_64", "arm64": "aarch64", "386": "i386", "loong64": "loongarch64"}


class Images(Protocol):
    """What is used of the image store."""

    def resolve(self, ref: str) -> Image: ...
    def tag(self, identifier: Digest, reference: Reference) -> Digest | None: ...


class Puller(Protocol):
    """What fetches images."""

    async def pull(
        self,
        reference: str,
        platform: str,
        request: BuildRequest,
        report: Callable[[Progress], None],
    ) -> None:
        """Bring an image into the store. Raises NotFound, Unavailable and the like."""
        ...


class Bases:
    """Finds images by the references that FROM and --from write."""

    def __init__(self, images: Images, puller: Puller | None) -> None:
        self._images = images
        self._puller = puller

    async def find(
        self,
        reference: str,
        platform: str,
        request: BuildRequest,
        report: Callable[[Progress], None],
    ) -> Image:
        """Return the image, pulled where it is not here, is for another platform, or `pull` asks for it.

        Raises NotFound, and what a pull raises.
        """
        wanted = parse_platform(platform)
        found: Image | None = None
        try:
            found = self._images.resolve(reference)
        except NotFound:
            found = None
        except Invalid as error:
            raise Invalid(f"failed to parse stage name {reference!r}: {error.message}") from error
        if found is not None and not request.pull and fits(found.platform, wanted):
            return found
        if found is not None and str(found.id) == reference and not fits(found.platform, wanted):
            raise NotFound(
                "image for this platform",
                reference,
                hint=f"it is one for {platform_text(found.platform)}, not for {platform}",
            )
        if self._puller is None:
            if found is not None and fits(found.platform, wanted):
                return found
            raise NotFound(
                "image",
                reference,
                hint=f"it is not here for {platform}, and this engine cannot pull yet: load or import it",
            )
        try:
            await self._puller.pull(reference, platform, request, report)
        except NotFound:
            # An image that was made here is in no registry.
            if found is None or not fits(found.platform, wanted):
                raise
            return found
        pulled = self._images.resolve(reference)
        name = Reference.parse(reference).with_default_tag()
        if found is not None and found.platform != pulled.platform and name.tag:
            # The name stays what it was: a build for another platform is no `pull`.
            with suppress(NotFound):
                self._images.tag(found.id, name)
        return pulled


def fits(platform: Platform, wanted: Platform) -> bool:
    """Whether an image for `platform` is one for `wanted`; one that says nothing is."""
    if not platform.architecture:
        return True
    return (platform.os or "linux", platform.architecture) == (wanted.os, wanted.architecture)


def check_runnable(platform: Platform) -> None:
    """Raise Unsupported unless programs of `platform` can be executed here."""
    host = host_platform()
    if fits(platform, host) or (host.architecture, platform.architecture) == ("amd64", "386"):
        return
    if emulated(platform.architecture):
        return
    name = _QEMU.get(platform.architecture, platform.architecture)
    raise Unsupported(
        f"this machine runs {platform_text(host)} and cannot execute RUN for {platform_text(platform)}",
        hint=f"register an emulator with binfmt_misc, with its flag F (qemu-{name}, of qemu-user-static)",
    )


def emulated(architecture: str, folder: str = _BINFMT) -> bool:
    """Whether binfmt_misc hands ELF programs of `architecture` to an emulator that containers reach.

    An entry is known by what it matches, not by its name; without the flag F its interpreter would have to be
    in the image (Documentation/admin-guide/binfmt-misc.rst).
    """
    machine = _ELF_MACHINES.get(architecture)
    if machine is None:
        return False
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        if name in ("register", "status"):
            continue
        try:
            with open(f"{folder}/{name}", encoding="ascii") as file:
                lines = [line.strip().partition(" ") for line in file]
            facts = {word: rest for word, _, rest in lines}
            magic = bytes.fromhex(facts.get("magic", ""))
        except (OSError, ValueError):
            continue
        order: Literal["little", "big"] = "big" if magic[5:6] == b"\x02" else "little"
        fixed = "enabled" in facts and "F" in facts.get("flags:", "") and facts.get("offset") == "0"
        if fixed and magic[:4] == b"\x7fELF" and int.from_bytes(magic[18:20], order) == machine:
            return True
    return False
