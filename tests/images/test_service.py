"""The asynchronous front: bodies that stall or break, iterations given up, several at once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable

import pytest

from tests.images.archives import Sample, docker_files, oci_files, sample
from tests.images.house import Body, House, collect, run, tar
from wherry.images.bridge import bytes_from, report_from
from wherry.model.errors import Unavailable
from wherry.model.views import Progress

RANDOM = random.Random(2).randbytes(3 << 20)
LARGE = tar(docker_files(Sample([tar({"big": RANDOM})]), "big:1"))


class Stalling:
    """A body that gives half of its data and then waits for ever, or breaks."""

    def __init__(self, data: bytes, error: Exception | None = None) -> None:
        self.body = Body(data)
        self.error = error
        self.stalled = asyncio.Event()

    async def read(self) -> bytes:
        data = await self.body.read()
        if data:
            return data
        self.stalled.set()
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        raise AssertionError


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name == "images"}


def test_a_client_that_breaks_off(house: House) -> None:
    async def main() -> None:
        body = Stalling(LARGE[: len(LARGE) // 2], ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError):
            await collect(house.service.load(body, quiet=True))

    run(main())
    assert house.is_empty() and not threads()


def test_cancelled_while_the_body_stalls(house: House) -> None:
    async def main() -> None:
        for _ in range(3):
            body = Stalling(LARGE[: len(LARGE) // 2])
            task = asyncio.create_task(collect(house.service.load(body, quiet=True)))
            await asyncio.wait_for(body.stalled.wait(), 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not threads()

    run(main())
    assert house.is_empty()


def test_an_iteration_given_up(house: House) -> None:
    async def main() -> None:
        lines = house.service.load(Body(LARGE), quiet=False)
        assert (await anext(lines)).status == "Loading layer"
        await lines.aclose()
        assert not threads()
        chosen = await house.service.save(["small:1"], form="docker", compression="")
        await anext(chosen)
        await chosen.aclose()  # type: ignore[attr-defined]
        assert not threads()

    house.load(tar(docker_files(sample("small"), "small:1")))
    run(main())
    house.remove("small:1")
    if "big:1" in house.names():
        house.remove("big:1")
    assert house.is_empty()


def test_the_same_archive_from_several_at_once(house: House) -> None:
    async def main() -> None:
        loads = (collect(house.service.load(Body(LARGE), quiet=True)) for _ in range(4))
        for lines in await asyncio.gather(*loads):
            assert lines[-1].stream == "Loaded image: big:1\n"

    run(main())
    assert len(house.store.images()) == 1
    assert len(list(house.content.digests())) == 3


def test_a_sweep_takes_nothing_from_a_load_that_goes_on(house: House) -> None:
    class Sweeping(Body):
        async def read(self) -> bytes:
            data = await super().read()
            await asyncio.sleep(0.001)
            house.service.sweep()
            return data

    async def main() -> None:
        await collect(house.service.load(Sweeping(archive, 100_000), quiet=True))

    archive = tar(
        oci_files(Sample([tar({"big": RANDOM[:500_000]}), tar({"x": RANDOM}), tar({})]), "app:1")
    )
    run(main())
    assert house.save("app:1")


def test_loading_and_removing_at_the_same_time(house: House) -> None:
    """Whatever the order, an image that a load acknowledged and nobody removed is whole."""
    archive = tar(docker_files(sample("a", "b", "c"), "app:1"))

    async def load() -> None:
        for _ in range(15):
            await collect(house.service.load(Body(archive), quiet=True))

    async def remove() -> None:
        for _ in range(15):
            try:
                await house.service.remove("app:1", force=True, prune=True)
            except Exception as error:
                assert "No such image" in str(error)
            await asyncio.sleep(0.001)

    async def main() -> None:
        await asyncio.gather(load(), load(), remove(), remove())
        await collect(house.service.load(Body(archive), quiet=True))

    run(main())
    image = house.store.resolve("app:1")
    for chain, name in zip(image.chain, "abc", strict=True):
        assert (house.snapshots.layer_path(chain) / name).read_bytes() == name.encode()
    assert house.save("app:1")
    house.remove("app:1")
    assert house.is_empty()


def test_progress_counts_up_to_the_layer_s_size(house: House) -> None:
    lines = run(collect(house.service.load(Body(LARGE), quiet=False)))
    counted = [(line.current, line.total) for line in lines if line.status == "Loading layer"]
    assert counted == sorted(counted)
    assert counted[-1][0] == counted[-1][1] > 3 << 20
    assert [line.stream for line in lines[-1:]] == ["Loaded image: big:1\n"]
    assert run(collect(house.service.load(Body(LARGE), quiet=True)))[0].stream


Step = Callable[[], Awaitable[None]]


def test_a_slow_reader_holds_the_writer_back() -> None:
    written: list[int] = []

    def work(out: Callable[[bytes], None]) -> None:
        for number in range(100):
            out(bytes(1 << 20))
            written.append(number)

    async def main() -> None:
        pieces = bytes_from(work)
        await anext(pieces)
        await asyncio.sleep(0.2)
        assert len(written) < 30
        await pieces.aclose()

    run(main())
    assert len(written) < 100 and not threads()


def test_what_the_work_raises_comes_out() -> None:
    def work(_: object, report: Callable[[Progress], None]) -> None:
        report(Progress("first"))
        raise Unavailable("no more")

    async def main() -> None:
        lines = report_from(work)
        assert (await anext(lines)).status == "first"
        with pytest.raises(Unavailable, match="no more"):
            await anext(lines)

    run(main())
