"""Garbage collection beside pushes, and the expiry of uploads."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from pathlib import Path

import pytest

from tests.registry.serving import INDEX, OCI, Client, descriptor, index, manifest, registry, sha256
from wherry.model.ids import Digest
from wherry.registry.server.documents import Needed, parse_document
from wherry.registry.server.faults import Fault, Faults
from wherry.registry.server.folder import FolderBlobs, FolderUploads
from wherry.registry.server.records import FolderRecords
from wherry.registry.server.repositories import Repositories
from wherry.registry.server.retention import Retention
from wherry.registry.server.sessions import Sessions
from wherry.registry.server.storage import Blobs, Records, UploadStore
from wherry.registry.server.sweep import Sweeper
from wherry.testing.registry import MemoryBlobs, MemoryRecords, MemoryUploads


class House:
    """A registry's inner rooms, without HTTP."""

    def __init__(self, blobs: Blobs, uploads: UploadStore, records: Records, grace: float) -> None:
        self.blobs = blobs
        self.retention = Retention(grace)
        self.repositories = Repositories(blobs, records, self.retention)
        self.sessions = Sessions(uploads, self.repositories, most=100, blob_limit=1 << 30)
        self.sweeper = Sweeper(self.repositories)

    async def push(self, repository: str, data: bytes) -> Digest:
        session = await self.sessions.begin(repository)
        digest = Digest.of(data)
        async with session.turn():
            await session.upload.write([data])
            await self.sessions.finish(session, digest)
        return digest

    async def put(self, repository: str, reference: str, data: bytes, kind: str = OCI) -> Digest:
        document = parse_document(data, kind)
        return await self.repositories.put_manifest(repository, reference, data, document)


@pytest.fixture(params=["folder", "memory"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    if request.param == "memory":
        held = MemoryBlobs()
        return House(held, MemoryUploads(held), MemoryRecords(), 0.0)
    blobs = FolderBlobs(tmp_path)
    return House(blobs, FolderUploads(tmp_path, blobs), FolderRecords(tmp_path), 0.0)


def test_only_what_nothing_needs_goes(house: House) -> None:
    async def test() -> None:
        for data in (b"{}", b"layer", b"loose"):
            await house.push("a", data)
        await house.put("a", "v1", manifest(b"{}", b"layer"))
        await house.push("b/c", b"loose")
        swept = await house.sweeper.sweep()
        assert (swept.links, swept.blobs, swept.space) == (2, 1, 5)
        assert await house.blobs.size(Digest.of(b"loose")) is None
        assert await house.repositories.blob_size("a", Digest.of(b"layer")) == 5
        # A deleted manifest's blobs go with the next sweep.
        await house.repositories.delete_manifest("a", Digest.of(manifest(b"{}", b"layer")))
        swept = await house.sweeper.sweep()
        assert (swept.links, swept.blobs) == (2, 2)
        assert [stored async for stored in house.blobs.stored()] == []

    asyncio.run(test())


def test_another_repository_keeps_a_blob(house: House) -> None:
    async def test() -> None:
        for name in ("a", "b"):
            await house.push(name, b"{}")
        await house.put("a", "v1", manifest(b"{}"))
        assert (await house.sweeper.sweep()).links == 1
        assert await house.blobs.size(Digest.of(b"{}")) == 2

    asyncio.run(test())


def test_what_a_client_was_told_is_kept(house: House) -> None:
    async def test() -> None:
        digest = await house.push("a", b"{}")
        house.retention.grace = 3600.0
        assert await house.repositories.blob_size("a", digest) == 2
        assert (await house.sweeper.sweep()).links == 0
        await house.put("a", "v1", manifest(b"{}"))

    asyncio.run(test())


def test_pushes_while_sweeping(house: House) -> None:
    """With no grace at all: whatever is acknowledged during a sweep survives it."""

    async def test() -> None:
        acknowledged: list[tuple[str, bytes]] = []
        refused = 0
        chance = random.Random(3)
        done = asyncio.Event()

        async def push(number: int) -> None:
            nonlocal refused
            for round_ in range(25):
                config, layer = b'{"n":%d}' % round_, b"layer %d" % round_
                name = f"r{number % 2}"
                await house.push(name, config)
                await house.push(name, layer)
                if round_ % 2:
                    await asyncio.sleep(0)
                data = manifest(config, layer, annotations={"n": f"{number}.{round_}"})
                try:
                    await house.put(name, f"v{number}.{round_}", data)
                except (Fault, Faults):
                    refused += 1
                    continue
                acknowledged.append((name, data))

        async def sweep() -> None:
            while not done.is_set():
                await house.sweeper.sweep()
                # In memory a push takes a few turns of the loop: some are to fit between two sweeps.
                for _ in range(chance.randrange(40)):
                    await asyncio.sleep(0)

        sweeping = asyncio.create_task(sweep())
        await asyncio.gather(*map(push, range(4)))
        done.set()
        await sweeping
        await house.sweeper.sweep()
        assert acknowledged
        for name, data in acknowledged:
            for needed in parse_document(data, OCI).blobs:
                assert await house.repositories.blob_size(name, needed.digest) == needed.size
                assert await house.blobs.size(needed.digest) == needed.size

    asyncio.run(test())


def test_untagged_manifests(house: House) -> None:
    async def test() -> None:
        await house.push("a", b"{}")
        child = manifest(b"{}", annotations={"n": "child"})
        loose = manifest(b"{}", annotations={"n": "loose"})
        tagged = index(child)
        about = manifest(b"{}", subject=descriptor(child, OCI))
        loose_about = manifest(b"{}", subject=descriptor(loose, OCI))
        for data in (child, loose, about, loose_about):
            document = parse_document(data, OCI)
            await house.repositories.put_manifest("a", Digest.of(data), data, document)
        await house.put("a", "v1", tagged, INDEX)
        assert (await house.sweeper.sweep()).manifests == 0
        sweeper = Sweeper(house.repositories, untagged_age=-1.0)
        assert (await sweeper.sweep()).manifests == 2
        kept = set(await house.repositories.manifests("a"))
        assert kept == {Digest.of(data) for data in (child, about, tagged)}
        assert await house.repositories.referrers("a", Digest.of(loose)) == []

    asyncio.run(test())


def test_a_manifest_that_cannot_be_read_keeps_everything(house: House) -> None:
    async def test() -> None:
        await house.push("a", b"{}")
        digest = await house.put("a", "v1", manifest(b"{}"))
        key = f"a/_manifests/sha256/{digest.hex}"
        await house.repositories.records.put(key, f"{OCI}\nbroken".encode())
        swept = await house.sweeper.sweep()
        assert (swept.links, swept.blobs) == (0, 0)

    asyncio.run(test())


def test_promises() -> None:
    retention = Retention(3600.0)
    digest = Digest.of(b"x")
    retention.touch("a", digest)
    assert retention.kept("a", digest) and not retention.kept("b", digest)
    retention.grace = 0.0
    assert not retention.kept("a", digest)
    retention.begin_sweep()
    retention.touch("a", digest)
    assert retention.kept("a", digest) and retention.used_since(digest)
    retention.end_sweep()
    assert not retention.kept("a", digest)


def test_serving_while_it_collects(tmp_path: Path) -> None:
    """Over HTTP, with a sweep every second and no grace: pushes succeed, pulls are whole."""
    with registry(tmp_path, "--gc-grace=0", "--gc-interval=1") as running:
        client = running.client
        done = threading.Event()
        problems: list[BaseException] = []

        def work(number: int) -> None:
            try:
                while not done.is_set():
                    seed = b"%d" % number
                    data = push_until_taken(client, f"r{number}", seed)
                    got = client("GET", f"/v2/r{number}/manifests/v1")
                    assert got.body == data
                    client("DELETE", f"/v2/r{number}/manifests/{sha256(data)}")
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        loose = client.push("loose", os.urandom(1000))
        end = time.monotonic() + 20
        path = tmp_path / "blobs" / "sha256" / loose.removeprefix("sha256:")
        while path.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        done.set()
        for thread in threads:
            thread.join(20)
        assert not problems, problems
        assert 'swept_total{what="runs"}' in client("GET", "/metrics").body.decode()


def push_until_taken(client: Client, name: str, seed: bytes) -> bytes:
    """Push as a client that is told MANIFEST_BLOB_UNKNOWN does: once more. Without grace that happens."""
    config, layer = b'{"s":"%s"}' % seed, b"layer" + seed
    data = manifest(config, layer)
    for _ in range(20):
        client.push(name, config)
        client.push(name, layer)
        reply = client.put(name, "v1", data)
        if reply.status == 201:
            return data
        assert reply.code == "MANIFEST_BLOB_UNKNOWN"
    raise AssertionError("never taken")


def test_uploads_expire(tmp_path: Path) -> None:
    with registry(tmp_path) as running:
        left = running.client.begin("a")
        running.client("PATCH", left, b"abc")
    name = left.rpartition("/")[2]
    for path in (tmp_path / "uploads").iterdir():
        os.utime(path, (1, 1))
    with registry(tmp_path, "--upload-expiry=1") as running:
        fresh = running.client.begin("a")
        running.client("PATCH", fresh, b"abc")
        end = time.monotonic() + 20
        while any((tmp_path / "uploads").iterdir()):
            assert time.monotonic() < end
            time.sleep(0.05)
        for place in (left, fresh):
            assert running.client("GET", place).code == "BLOB_UPLOAD_UNKNOWN"
        assert "expired_uploads_total 2" in running.client("GET", "/metrics").body.decode()
    assert len(name) == 32


def test_needed_says_what_it_is() -> None:
    assert parse_document(manifest(b"{}"), OCI).blobs == (Needed(Digest.of(b"{}"), 2),)
