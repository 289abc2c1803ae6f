"""Pull and push as builds ask for them: `build.bases.Puller` and `Pusher` over the service of registries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from wherry.build.outputs import names
from wherry.images.store import ImageStore
from wherry.model.build import BuildRequest, OutputRef, Progress, Transfer
from wherry.model.errors import Invalid, Unavailable
from wherry.model.ids import Reference
from wherry.model.images import Image
from wherry.model.views import Progress as Line
from wherry.registry.credentials import ANONYMOUS, Credentials, decode_header


class Registries(Protocol):
    """What is used of the service of registries."""

    def pull(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Line]: ...
    def push(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Line]: ...


class BuildRegistries:
    """Pulls base images and caches, pushes caches."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def pull(
        self,
        reference: str,
        platform: str,
        request: BuildRequest,
        report: Callable[[Progress], None],
    ) -> None:
        """Bring an image into the store. Raises what a pull raises."""
        name = Reference.parse(reference).with_default_tag()
        tag = str(name.digest) if name.digest else name.tag
        lines = self._registries.pull(
            name.repository, tag, platform, credentials_for(name, request)
        )
        await _follow(lines, name, report)

    async def push(
        self, reference: str, request: BuildRequest, report: Callable[[Progress], None]
    ) -> None:
        """Push an image of the store. Raises what a push raises."""
        name = Reference.parse(reference).with_default_tag()
        lines = self._registries.push(name.repository, name.tag, "", credentials_for(name, request))
        await _follow(lines, name, report)


class PushedOutputs:
    """Satisfies `api.building.PushOutput`."""

    def __init__(self, registries: BuildRegistries, store: ImageStore) -> None:
        self._registries = registries
        self._store = store

    async def push(
        self,
        request: BuildRequest,
        output: OutputRef,
        image: Image,
        report: Callable[[Progress], None],
    ) -> None:
        """Push what was built by each of its names, which it then has here too.

        Raises Invalid where it has none, and what a push raises.
        """
        references = names(request, output)
        if not references:
            raise Invalid("tag is needed when pushing to registry", hint="-t NAME, or name=NAME")
        for reference in references:
            self._store.tag(image.id, reference)
            await self._registries.push(str(reference), request, report)


def credentials_for(name: Reference, request: BuildRequest) -> Credentials:
    """Return what the asker gave for a registry; Docker Hub has two names."""
    hosts = [name.domain]
    if name.domain == "docker.io":
        hosts += ["https://index.docker.io/v1/", "index.docker.io"]
    for host in hosts:
        text = request.registry_auth.get(host)
        if text:
            return decode_header(text)
    return ANONYMOUS


async def _follow(
    lines: AsyncGenerator[Line], name: Reference, report: Callable[[Progress], None]
) -> None:
    async with aclosing(lines) as told:
        async for line in told:
            if line.error:
                raise Unavailable(f"{name.familiar}: {line.error}")
            if line.id and line.total:
                text = f"{name.familiar} {line.id} {line.status}"
                done = line.current >= line.total
                report(Transfer(None, text, line.current, line.total, done))
