"""aiodocker's everyday use: containers, streams, execs, archives, volumes, networks, events, images."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engine.boxes import SLEEP, Boxes
from tests.engine.conftest import HOST
from tests.engine.tars import file, tar_of
from tests.harness.registry import DockerRegistry

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


def test_attached_to(engine_host: str, boxes: Boxes) -> None:
    """By the hijacked connection and by a web socket: both streams, input, and a terminal's size."""

    async def main() -> None:
        async with _client(engine_host) as docker:
            config = {
                "Image": boxes.image, "Cmd": ["sh", "-c", "read x; echo out $x; echo err >&2; cat"],
                "OpenStdin": True, "StdinOnce": True, "HostConfig": {"NetworkMode": "none"},
            }  # fmt: skip
            box = await docker.containers.create(config, name=boxes.name())
            async with box.attach(stdin=True, stdout=True, stderr=True) as stream:
                # What is read waits for the answer's head, and so for being attached.
                await stream.write_in(b"fed\n")
                await box.start()
                got = {(one := await stream.read_out()).stream: one.data for _ in range(2)}
                assert got == {1: b"out fed\n", 2: b"err\n"}
                await stream.write_in(b"more\n")
                assert (await stream.read_out()) == (1, b"more\n")
            # Whoever closes has ended its input, and with it the container.
            assert (await box.wait())["StatusCode"] == 0
            async with box.attach(stdout=True, stderr=True, logs=True) as stream:
                assert (await stream.read_out()).data == b"out fed\n"

            shell = {
                "Image": boxes.image, "Cmd": ["sh"], "OpenStdin": True, "Tty": True,
                "HostConfig": {"NetworkMode": "none"},
            }  # fmt: skip
            box = await docker.containers.run(shell, name=boxes.name())
            await box.resize(h=33, w=111)
            socket = await box.websocket(stdin=1, stdout=1, stderr=1, stream=1)
            await socket.send_bytes(b"stty size; exit 5\n")
            said = b""
            async for message in socket:
                said += message.data if isinstance(message.data, bytes) else message.data.encode()
            assert b"33 111" in said
            await socket.close()
            assert (await box.wait())["StatusCode"] == 5

    asyncio.run(main())


def test_streams_that_follow(engine_host: str, boxes: Boxes) -> None:
    async def main() -> None:
        async with _client(engine_host) as docker:
            name = boxes.sh("for i in 1 2 3; do echo line $i; sleep 0.1; done; exec cat", "-i")
            box = await docker.containers.get(name)
            seen: list[str] = []
            async for line in box.log(stdout=True, stderr=True, follow=True):
                seen.append(line)
                if len(seen) == 3:
                    await box.kill()
            assert seen == ["line 1\n", "line 2\n", "line 3\n"]
            assert await box.log(stdout=True, tail=1) == ["line 3\n"]
            await box.start()
            kinds = [one async for one in _first(box.stats(), 2)]
            assert (
                kinds[1]["read"] > kinds[0]["read"] and kinds[1]["precpu_stats"]["system_cpu_usage"]
            )

    asyncio.run(main())


async def _first(stream: Any, count: int) -> AsyncIterator[Any]:
    async for one in stream:
        yield one
        count -= 1
        if not count:
            return


def test_what_else_a_container_does(engine_host: str, boxes: Boxes) -> None:
    async def main() -> None:
        async with _client(engine_host) as docker:
            config = {
                "Image": boxes.image, "Cmd": list(SLEEP), "Labels": {"wherry.aio": boxes.name()},
                "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{}]}},
            }  # fmt: skip
            box = await docker.containers.create_or_replace(boxes.name(), config)
            again = await docker.containers.create_or_replace(boxes.name(), config)
            assert again.id != box.id
            await box.start()
            await box.show()
            ports = await box.port(80)
            assert ports is not None and int(ports[0]["HostPort"]) > 1024
            await box.pause()
            assert (await box.show())["State"]["Status"] == "paused"
            await box.unpause()
            titles = (await box.top(ps_args="-o pid,args"))["Titles"]
            assert titles == ["PID", "COMMAND"]
            new = boxes.name()
            await box.rename(new)
            assert (await box.show())["Name"] == f"/{new}"
            repository, tag = boxes.image_name().split(":")
            changes = ["ENV A=b", "CMD echo $A"]
            made = await box.commit(repository=repository, tag=tag, message="m", changes=changes)
            shown = await docker.images.inspect(f"{repository}:{tag}")
            assert made["Id"] == shown["Id"] and "A=b" in shown["Config"]["Env"]
            run = await box.exec(
                "sh -c 'exit 6'", environment={"X": "y"}, workdir="/tmp", user="33"
            )
            assert await run.start(detach=True) == b""
            async with asyncio.timeout(30):
                while (await run.inspect())["ExitCode"] != 6:
                    await asyncio.sleep(0.02)
            terminal = await box.exec(["sh"], stdin=True, tty=True)
            async with terminal.start() as stream:
                await stream.write_in(b"stty -echo\n")
                await terminal.resize(h=22, w=77)
                await stream.write_in(b"stty size; exit\n")
                said = b""
                while (message := await stream.read_out()) is not None:
                    said += message.data
            assert b"22 77" in said
            await box.stop(t=0)
            pruned = await docker.containers.prune(
                filters={"label": [f"wherry.aio={config['Labels']['wherry.aio']}"]}
            )
            assert sorted(pruned["ContainersDeleted"]) == sorted([box.id, again.id])
            with pytest.raises(aiodocker.DockerContainerError) as caught:
                await docker.containers.run(
                    {"Image": boxes.image, "Cmd": ["/nothing"]}, name=boxes.name()
                )
            assert caught.value.status == 400 and caught.value.container_id

    asyncio.run(main())


def test_networks_and_volumes(engine_host: str, boxes: Boxes) -> None:
    async def main() -> None:
        async with _client(engine_host) as docker:
            name, mark = boxes.name(), boxes.name()
            pool = {"Config": [{"Subnet": "10.215.3.0/24"}]}
            network = await docker.networks.create(
                {"Name": name, "IPAM": pool, "Labels": {mark: ""}}
            )
            try:
                box = await docker.containers.get(_on_bridge(boxes))
                await network.connect({
                    "Container": box.id,
                    "EndpointConfig": {"Aliases": ["me"], "IPAMConfig": {"IPv4Address": "10.215.3.9"}},
                })  # fmt: skip
                assert (await network.show())["Containers"][box.id][
                    "IPv4Address"
                ] == "10.215.3.9/24"
                with pytest.raises(aiodocker.DockerError) as caught:
                    await network.delete()
                assert caught.value.status == 403 and "active endpoints" in caught.value.message
                await network.disconnect({"Container": box.id, "Force": True})
                assert (await network.show())["Containers"] == {}
                assert [
                    one["Id"] for one in await docker.networks.list(filters={"name": name})
                ] == [network.id]
                assert (await docker.networks.get(name)).id == network.id
            finally:
                pruned = await docker.networks.prune(filters={"label": mark})
            assert pruned["NetworksDeleted"] == [name]
            volume = boxes.volume_name()
            made = await docker.volumes.create({"Name": volume, "Labels": {mark: ""}})
            boxes.run("-v", f"{volume}:/v", boxes.image, *SLEEP)
            with pytest.raises(aiodocker.DockerError) as caught:
                await made.delete()
            assert caught.value.status == 409
            listed = await docker.volumes.list(filters={"label": mark})
            assert [one["Name"] for one in listed["Volumes"]] == [volume]
            other = boxes.volume_name()
            await docker.volumes.create({"Name": other, "Labels": {mark: ""}})
            pruned = await docker.volumes.prune(filters={"label": [mark], "all": ["1"]})
            assert pruned["VolumesDeleted"] == [other]

    asyncio.run(main())


# bcrypt of `word`; docker-registry takes nothing else.
HTPASSWD = "me:$2b$04$abcdefghijklmnopqrstuuB/GrfUOm5dtrEiT8lcouu5XB5ftbWLi\n"


@pytest.fixture
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry on the engine's own host that knows `me` with `word`."""
    if HOST:
        pytest.skip("the other engine's host is not the test's")
    # bcrypt of `word`; docker-registry takes nothing else.
    with request.getfixturevalue("engine").network.inside():
        with DockerRegistry(tmp_path / "registry", htpasswd=HTPASSWD) as registry:
            yield registry


def test_images_are_built_pushed_and_pulled(
    engine_host: str, boxes: Boxes, registry: DockerRegistry
) -> None:
    name = f"{registry.host}/aio/made:1"
    right, wrong = ({"username": "me", "password": word} for word in ("word", "other"))
    dockerfile = f"FROM {boxes.image}\nARG W\nCOPY f /f\nRUN echo $W >/w\nCMD cat /f /w\n"

    async def main() -> None:
        async with _client(engine_host) as docker:
            context = tar_of([file("other", dockerfile.encode()), file("f", b"data\n")])
            lines = await docker.images.build(
                fileobj=io.BytesIO(context), encoding="identity", path_dockerfile="other", tag=name,
                buildargs={"W": "fed"}, labels={"a": "b"},
            )  # fmt: skip
            assert lines[0]["stream"].startswith("Step 1/5") and "Successfully tagged" in str(
                lines[-1]
            )
            with pytest.raises(aiodocker.DockerError, match="denied|unauthorized|no basic auth"):
                await docker.images.push(name)
            with pytest.raises(aiodocker.DockerError):
                await docker.images.push(name, auth=wrong)
            pushed = [line async for line in docker.images.push(name, auth=right, stream=True)]
            digest = next(line["aux"]["Digest"] for line in pushed if "aux" in line)
            old = (await docker.images.inspect(name))["Id"]
            assert [tag["Deleted"] for tag in await docker.images.delete(name) if "Deleted" in tag]
            with pytest.raises(aiodocker.DockerError):
                await docker.images.pull(name)
            # As `docker run` does: what is not there is pulled.
            box = await docker.containers.run(
                {"Image": name, "HostConfig": {"NetworkMode": "none"}},
                auth=right,
                name=boxes.name(),
            )
            assert (await box.wait())["StatusCode"] == 0
            assert "".join(await box.log(stdout=True)) == "data\nfed\n"
            await box.delete()
            shown = await docker.images.inspect(name)
            assert (
                shown["Id"] == old and f"{registry.host}/aio/made@{digest}" in shown["RepoDigests"]
            )
            history = await docker.images.history(name)
            assert history[0]["CreatedBy"].endswith('CMD ["/bin/sh" "-c" "cat /f /w"]')
            pulled = [line async for line in docker.images.pull(name, auth=right, stream=True)]
            assert "up to date" in pulled[-1]["status"]
            async with docker.images.export_image(name) as exported:
                saved = await exported.read(-1)
            await docker.images.delete(name, force=True)
            loaded = await docker.images.import_image(saved)
            assert any(f"Loaded image: {name}" in str(line) for line in loaded)
            found = await docker.images.list(filters={"label": ["a=b"]})
            assert name in [tag for one in found for tag in one["RepoTags"] or []]
            await docker.images.delete(name, force=True)
            broken = tar_of([file("Dockerfile", f"FROM {boxes.image}\nRUN exit 9\n".encode())])
            with pytest.raises(aiodocker.DockerError, match="non-zero code: 9"):
                await docker.images.build(fileobj=io.BytesIO(broken), encoding="identity")

    asyncio.run(main())


def test_many_at_once(engine_host: str, boxes: Boxes) -> None:
    """Fifty things on one client: aiohttp reuses its connections, whatever was said on them before."""

    async def one(docker: Any, number: int) -> str:
        box = await docker.containers.create(
            {"Image": boxes.image, "Cmd": ["echo", str(number)], "HostConfig": {"NetworkMode": "none"}},
            name=boxes.name(),
        )  # fmt: skip
        await box.start()
        await box.wait()
        said = await box.log(stdout=True)
        with pytest.raises(aiodocker.DockerError):
            await box.kill()
        await box.delete()
        return "".join(said).strip()

    async def main() -> None:
        async with _client(engine_host) as docker:
            began = time.time()
            said = await asyncio.gather(*(one(docker, number) for number in range(25)))
            assert said == [str(number) for number in range(25)]
            assert (await docker.system.info())["ServerVersion"]
            ends = [
                event["Actor"]["Attributes"]["exitCode"]
                async for event in _events(docker, began, time.time() + 1)
                if event["Action"] == "die"
            ]
            assert ends.count("0") >= 25

    asyncio.run(main())


def _on_bridge(boxes: Boxes) -> str:
    name = boxes.name()
    boxes.docker("run", "-d", "--name", name, boxes.image, *SLEEP)
    return name


async def _events(docker: Any, since: float, until: float) -> AsyncIterator[Any]:
    async with docker._query("events", params={"since": str(since), "until": str(until)}) as answer:
        async for line in answer.content:
            yield json.loads(line)
