"""Both back ends against the contract, and what is a folder's own: sharing, crashes, full disks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.registry.storage_contract import Backend, StorageContract, content
from wherry.kernel import failpoints
from wherry.model.errors import Full, Internal
from wherry.model.ids import Digest
from wherry.registry.server.folder import FolderBlobs, FolderUploads
from wherry.registry.server.records import FolderRecords
from wherry.storage.content import ContentStore
from wherry.testing.registry import MemoryBlobs, MemoryRecords, MemoryUploads


def folder_at(path: Path) -> Backend:
    blobs = FolderBlobs(path)
    return Backend(blobs, FolderUploads(path, blobs), FolderRecords(path))


def memory_at(path: Path) -> Backend:
    blobs = MemoryBlobs()
    return Backend(blobs, MemoryUploads(blobs), MemoryRecords())


class TestFolder(StorageContract):
    make = staticmethod(folder_at)


class TestMemory(StorageContract):
    make = staticmethod(memory_at)


async def commit(back: Backend, data: bytes) -> Digest:
    upload = await back.uploads.begin("1", "owner")
    await upload.write([data])
    await upload.commit(Digest.of(data))
    return Digest.of(data)


def test_blobs_are_shared_with_the_engine(tmp_path: Path) -> None:
    engine = ContentStore(tmp_path / "engine")
    digest = engine.put(b"layer")
    blobs = FolderBlobs(tmp_path, tmp_path / "engine" / "blobs")
    back = Backend(blobs, FolderUploads(tmp_path, blobs), FolderRecords(tmp_path))

    async def test() -> None:
        assert not await blobs.adopt(Digest.of(b"nowhere"))
        assert await commit(back, b"layer") == digest
        assert os.path.samefile(engine.path(digest), blobs.path(digest))
        assert await back.uploads.unfinished() == []
        # Each removes its own name only.
        engine.remove(digest)
        assert await content(await blobs.open(digest, 0, 5)) == b"layer"
        other = engine.put(b"other")
        assert await blobs.adopt(other)
        await blobs.remove(other)
        assert engine.read(other) == b"other"

    asyncio.run(test())


def test_another_file_system_is_not_shared(tmp_path: Path) -> None:
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("the temporary folder is on /dev/shm's file system")
    digest = Digest.of(b"far")
    far = Path(f"/dev/shm/wherry-test-{os.getpid()}")
    try:
        ContentStore(far).put(b"far")
        blobs = FolderBlobs(tmp_path, far / "blobs")
        back = Backend(blobs, FolderUploads(tmp_path, blobs), FolderRecords(tmp_path))
        assert not asyncio.run(blobs.adopt(digest))
        assert asyncio.run(commit(back, b"far")) == digest
        assert blobs.path(digest).stat().st_nlink == 1
    finally:
        import shutil

        shutil.rmtree(far)


def test_a_full_disk_is_said_and_leaves_the_upload(tmp_path: Path) -> None:
    back = folder_at(tmp_path)

    async def test() -> None:
        failpoints.configure("durable.before-sync=error:ENOSPC")
        with pytest.raises(Full):
            await commit(back, b"abc")
        with pytest.raises(Full):
            await back.records.put("a/b", b"x")
        failpoints.configure("")
        assert await back.blobs.size(Digest.of(b"abc")) is None
        assert await back.records.get("a/b") is None
        upload = await back.uploads.resume("1", "owner")
        await upload.commit(Digest.of(b"abc"))

    try:
        asyncio.run(test())
    finally:
        failpoints.configure("")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", "..", ".", "a/."])
def test_no_keys(tmp_path: Path, key: str) -> None:
    with pytest.raises(Internal):
        asyncio.run(FolderRecords(tmp_path).put(key, b""))


def test_what_a_crash_left_of_a_record_is_no_name(tmp_path: Path) -> None:
    records = FolderRecords(tmp_path)
    asyncio.run(records.put("a/_tags/x", b""))
    left = tmp_path / "records/a/_tags/.x.0123456789ab"
    left.touch()
    assert asyncio.run(records.names("a/_tags")) == ["x"]
    # This process may be writing it; the next one knows that nobody is.
    assert records.tidy() == 0
    after = FolderRecords(tmp_path)
    os.utime(left, (1, 1))
    assert after.tidy() == 1 and not left.exists()
    assert asyncio.run(after.get("a/_tags/x")) == b""
