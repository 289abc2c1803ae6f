"""What a pull and a push work on, put together as `daemon.wiring` does, and driven in this thread."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wherry.images.intake import Intake
from wherry.images.places import Places
from wherry.images.store import ImageStore
from wherry.images.transfer.download import Downloads
from wherry.images.transfer.pull import Pulled, Puller
from wherry.images.transfer.push import Pusher
from wherry.images.transfer.resolve import parse_platform
from wherry.images.transfer.words import said
from wherry.images.unpack import Unpacker
from wherry.model.ids import Digest, Reference
from wherry.model.views import Progress
from wherry.registry.client import Repository
from wherry.registry.credentials import ANONYMOUS, Credentials
from wherry.registry.endpoints import RegistrySettings
from wherry.registry.hosts import find_endpoints
from wherry.registry.session import Session
from wherry.registry.stopping import Stop
from wherry.storage.collector import Collector
from wherry.storage.content import ContentStore
from wherry.storage.database import Database
from wherry.storage.leases import Leases
from wherry.storage.overlay import OverlaySnapshotter
from wherry.storage.partials import Partials

NOWHERE = RegistrySettings(folders=())


class Stores:
    """Stores under `root`; `pull` and `push` one name. A context manager."""

    def __init__(
        self, root: Path, settings: RegistrySettings = NOWHERE, *, attempts: int = 3
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.settings = settings
        self.database = Database(root / "db")
        self.content = ContentStore(root)
        self.snapshots = OverlaySnapshotter(root)
        self.partials = Partials(root)
        self.store = ImageStore(self.database, self.content)
        self.places = Places(self.database)
        self.leases = Leases()
        self.collector = Collector(
            self.content,
            self.snapshots,
            self.leases,
            layer_roots=(self.store,),
            blob_roots=(self.store, self.places),
        )
        intakes = partial(Intake, self.content, self.leases, self.collector)
        self.downloads = Downloads(self.content, self.partials, concurrent=3, attempts=attempts)
        self.puller = Puller(
            store=self.store,
            content=self.content,
            snapshots=self.snapshots,
            partials=self.partials,
            places=self.places,
            unpacker=Unpacker(self.store, self.content, self.snapshots),
            intakes=intakes,
            downloads=self.downloads,
        )
        self.pusher = Pusher(
            store=self.store,
            content=self.content,
            places=self.places,
            intakes=intakes,
            concurrent=5,
            attempts=attempts,
        )
        self.lines: list[Progress] = []

    def __enter__(self) -> Stores:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def session(self, credentials: Credentials = ANONYMOUS, stop: Stop | None = None) -> Session:
        """Return a session with these settings."""
        settings = self.settings
        return Session(
            credentials, settings.proxies, settings.insecure, stop or Stop(), "wherry/tests"
        )

    def pull(
        self,
        name: str,
        platform: str = "",
        credentials: Credentials = ANONYMOUS,
        stop: Stop | None = None,
    ) -> Pulled:
        """Pull `name` and keep the lines."""
        stop = stop or Stop()
        reference = Reference.parse(name).with_default_tag()
        session = self.session(credentials, stop)
        try:
            endpoints = find_endpoints(reference.domain, self.settings)
            repository = Repository(session, endpoints, reference.path)
            wanted = parse_platform(platform) if platform else None
            with said(reference, anonymous=not credentials.given):
                return self.puller.pull(
                    repository, reference, wanted, self.lines.append, stop.check
                )
        finally:
            session.close()

    def push(
        self, name: str, credentials: Credentials = ANONYMOUS, stop: Stop | None = None
    ) -> Digest:
        """Push `name` and keep the lines."""
        stop = stop or Stop()
        reference = Reference.parse(name).with_default_tag()
        session = self.session(credentials, stop)
        try:
            endpoints = find_endpoints(reference.domain, self.settings)
            repository = Repository(session, endpoints, reference.path)
            with said(reference, pushing=True):
                [(image, tagged)] = self.pusher.chosen(reference, None)
                return self.pusher.push(repository, image, tagged, self.lines.append, stop)
        finally:
            session.close()

    def reference(self, name: str) -> Reference:
        """Return a name as it is tagged."""
        return Reference.parse(name).with_default_tag()

    def statuses(self) -> list[str]:
        """Return the lines' statuses."""
        return [line.status for line in self.lines]

    def left_over(self) -> tuple[list[Digest], list[Digest]]:
        """Return the blobs and layers that there are."""
        return sorted(self.content.digests()), sorted(self.snapshots.layers())
