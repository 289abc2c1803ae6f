"""The registry put together: the only place that names the back end's classes."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wherry.kernel.durable import sweep_temporaries
from wherry.model.errors import Invalid
from wherry.registry.server.access import Gate, Policy
from wherry.registry.server.application import Application
from wherry.registry.server.blobs import BlobRoutes
from wherry.registry.server.folder import FolderBlobs, FolderUploads
from wherry.registry.server.manifests import ManifestRoutes
from wherry.registry.server.metrics import Metrics
from wherry.registry.server.records import FolderRecords
from wherry.registry.server.repositories import Repositories
from wherry.registry.server.retention import Retention
from wherry.registry.server.rights import ANYBODY, KNOWN, Rights, everything_to, parse_rights
from wherry.registry.server.sessions import Sessions
from wherry.registry.server.settings import Settings
from wherry.registry.server.sweep import Sweeper
from wherry.registry.server.tokens import Tokens, load_key
from wherry.registry.server.users import Users

log = logging.getLogger(__name__)

_MOST_BETWEEN: Final = 600.0
"""Seconds between two looks for expired uploads, at most."""


@dataclass(slots=True)
class Registry:
    """A registry without its sockets."""

    settings: Settings
    application: Application
    gate: Gate
    sessions: Sessions
    sweeper: Sweeper
    metrics: Metrics
    records: FolderRecords

    def reload(self) -> None:
        """Read users and rights again; what is wrong is logged, and the old stays."""
        policy = self.gate.policy
        try:
            rights = read_rights(self.settings)
            if policy.users is not None:
                policy.users.reload()
        except Invalid as error:
            log.error("users and rights stay as they were: %s", error)
            return
        self.gate.policy = replace(policy, rights=rights)

    async def sweep(self) -> None:
        """Collect garbage once."""
        start = time.monotonic()
        swept = await self.sweeper.sweep()
        self.metrics.swept["runs"] += 1
        for what in ("manifests", "links", "blobs"):
            self.metrics.swept[what] += getattr(swept, what)
        self.metrics.swept["bytes"] += swept.space
        if swept.links or swept.blobs or swept.manifests:
            log.info(
                "collected %d blobs (%d bytes), %d links, %d manifests in %.1f s",
                swept.blobs,
                swept.space,
                swept.links,
                swept.manifests,
                time.monotonic() - start,
            )

    async def keep_house(self) -> None:
        """Expire uploads and collect garbage until cancelled."""
        settings = self.settings
        left = await asyncio.to_thread(self.records.tidy)
        if left:
            log.info("removed %d records that a crash had left half-way", left)
        # The first grace after a start belongs to what the process before this one promised.
        sweep_at = time.monotonic() + max(settings.gc_interval, settings.gc_grace)
        pause = min(_MOST_BETWEEN, settings.upload_expiry / 4 or _MOST_BETWEEN)
        if settings.gc_interval:
            pause = min(pause, settings.gc_interval)
        while True:
            await asyncio.sleep(max(pause, 0.05))
            try:
                if settings.upload_expiry:
                    self.metrics.expired += await self.sessions.expire(settings.upload_expiry)
                if settings.gc_interval and time.monotonic() >= sweep_at:
                    await self.sweep()
                    sweep_at = time.monotonic() + settings.gc_interval
            except Exception:
                # The next round may do better; requests are not to suffer from this one.
                log.exception("housekeeping")

    def close(self) -> None:
        """Let go of what is open; unfinished uploads are kept."""
        self.sessions.close()


def build(settings: Settings) -> Registry:
    """Return the registry in `settings.root`, which is made where it is missing. Raises Invalid."""
    root = settings.root
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep_temporaries(root)
    neighbour = settings.share / "blobs" if settings.share is not None else None
    blobs = FolderBlobs(root, neighbour)
    retention = Retention(settings.gc_grace)
    records = FolderRecords(root)
    repositories = Repositories(blobs, records, retention)
    sessions = Sessions(
        FolderUploads(root, blobs),
        repositories,
        most=settings.max_uploads,
        blob_limit=settings.max_blob,
    )
    metrics = Metrics()
    metrics.gauges["uploads"] = ("Uploads in progress.", lambda: len(sessions))
    gate = Gate(read_policy(settings))
    blob_routes = BlobRoutes(repositories, sessions, gate, metrics)
    # Where people are told apart, knowing a digest must not be enough to read what the engine has.
    blob_routes.adopts = neighbour is not None and settings.htpasswd is None
    application = Application(
        gate,
        blob_routes,
        ManifestRoutes(repositories, gate, metrics),
        metrics,
        read_only=settings.read_only,
        deletes=not settings.no_delete,
        shows_metrics=settings.htpasswd is None,
    )
    sweeper = Sweeper(repositories, untagged_age=settings.delete_untagged or None)
    return Registry(settings, application, gate, sessions, sweeper, metrics, records)


def read_policy(settings: Settings) -> Policy:
    """Return how the registry authenticates. Raises Invalid."""
    return Policy(
        users=Users(settings.htpasswd) if settings.htpasswd is not None else None,
        rights=read_rights(settings),
        tokens=Tokens(load_key(settings.root), settings.service),
        basic=settings.basic,
        scheme="https" if settings.tls_cert is not None else "http",
        public_url=settings.public_url,
    )


def read_rights(settings: Settings) -> Rights:
    """Return the rules; without a file all to everyone who gets in. Raises Invalid."""
    if settings.rights is None:
        return everything_to(ANYBODY if settings.htpasswd is None else KNOWN)
    return _parse(settings.rights)


def _parse(path: Path) -> Rights:
    try:
        return parse_rights(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"the rights' file {path}: {error}") from None
