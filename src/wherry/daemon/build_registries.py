"""Pull and push as builds ask for them: `build.bases.Puller` and `Pusher` over the service of registries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, TypeVar

from wherry.build.files import Export, Exported
from wherry.build.outputs import Packing, exported, names
from wherry.images.bridge import in_thread
from wherry.images.store import ImageStore
from wherry.images.transfer.documents import Documents, Fetching
from wherry.model.build import BuildRequest, Progress, Transfer
from wherry.model.errors import Invalid, Unavailable
from wherry.model.ids import Digest, Reference
from wherry.model.views import Progress as Line
from wherry.registry.credentials import ANONYMOUS, Credentials, decode_header
from wherry.registry.media import OCI_MANIFEST

T = TypeVar("T")


class Registries(Protocol):
    """What is used of the service of registries."""

    def pull(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Line]: ...
    def push(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Line]: ...
    def push_documents(
        self, reference: Reference, documents: Documents, credentials: Credentials
    ) -> AsyncGenerator[Line]: ...
    async def fetch_documents(
        self, reference: Reference, credentials: Credentials, work: Callable[[Fetching], T]
    ) -> T: ...


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
    ) -> Exported:
        """Push an image of the store; return its manifest there. Raises what a push raises."""
        name = Reference.parse(reference).with_default_tag()
        lines = self._registries.push(name.repository, name.tag, "", credentials_for(name, request))
        told = await _follow(lines, name, report)
        digest = str(told.get("Digest", ""))
        wire = {"mediaType": OCI_MANIFEST, "digest": digest, "size": told.get("Size", 0)}
        return Exported(digest, wire if digest else None)

    async def fetch(
        self, reference: Reference, request: BuildRequest, work: Callable[[Fetching], T]
    ) -> T:
        """Return what `work` makes of what a registry has. Raises NotFound, Unavailable and the like."""
        return await self._registries.fetch_documents(
            reference, credentials_for(reference, request), work
        )

    async def push_documents(
        self,
        reference: Reference,
        documents: Documents,
        request: BuildRequest,
        report: Callable[[Progress], None],
    ) -> None:
        """Push what no image of the store stands for. Raises what a push raises."""
        lines = self._registries.push_documents(
            reference, documents, credentials_for(reference, request)
        )
        await _follow(lines, reference, report)


class PushedOutputs:
    """Satisfies `api.contexts.PushOutput`."""

    def __init__(self, registries: BuildRegistries, store: ImageStore, packing: Packing) -> None:
        self._registries = registries
        self._store = store
        self._packing = packing

    async def push(self, export: Export, report: Callable[[Progress], None]) -> Exported:
        """Push what was built by each of its names; a lone image of the store then has them here too.

        Raises Invalid where it has none, and what a push raises.
        """
        request, images = export.request, export.images
        references = names(request, export.output)
        if not references:
            raise Invalid("tag is needed when pushing to registry", hint="-t NAME, or name=NAME")
        if not _special(export):
            pushed = Exported()
            for reference in references:
                self._store.tag(images[0].image.id, reference)
                pushed = await self._registries.push(str(reference), request, report)
            return pushed
        with self._packing.intakes() as intake:
            bundle = await in_thread(lambda: self._packing.bundle(export, intake))
            documents = Documents(
                bundle.layers,
                [(one.descriptor.digest, one.data) for one in bundle.blobs],
                [(one.descriptor, one.data) for one in bundle.manifests],
            )
            for reference in references:
                await self._registries.push_documents(reference, documents, request, report)
                if len(images) == 1:
                    digest = Digest.parse(bundle.root.digest)
                    self._store.tag(images[0].image.id, replace(reference, tag="", digest=digest))
        return exported(bundle.root)


def _special(export: Export) -> bool:
    """Whether more is to be pushed than the image as the store has it."""
    own = any(
        name.startswith("annotation")
        or name in ("oci-mediatypes", "compression", "compression-level", "force-compression")
        for name, _ in export.output.attributes
    )
    images = export.images
    return (
        len(images) > 1 or bool(images[0].attestations) or bool(export.request.annotations) or own
    )


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
) -> dict[str, str | int]:
    """Report what a pull or push tells; return what it ends with (Tag, Digest, Size), if anything."""
    told: dict[str, str | int] = {}
    async with aclosing(lines) as following:
        async for line in following:
            if line.error:
                raise Unavailable(f"{name.familiar}: {line.error}")
            if line.id and line.total:
                text = f"{name.familiar} {line.id} {line.status}"
                done = line.current >= line.total
                report(Transfer(None, text, line.current, line.total, done))
            told |= dict(line.aux)
    return told
