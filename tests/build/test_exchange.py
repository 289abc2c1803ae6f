"""A cache in a registry, taken in: its layers may be named by sha512 too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.images.house import House
from wherry.build.cache import BuildCache
from wherry.build.exchange import RECORDS
from wherry.build.exchanging import Exchanging
from wherry.build.mountcache import MountCache
from wherry.images.intake import Intake
from wherry.images.manifests import Descriptor, encode_manifest
from wherry.images.transfer.documents import Fetching
from wherry.model.build import BuildRequest, CacheRef, Progress
from wherry.model.ids import Digest, Reference
from wherry.registry.media import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST

LAYER = bytes(1024)
KEY = "1" * 64


class Kept:
    """One cache, as a registry has it."""

    def __init__(self, algorithm: str) -> None:
        self.layer = Digest.of(LAYER, algorithm)
        step = {"key": KEY, "title": "RUN x", "layer": 0, "size": 0, "tar_size": len(LAYER)}
        document = {
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(LAYER))]},
            RECORDS: {"version": 1, "steps": [step]},
        }
        self.config = json.dumps(document).encode()

    def manifest(self, digest: str) -> tuple[str, bytes]:
        config = Descriptor(OCI_CONFIG, str(Digest.of(self.config)), len(self.config))
        layer = Descriptor(OCI_LAYER, str(self.layer), len(LAYER))
        return OCI_MANIFEST, encode_manifest(config, [layer])

    def small(self, digest: str, size: int) -> bytes:
        return self.config

    def blob(self, digest: str, size: int, write: Callable[[bytes], object]) -> None:
        write(LAYER)

    async def fetch(
        self, reference: Reference, request: BuildRequest, work: Callable[[Fetching], Any]
    ) -> Any:
        return work(self)


async def take(tmp_path: Path, kept: Kept) -> tuple[BuildCache, list[Progress]]:
    house = House(tmp_path)
    cache = BuildCache(house.database)
    mounts = MountCache(tmp_path / "mounts", cache)
    exchanging = Exchanging(cache, mounts, house.store, cast(Any, None), cast(Any, kept))
    request = BuildRequest(b"", cache_from=(CacheRef("registry", (("ref", "host/a:b"),)),))
    told: list[Progress] = []
    with Intake(house.content, house.leases, house.collector) as intake:
        await exchanging.take(request, intake, told.append)
        assert house.content.has(kept.layer)
    return cache, told


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_layers_are_known_by_the_digest_that_the_manifest_has(
    tmp_path: Path, algorithm: str
) -> None:
    kept = Kept(algorithm)
    cache, told = asyncio.run(take(tmp_path, kept))
    assert told == []
    found = cache.find(KEY)
    assert found is not None and found.layer is not None
    assert found.layer.layer.blob == kept.layer
