"""The asynchronous front of pull, push and what else is asked of registries: `api.services.Registries`.

What blocks runs in threads; nothing outlives the call that started it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from wherry import __version__
from wherry.images.bridge import Flow, Report, in_thread, report_from
from wherry.images.transfer.documents import Documents, Fetching
from wherry.images.transfer.fetch_documents import FetchedDocuments
from wherry.images.transfer.lists import check_list, push_list, read_config
from wherry.images.transfer.looking import read_distribution, search_in
from wherry.images.transfer.pull import Pulled, Puller
from wherry.images.transfer.push import Pusher
from wherry.images.transfer.push_documents import DocumentPusher
from wherry.images.transfer.resolve import parse_platform
from wherry.images.transfer.words import said
from wherry.kernel.memory import release_free_memory
from wherry.model.errors import Invalid, Unauthorized
from wherry.model.events import Event
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Platform
from wherry.model.manifest_lists import ManifestList
from wherry.model.views import DistributionView, Filters, Progress, SearchResult
from wherry.registry.client import Repository
from wherry.registry.credentials import Credentials
from wherry.registry.endpoints import RegistrySettings
from wherry.registry.faults import Missing, Refused
from wherry.registry.hosts import find_endpoints
from wherry.registry.session import Session
from wherry.registry.stopping import Stop

T = TypeVar("T")
_SETTLED_SECONDS = 1.0
_AGENT = f"wherry/{__version__}"


class TransferService:
    """All that is asked of registries. `emit` is called on the event loop's thread."""

    def __init__(
        self,
        settings: RegistrySettings,
        puller: Puller,
        pusher: Pusher,
        documents: DocumentPusher,
        emit: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._puller = puller
        self._pusher = pusher
        self._documents = documents
        self._emit = emit

    def use(self, settings: RegistrySettings) -> None:
        """Ask registries by `settings` from the next request on."""
        self._settings = settings

    async def pull(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Progress]:
        """Pull `name:tag` (a tag or a digest; empty: all tags); yield Docker's lines.

        Raises NotFound, Unauthorized, Forbidden, Invalid, Unavailable, Full.
        """
        reference = _reference(name, tag)
        wanted = parse_platform(platform) if platform else None
        emit = self._from_thread()

        def work(flow: Flow, report: Report) -> None:
            stop = Stop()
            flow.on_end(stop.set)
            session = self._session(credentials, stop)
            try:
                repository = self._repository(session, reference)
                with said(reference, anonymous=not credentials.given):
                    for line in self._pull_all(repository, reference, wanted, report, flow, emit):
                        report(line)
                    _report_warnings(session, report)
            finally:
                session.close()

        async with aclosing(report_from(work)) as lines:
            async for line in lines:
                yield line
        asyncio.get_running_loop().call_later(_SETTLED_SECONDS, release_free_memory)

    def _pull_all(
        self,
        repository: Repository,
        reference: Reference,
        wanted: Platform | None,
        report: Report,
        flow: Flow,
        emit: Callable[[str, Image, str], None],
    ) -> list[Progress]:
        if reference.tag or reference.digest:
            pulled = self._puller.pull(repository, reference, wanted, report, flow.check)
            emit("pull", pulled.image, reference.familiar)
            return _ending(reference.familiar, [pulled])
        tags = repository.tags()
        if not tags:
            raise Missing(f"repository {reference.familiar} has no tags")
        all_pulled: list[Pulled] = []
        for tag in tags:
            tagged = Reference(reference.domain, reference.path, tag)
            pulled = self._puller.pull(repository, tagged, wanted, report, flow.check)
            emit("pull", pulled.image, tagged.familiar)
            report(Progress(f"Digest: {pulled.digest}"))
            all_pulled.append(pulled)
        return _ending(reference.familiar, all_pulled)[-1:]

    async def push(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Progress]:
        """Push `name:tag`, or all tags of `name` where `tag` is empty; yield Docker's lines."""
        reference = _reference(name, tag)
        if reference.digest:
            raise Invalid("cannot push a digest reference")
        wanted = parse_platform(platform) if platform else None
        emit = self._from_thread()
        yield Progress(f"The push refers to repository [{reference.repository}]")

        def work(flow: Flow, report: Report) -> None:
            stop = Stop()
            flow.on_end(stop.set)
            session = self._session(credentials, stop)
            try:
                repository = self._repository(session, reference)
                with said(reference, pushing=True):
                    for image, tagged in self._pusher.chosen(reference, wanted):
                        self._pusher.push(repository, image, tagged, report, stop)
                        emit("push", image, tagged.familiar)
                    _report_warnings(session, report)
            finally:
                session.close()

        async with aclosing(report_from(work)) as lines:
            async for line in lines:
                yield line
        asyncio.get_running_loop().call_later(_SETTLED_SECONDS, release_free_memory)

    async def push_documents(
        self, reference: Reference, documents: Documents, credentials: Credentials
    ) -> AsyncGenerator[Progress]:
        """Push what no image of the store stands for, as `reference`; yield lines as `push` does."""

        def work(flow: Flow, report: Report) -> None:
            stop = Stop()
            flow.on_end(stop.set)
            session = self._session(credentials, stop)
            try:
                with said(reference, pushing=True):
                    repository = self._repository(session, reference)
                    self._documents.push(repository, reference, documents, report, stop)
                    _report_warnings(session, report)
            finally:
                session.close()

        async with aclosing(report_from(work)) as lines:
            async for line in lines:
                yield line

    async def fetch_documents(
        self, reference: Reference, credentials: Credentials, work: Callable[[Fetching], T]
    ) -> T:
        """Return what `work` makes of what a registry has under a name; it is called in a thread."""
        stop = Stop()

        def run() -> T:
            session = self._session(credentials, stop)
            try:
                with said(reference, anonymous=not credentials.given):
                    repository = self._repository(session, reference)
                    return work(FetchedDocuments(repository, reference, stop))
            finally:
                session.close()

        return await in_thread(run, on_cancel=stop.set)

    async def login(self, server: str, credentials: Credentials) -> str:
        """Ask a registry whether it takes the credentials; return an identity token or "".

        Raises Unauthorized with Docker's words, Unavailable.
        """
        domain = server.partition("://")[2] or server
        domain = domain.rstrip("/")
        if domain in ("", "index.docker.io/v1", "index.docker.io", "docker.io"):
            domain = "docker.io"
        domain = domain.partition("/")[0]

        def work(session: Session) -> str:
            endpoints = find_endpoints(domain, self._settings)
            repository = Repository(session, endpoints, "")
            session.authorizer.keeping = True
            try:
                repository.ping()
            except (Refused, Unauthorized) as error:
                # In Docker's words.
                place = repository.reached or endpoints[-1].origin
                raise Unauthorized(f'Get "{place}/v2/": {error.message}') from None
            return session.authorizer.identity_token

        return await self._asked(credentials, work)

    async def distribution(self, name: str, credentials: Credentials) -> DistributionView:
        """Return what a registry has under a name: its descriptor and platforms."""
        reference = _reference(name, "").with_default_tag()

        def work(session: Session) -> DistributionView:
            return read_distribution(self._repository(session, reference), reference)

        return await self._asked(credentials, work)

    async def manifest(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> tuple[str, Digest, bytes]:
        """Return a manifest as it is in the registry: media type, digest, bytes.

        `insecure` asks a registry without TLS, or with a certificate that nobody vouches for.
        """
        reference = _reference(name, "").with_default_tag()
        settings = self._trusting(reference, insecure)

        def work(session: Session) -> tuple[str, Digest, bytes]:
            repository = self._repository(session, reference, settings)
            with said(reference):
                found = repository.manifest(reference.digest or reference.tag)
            return found.media_type, found.digest, found.data

        return await self._asked(credentials, work, settings)

    async def image_config(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> bytes:
        """Return an image's configuration as it is in the registry."""
        reference = _reference(name, "").with_default_tag()
        settings = self._trusting(reference, insecure)

        def work(session: Session) -> bytes:
            with said(reference):
                return read_config(self._repository(session, reference, settings), reference)

        return await self._asked(credentials, work, settings)

    async def push_list(
        self, name: str, wanted: ManifestList, credentials: Credentials, insecure: bool = False
    ) -> tuple[list[Digest], Digest]:
        """Store a manifest list as `name`, with all it names; return the digests of both."""
        reference = _reference(name, "").with_default_tag()
        check_list(reference, wanted)
        settings = self._trusting(reference, insecure)
        stop = Stop()

        def work(session: Session) -> tuple[list[Digest], Digest]:
            repository = self._repository(session, reference, settings)
            sources = [self._repository(session, e.source, settings) for e in wanted.entries]
            with said(reference, pushing=True):
                return push_list(repository, sources, reference.tag, wanted, stop)

        return await self._asked(credentials, work, settings, stop)

    def _trusting(self, reference: Reference, insecure: bool) -> RegistrySettings:
        settings = self._settings
        if not insecure:
            return settings
        return replace(settings, insecure=(*settings.insecure, reference.domain))

    async def referrers(self, name: str, credentials: Credentials) -> bytes:
        """Return the index of what refers to a manifest in the registry."""
        reference = _reference(name, "").with_default_tag()

        def work(session: Session) -> bytes:
            repository = self._repository(session, reference)
            with said(reference):
                digest = reference.digest or repository.manifest(reference.tag).digest
                return repository.referrers(digest)

        return await self._asked(credentials, work)

    async def search(
        self, term: str, limit: int, filters: Filters, credentials: Credentials
    ) -> Sequence[SearchResult]:
        """Return the repositories that match, of Docker Hub or of the registry that `term` begins with."""

        def work(session: Session) -> Sequence[SearchResult]:
            return search_in(session, self._settings, term, limit, filters)

        return await self._asked(credentials, work)

    async def _asked(
        self,
        credentials: Credentials,
        work: Callable[[Session], T],
        settings: RegistrySettings | None = None,
        stop: Stop | None = None,
    ) -> T:
        """Run `work` in a thread; cancelled, it is woken and waited for."""
        stop = stop or Stop()

        def run() -> T:
            session = self._session(credentials, stop, settings)
            try:
                return work(session)
            finally:
                session.close()

        try:
            return await in_thread(run, on_cancel=stop.set)
        except Refused as error:
            raise error.as_kind() from None

    def _session(
        self, credentials: Credentials, stop: Stop, settings: RegistrySettings | None = None
    ) -> Session:
        settings = settings or self._settings
        return Session(credentials, settings.proxies, settings.insecure, stop, _AGENT)

    def _repository(
        self, session: Session, reference: Reference, settings: RegistrySettings | None = None
    ) -> Repository:
        endpoints = find_endpoints(reference.domain, settings or self._settings)
        return Repository(session, endpoints, reference.path)

    def _from_thread(self) -> Callable[[str, Image, str], None]:
        loop = asyncio.get_running_loop()

        def emit(action: str, image: Image, name: str) -> None:
            labels = dict(image.config.labels)
            pairs = tuple(sorted({**labels, "name": name}.items()))
            event = Event("image", action, name, pairs, time.time_ns())
            loop.call_soon_threadsafe(self._emit, event)

        return emit


def _reference(name: str, tag: str) -> Reference:
    """Return `name` with `tag`, a tag or a digest, which `name` may also have itself."""
    if not tag:
        return Reference.parse(name)
    bare = Reference.parse(name)
    if ":" in tag:
        return Reference(bare.domain, bare.path, "", Digest.parse(tag))
    return Reference.parse(f"{bare.repository}:{tag}")


def _report_warnings(session: Session, report: Report) -> None:
    for text in session.warnings:
        report(Progress(f"Warning: {text}"))


def _ending(name: str, pulled: Sequence[Pulled]) -> list[Progress]:
    lines = [Progress(f"Digest: {pulled[-1].digest}")]
    if all(one.up_to_date for one in pulled):
        lines.append(Progress(f"Status: Image is up to date for {name}"))
    else:
        lines.append(Progress(f"Status: Downloaded newer image for {name}"))
    return lines + [Progress(one.warning) for one in pulled if one.warning]
