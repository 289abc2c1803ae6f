"""What every back end of the registry must do. Subclasses say how to make one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.registry.serving import sha512
from wherry.http.messages import FileSlice
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.registry.server.storage import Blobs, Content, Records, UploadStore


@dataclass
class Backend:
    """One back end's three parts."""

    blobs: Blobs
    uploads: UploadStore
    records: Records


async def content(part: Content) -> bytes:
    """Return the bytes of a part of a blob."""
    if isinstance(part, FileSlice):
        try:
            return os.pread(part.fd, part.count, part.offset)
        finally:
            part.close()
    return b"".join([piece async for piece in part])


class StorageContract:
    """The contract."""

    make: Callable[[Any], Backend]
    reopens = True

    @pytest.fixture
    def run(self, tmp_path: Any) -> Callable[[Callable[[Backend], Awaitable[None]]], None]:
        def run(test: Callable[[Backend], Awaitable[None]]) -> None:
            async def whole() -> None:
                await test(type(self).make(tmp_path))

            asyncio.run(whole())

        return run

    def test_an_upload_becomes_a_blob(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            digest = Digest.of(b"abcdef")
            upload = await back.uploads.begin("1", "owner")
            await upload.write([b"abc", b"", b"de"])
            await upload.write([b"f"])
            assert upload.size == 6
            assert await back.blobs.size(digest) is None
            with pytest.raises(NotFound):
                await back.blobs.open(digest, 0, 6)
            await upload.commit(digest)
            assert await back.blobs.size(digest) == 6
            assert await content(await back.blobs.open(digest, 2, 3)) == b"cde"
            assert [stored.digest async for stored in back.blobs.stored()] == [digest]
            assert await back.uploads.unfinished() == []
            with pytest.raises(NotFound):
                await back.uploads.resume("1", "owner")

        run(test)

    def test_large_pieces_and_many(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            data = os.urandom(1 << 20)
            upload = await back.uploads.begin("1", "owner")
            await upload.write([data])
            await upload.write([data[i : i + 7] for i in range(0, 20_000, 7)])
            whole = data + data[:20_006]
            await upload.commit(Digest.of(whole))
            assert await back.blobs.size(Digest.of(whole)) == len(whole)

        run(test)

    def test_wrong_content_is_no_blob(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            upload = await back.uploads.begin("1", "owner")
            await upload.write([b"abc"])
            with pytest.raises(Invalid):
                await upload.commit(Digest.of(b"abd"))
            assert await back.blobs.size(Digest.of(b"abd")) is None
            await upload.commit(Digest.of(b"abc"))
            assert await back.blobs.size(Digest.of(b"abc")) == 3

        run(test)

    def test_cut(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            upload = await back.uploads.begin("1", "owner")
            await upload.write([b"abcdef"])
            await upload.cut(3)
            await upload.write([b"xy"])
            assert upload.size == 5
            await upload.commit(Digest.of(b"abcxy"))

        run(test)

    def test_sha512(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            digest = Digest.parse(sha512(b"abc"))
            upload = await back.uploads.begin("1", "owner")
            await upload.write([b"abc"])
            await upload.commit(digest)
            assert await back.blobs.size(digest) == 3
            assert await back.blobs.size(Digest.of(b"abc")) is None

        run(test)

    def test_resume(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            upload = await back.uploads.begin("1", "owner")
            await upload.write([b"abc"])
            upload.close()
            with pytest.raises(NotFound):
                await back.uploads.resume("1", "another")
            again = await back.uploads.resume("1", "owner")
            assert again.size == 3
            await again.write([b"d"])
            await again.commit(Digest.of(b"abcd"))

        run(test)

    def test_what_is_dropped_is_gone(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            first = await back.uploads.begin("1", "owner")
            second = await back.uploads.begin("2", "owner")
            assert {left.name for left in await back.uploads.unfinished()} == {"1", "2"}
            await first.drop()
            second.close()
            await back.uploads.forget("2")
            await back.uploads.forget("3")
            assert await back.uploads.unfinished() == []

        run(test)

    def test_removed_blobs_are_read_to_their_end(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            upload = await back.uploads.begin("1", "owner")
            await upload.write([b"abc"])
            digest = Digest.of(b"abc")
            await upload.commit(digest)
            part = await back.blobs.open(digest, 0, 3)
            await back.blobs.remove(digest)
            await back.blobs.remove(digest)
            assert await back.blobs.size(digest) is None
            assert await content(part) == b"abc"

        run(test)

    def test_nothing_to_adopt(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            assert not await back.blobs.adopt(Digest.of(b"abc"))

        run(test)

    def test_records(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            records = back.records
            assert await records.get("a/b/_tags/x") is None
            assert await records.names("a") == []
            assert not await records.remove("a/b/_tags/x")
            await records.put("a/b/_tags/x", b"1")
            await records.put("a/b/_tags/y", b"")
            await records.put("a/b/_tags/x", b"2")
            assert await records.get("a/b/_tags/x") == b"2"
            assert await records.get("a/b/_tags/y") == b""
            assert await records.get("a/b/_tags") is None
            assert await records.written("a/b/_tags/x") is not None
            assert await records.written("a/b/_tags/z") is None
            assert await records.names("") == ["a"]
            assert await records.names("a/b") == ["_tags"]
            assert sorted(await records.names("a/b/_tags")) == ["x", "y"]
            assert await records.remove("a/b/_tags/x")
            assert await records.names("a/b/_tags") == ["y"]
            await records.remove("a/b/_tags/y")
            assert await records.names("") == []

        run(test)

    def test_records_come_and_go_at_once(self, run: Any) -> None:
        async def test(back: Backend) -> None:
            async def put_and_remove(number: int) -> None:
                for _ in range(20):
                    await back.records.put(f"a/b/{number}", b"x")
                    await back.records.remove(f"a/b/{number}")

            await asyncio.gather(*map(put_and_remove, range(8)))
            assert await back.records.names("") == []

        run(test)
