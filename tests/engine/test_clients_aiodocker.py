"""aiodocker's everyday use: containers, streams, execs, archives, volumes, networks, events, images."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.engine.boxes import Boxes
from tests.engine.tars import file, tar_of

aiodocker = pytest.importorskip("aiodocker")


@asynccontextmanager
async def _client(host: str) -> AsyncIterator[Any]:
    client = aiodocker.Docker(url=host)
    try:
        async with asyncio.timeout(60):
            yield client
    finally:
        await client.close()


def test_a_container_s_life(engine_host: str, boxes: Boxes) -> None:
    async def main() -> None:
        async with _client(engine_host) as docker:
            assert (await docker.version())["ApiVersion"] == "1.51"
            box = await docker.containers.create(
                {"Image": boxes.image, "Cmd": ["sh", "-c", "echo out; echo err >&2; exit 3"],
                 "HostConfig": {"NetworkMode": "none"}},
                name=boxes.name(),
            )  # fmt: skip
            await box.start()
            assert (await box.wait())["StatusCode"] == 3
            assert await box.log(stdout=True) == ["out\n"]
            assert await box.log(stderr=True) == ["err\n"]
            assert (await box.show())["State"]["ExitCode"] == 3
            assert box.id in [one.id for one in await docker.containers.list(all=True)]
            await box.delete()
            with pytest.raises(aiodocker.DockerError) as caught:
                await box.show()
            assert caught.value.status == 404

    asyncio.run(main())


def test_exec_attach_and_files(engine_host: str, boxes: Boxes) -> None:
    async def main() -> None:
        async with _client(engine_host) as docker:
            box = await docker.containers.get(boxes.sleeper())
            run = await box.exec(["sh", "-c", "read x; echo got $x"], stdin=True)
            async with run.start(detach=False) as stream:
                await stream.write_in(b"word\n")
                message = await stream.read_out()
                assert message.data == b"got word\n"
                assert await stream.read_out() is None
            assert (await run.inspect())["ExitCode"] == 0
            await box.put_archive("/tmp", tar_of([file("in", b"data")]))
            archive = await box.get_archive("/tmp/in")
            assert isinstance(archive, tarfile.TarFile)
            found = archive.extractfile("in")
            assert found is not None and found.read() == b"data"
            stats = await box.stats(stream=False)
            assert stats[0]["pids_stats"]["current"] >= 1
            await box.restart(timeout=0)
            await box.stop(timeout=1)

    asyncio.run(main())


def test_events_as_they_come(engine_host: str, boxes: Boxes) -> None:
    async def main() -> None:
        async with _client(engine_host) as docker:
            subscriber = docker.events.subscribe()
            box = await docker.containers.get(boxes.sleeper())
            await box.kill()
            while True:
                event = await subscriber.get()
                if event["Actor"]["ID"] == box.id and event["Action"] == "die":
                    break
            assert event["Actor"]["Attributes"]["exitCode"] == "137"

    asyncio.run(main())


def test_volumes_networks_and_images(engine_host: str, boxes: Boxes) -> None:
    async def main() -> None:
        async with _client(engine_host) as docker:
            name = boxes.volume_name()
            volume = await docker.volumes.create({"Name": name, "Labels": {"a": "b"}})
            assert (await volume.show())["Labels"] == {"a": "b"}
            await volume.delete()
            network = await docker.networks.create({"Name": boxes.name()})
            box = await docker.containers.get(boxes.sleeper())
            shown = await network.show()
            assert shown["Driver"] == "bridge"
            assert await network.delete()
            assert (await box.show())["State"]["Running"]
            repository, tag = boxes.image_name().split(":")
            await docker.images.tag(boxes.image, repository, tag=tag)
            shown = await docker.images.inspect(f"{repository}:{tag}")
            assert f"{repository}:{tag}" in shown["RepoTags"]
            async with docker.images.export_image(f"{repository}:{tag}") as exported:
                data = io.BytesIO(await exported.read(-1))
            assert "manifest.json" in tarfile.open(fileobj=data).getnames()
            await docker.images.delete(f"{repository}:{tag}")

    asyncio.run(main())
