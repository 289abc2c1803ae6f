"""What serves registries, made when the first request for one comes.

An engine that never pulls has none of it in memory: the modules take 2 MB, and TLS 3 MB more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wherry.daemon.config import Config
from wherry.daemon.engine import read_proxies
from wherry.images.places import Places
from wherry.images.service import ImageService
from wherry.images.store import ImageStore
from wherry.model.events import Event
from wherry.model.ids import Digest, Reference
from wherry.model.manifest_lists import ManifestList
from wherry.model.views import DistributionView, Filters, Progress, SearchResult
from wherry.registry.credentials import Credentials
from wherry.storage.content import ContentStore
from wherry.storage.snapshots import Snapshotter

if TYPE_CHECKING:
    from wherry.images.transfer.documents import Documents, Fetching
    from wherry.images.transfer.service import TransferService
    from wherry.registry.endpoints import RegistrySettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Made:
    """The service, and what has it follow another configuration."""

    service: TransferService
    reload: Callable[[Config], None]


class LateRegistries:
    """Satisfies `api.services.Registries`."""

    def __init__(self, config: Config, make: Callable[[Config], _Made]) -> None:
        self._config = config
        self._make = make
        self._made: _Made | None = None
        self._lock = asyncio.Lock()

    def reload(self, config: Config) -> None:
        """Let `config` rule what begins from now on; transfers that are under way end as they began."""
        self._config = config
        if self._made is not None:
            self._made.reload(config)

    async def _service(self) -> TransferService:
        async with self._lock:
            if self._made is None:
                config = self._config
                made = await asyncio.to_thread(self._make, config)
                if self._config is not config:
                    made.reload(self._config)
                self._made = made
            return self._made.service

    async def pull(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Progress]:
        """See TransferService.pull."""
        service = await self._service()
        async with aclosing(service.pull(name, tag, platform, credentials)) as lines:
            async for line in lines:
                yield line

    async def push(
        self, name: str, tag: str, platform: str, credentials: Credentials
    ) -> AsyncGenerator[Progress]:
        """See TransferService.push."""
        service = await self._service()
        async with aclosing(service.push(name, tag, platform, credentials)) as lines:
            async for line in lines:
                yield line

    async def push_documents(
        self, reference: Reference, documents: Documents, credentials: Credentials
    ) -> AsyncGenerator[Progress]:
        """See TransferService.push_documents."""
        service = await self._service()
        async with aclosing(service.push_documents(reference, documents, credentials)) as lines:
            async for line in lines:
                yield line

    async def fetch_documents(
        self, reference: Reference, credentials: Credentials, work: Callable[[Fetching], T]
    ) -> T:
        """See TransferService.fetch_documents."""
        return await (await self._service()).fetch_documents(reference, credentials, work)

    async def login(self, server: str, credentials: Credentials) -> str:
        """See TransferService.login."""
        return await (await self._service()).login(server, credentials)

    async def distribution(self, name: str, credentials: Credentials) -> DistributionView:
        """See TransferService.distribution."""
        return await (await self._service()).distribution(name, credentials)

    async def manifest(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> tuple[str, Digest, bytes]:
        """See TransferService.manifest."""
        return await (await self._service()).manifest(name, credentials, insecure)

    async def image_config(
        self, name: str, credentials: Credentials, insecure: bool = False
    ) -> bytes:
        """See TransferService.image_config."""
        return await (await self._service()).image_config(name, credentials, insecure)

    async def push_list(
        self, name: str, wanted: ManifestList, credentials: Credentials, insecure: bool = False
    ) -> tuple[list[Digest], Digest]:
        """See TransferService.push_list."""
        return await (await self._service()).push_list(name, wanted, credentials, insecure)

    async def referrers(self, name: str, credentials: Credentials) -> bytes:
        """See TransferService.referrers."""
        return await (await self._service()).referrers(name, credentials)

    async def search(
        self, term: str, limit: int, filters: Filters, credentials: Credentials
    ) -> Sequence[SearchResult]:
        """See TransferService.search."""
        return await (await self._service()).search(term, limit, filters, credentials)


def late_registries(
    config: Config,
    *,
    store: ImageStore,
    content: ContentStore,
    snapshots: Snapshotter,
    places: Places,
    images: ImageService,
    emit: Callable[[Event], None],
) -> LateRegistries:
    """Return the service of registries over the engine's stores, still to be made."""

    def make(config: Config) -> _Made:
        from wherry.images.transfer.download import Downloads
        from wherry.images.transfer.pull import Puller
        from wherry.images.transfer.push import Pusher
        from wherry.images.transfer.push_documents import DocumentPusher
        from wherry.images.transfer.service import TransferService

        downloads = Downloads(
            content,
            images.partials,
            concurrent=config.max_concurrent_downloads,
            attempts=config.max_download_attempts,
        )
        puller = Puller(
            store=store,
            content=content,
            snapshots=snapshots,
            partials=images.partials,
            places=places,
            unpacker=images.unpacker,
            intakes=images.intakes,
            downloads=downloads,
        )
        pusher = Pusher(
            store=store,
            content=content,
            places=places,
            intakes=images.intakes,
            concurrent=config.max_concurrent_uploads,
            attempts=config.max_download_attempts,
        )
        documents = DocumentPusher(
            content=content, places=places, attempts=config.max_download_attempts
        )
        service = TransferService(_settings(config), puller, pusher, documents, emit)

        def reload(fresh: Config) -> None:
            service.use(_settings(fresh))
            downloads.limit(fresh.max_concurrent_downloads, fresh.max_download_attempts)
            pusher.limit(fresh.max_concurrent_uploads, fresh.max_download_attempts)
            documents.limit(fresh.max_download_attempts)

        return _Made(service, reload)

    return LateRegistries(config, make)


def _settings(config: Config) -> RegistrySettings:
    from wherry.registry.endpoints import DEFAULT_FOLDERS, Proxies, RegistrySettings

    return RegistrySettings(
        mirrors=config.registry_mirrors,
        insecure=config.insecure_registries,
        folders=tuple(Path(text) for text in config.registry_hosts) or DEFAULT_FOLDERS,
        proxies=Proxies(*read_proxies(config)),
    )
