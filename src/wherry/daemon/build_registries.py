"""What a build takes from registries and gives to them: base images pulled, what was built pushed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from wherry.build.outputs import names
from wherry.daemon.registries import LateRegistries
from wherry.images.store import ImageStore
from wherry.model.build import BuildRequest, OutputRef, Transfer
from wherry.model.build import Progress as BuildProgress
from wherry.model.errors import Invalid, Unavailable
from wherry.model.ids import Reference
from wherry.model.images import Image
from wherry.model.views import Progress
from wherry.registry.credentials import ANONYMOUS, Credentials, decode_header

Report = Callable[[BuildProgress], None]


class BuildRegistries:
    """Satisfies `build.bases.Puller`; `push` is what `daemon.contexts` pushes with."""

    def __init__(self, registries: LateRegistries, store: ImageStore) -> None:
        self._registries = registries
        self._store = store

    async def pull(
        self, reference: str, platform: str, request: BuildRequest, report: Report
    ) -> None:
        """Bring an image into the store. Raises as `Registries.pull`."""
        wanted = Reference.parse(reference).with_default_tag()
        await _told(
            self._registries.pull(
                wanted.familiar_repository,
                str(wanted.digest or wanted.tag),
                platform,
                _credentials(request, wanted),
            ),
            report,
        )

    async def push(
        self, request: BuildRequest, output: OutputRef, image: Image, report: Report
    ) -> None:
        """Push what was built by each of its names, which it then has here too.

        Raises Invalid where it has none, and as `Registries.push`.
        """
        references = names(request, output)
        if not references:
            raise Invalid("tag is needed when pushing to registry", hint="-t NAME, or name=NAME")
        for reference in references:
            self._store.tag(image.id, reference)
            await _told(
                self._registries.push(
                    reference.familiar_repository,
                    reference.tag,
                    "",
                    _credentials(request, reference),
                ),
                report,
            )


def _credentials(request: BuildRequest, reference: Reference) -> Credentials:
    found = request.registry_auth.get(reference.domain)
    return decode_header(found) if found else ANONYMOUS


async def _told(lines: AsyncGenerator[Progress], report: Report) -> None:
    """Report transfers; raise what a stream ends with."""
    async with aclosing(lines):
        async for line in lines:
            if line.error:
                raise Unavailable(line.error)
            if line.total:
                done = line.current >= line.total
                report(Transfer(None, line.id, line.current, line.total, done))
