"""Base images: from the store, or pulled where they are missing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from wherry.build.arguments import platform_text
from wherry.images.config import parse_platform
from wherry.model.build import BuildRequest, Progress
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Platform


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
