"""docker-py's calls for images: build, pull, push, import, load, prune; and what a swarm would be for."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from tests.engine.boxes import Boxes
from tests.engine.conftest import HOST
from tests.engine.tars import file, tar_of
from tests.harness.registry import DockerRegistry

Client = Any


@pytest.fixture(scope="module")
def client(engine_host: str) -> Iterator[Client]:
    """A docker-py client on the engine under test, its version negotiated."""
    client = docker.DockerClient(base_url=engine_host, version="auto")
    yield client
    client.close()


@pytest.fixture
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry on the engine's own host."""
    if HOST:
        pytest.skip("the other engine's host is not the test's")
    with request.getfixturevalue("engine").network.inside():
        with DockerRegistry(tmp_path / "registry") as registry:
            yield registry


def test_build(client: Client, boxes: Boxes, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {boxes.image} AS base\nARG WORD\nCOPY said /\nRUN echo $WORD >/word\nFROM base AS unused\n"
    )
    (tmp_path / "said").write_text("copied\n")
    (tmp_path / ".dockerignore").write_text("left-out\n")
    name = boxes.image_name()
    options = {"buildargs": {"WORD": "fed"}, "labels": {"made": "here"}, "target": "base"}
    image, lines = client.images.build(path=str(tmp_path), tag=name, rm=True, **options)
    assert name in image.tags and image.labels == {"made": "here"}
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    assert client.containers.run(name, "cat /said /word", network_mode="none", remove=True) == (
        b"copied\nfed\n"
    )
    (tmp_path / "Dockerfile").write_text(f"FROM {boxes.image}\nRUN exit 3\n")
    with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 3") as caught:
        client.images.build(path=str(tmp_path), rm=True, forcerm=True)
    assert list(caught.value.build_log)


def test_build_of_streams(client: Client, boxes: Boxes) -> None:
    name = boxes.image_name()
    dockerfile = f"FROM {boxes.image}\nRUN true\n".encode()
    client.images.build(fileobj=io.BytesIO(dockerfile), tag=name, rm=True)
    context = tar_of([file("other", dockerfile + b"COPY f /\n"), file("f", b"x")])
    image, _ = client.images.build(
        fileobj=io.BytesIO(context), custom_context=True, dockerfile="other", tag=name, rm=True
    )
    assert image.id == client.images.get(name).id
    assert client.api.prune_builds(filters={"id": "none"})["SpaceReclaimed"] == 0


def test_push_and_pull(client: Client, boxes: Boxes, registry: DockerRegistry) -> None:
    repository = f"{registry.host}/made"
    image = client.images.get(boxes.image)
    assert image.tag(repository, "1")
    try:
        lines = list(client.images.push(repository, tag="1", stream=True, decode=True))
        digest = next(line["aux"]["Digest"] for line in lines if "aux" in line)
        assert not [line for line in lines if "error" in line]
        data = client.images.get_registry_data(f"{repository}:1")
        assert data.id == digest and data.has_platform("linux/amd64")
        assert client.api.inspect_distribution(f"{repository}:1")["Descriptor"]["digest"] == digest
        client.images.remove(f"{repository}:1")
        assert client.images.pull(repository, tag="1").id == image.id
        client.images.remove(f"{repository}:1")
        assert data.pull().id == image.id
        client.images.pull(repository, tag="1")
        lines = list(client.api.pull(repository, tag="1", stream=True, decode=True))
        assert "Image is up to date" in lines[-1]["status"]
        with pytest.raises(docker.errors.NotFound, match="manifest"):
            client.images.pull(repository, tag="none")
        assert client.login("me", "x", registry=f"http://{registry.host}")["Status"]
    finally:
        for name in client.images.get(boxes.image).tags:
            if name.startswith(registry.host):
                client.images.remove(name)
        client.images.prune(filters={"dangling": True, "label": ["none-has-it"]})


def test_import_save_and_load(client: Client, boxes: Boxes, tmp_path: Path) -> None:
    root = tar_of([file("said", b"imported\n")])
    (tmp_path / "root.tar").write_bytes(root)
    repository, tag = boxes.image_name().split(":")
    client.api.import_image_from_data(root, repository=repository, tag=tag)
    first = client.images.get(f"{repository}:{tag}")
    client.api.import_image(str(tmp_path / "root.tar"), repository=repository, tag=tag)
    # Of what has a length docker-py sends that too, beside `chunked`, which no engine takes.
    client.api.import_image_from_stream(iter([root]), repository=repository, tag=tag)
    assert first.attrs["RootFS"] == client.images.get(f"{repository}:{tag}").attrs["RootFS"]
    client.images.remove(first.id, force=True)
    saved = b"".join(client.images.get(f"{repository}:{tag}").save(named=True))
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        assert "manifest.json" in tar.getnames()
    client.images.remove(f"{repository}:{tag}")
    (image,) = client.images.load(saved)
    assert image.tags == [f"{repository}:{tag}"]
    assert image.short_id == image.id[:19] and image.history()[0]["Size"] > 0


def test_prunes(client: Client, boxes: Boxes) -> None:
    mark = boxes.name()
    filters = {"label": [f"mark={mark}"]}
    labels = {"mark": mark}
    client.volumes.create(boxes.volume_name(), labels=labels)
    # Those with names are removed only where `all` asks for them.
    assert client.volumes.prune(filters=filters)["VolumesDeleted"] == []
    done = client.volumes.prune(filters=filters | {"all": ["1"]})
    assert len(done["VolumesDeleted"]) == 1
    network = client.networks.create(boxes.name(), labels=labels)
    assert client.networks.prune(filters=filters)["NetworksDeleted"] == [network.name]
    dockerfile = f"FROM {boxes.image}\nLABEL mark={mark}\n".encode()
    image, _ = client.images.build(fileobj=io.BytesIO(dockerfile), rm=True)
    done = client.images.prune(filters=filters | {"dangling": True})
    assert {"Deleted": image.id} in done["ImagesDeleted"]
    assert client.api.prune_images(filters)["ImagesDeleted"] is None


def test_low_level(client: Client, boxes: Boxes) -> None:
    api = client.api
    host = api.create_host_config(
        port_bindings={80: ("127.0.0.1",)}, binds={"/tmp": {"bind": "/t", "mode": "ro"}},
        restart_policy={"Name": "always"}, tmpfs={"/x": ""}, log_config={"type": "json-file"},
    )  # fmt: skip
    network = api.create_network(boxes.name())["Id"]
    try:
        networking = api.create_networking_config(
            {network: api.create_endpoint_config(aliases=["me"])}
        )
        box = api.create_container(
            boxes.image, ["sh", "-c", "trap exit TERM; sleep 600 & wait"], name=boxes.name(),
            host_config=host, networking_config=networking, ports=[80], stdin_open=True,
            healthcheck={"test": ["CMD", "true"], "interval": 100_000_000},
        )["Id"]  # fmt: skip
        api.start(box)
        assert api.port(box, 80)[0]["HostIp"] == "127.0.0.1"
        assert [one["Id"] for one in api.containers(filters={"id": box}, size=True)] == [box]
        container = client.containers.get(box)
        while container.health != "healthy":
            container.reload()
        execution = api.exec_create(box, "sleep 0.5", tty=True)["Id"]
        output = api.exec_start(execution, tty=True, stream=True)
        api.exec_resize(execution, height=30, width=90)
        assert b"".join(output) == b""
        assert api.exec_inspect(execution)["ExitCode"] == 0
        shown = api.inspect_container(box)
        (endpoint,) = shown["NetworkSettings"]["Networks"].values()
        assert "me" in endpoint["Aliases"]
        assert container.image.id == client.images.get(boxes.image).id
        api.disconnect_container_from_network(box, network)
        api.connect_container_to_network(box, network, aliases=["again"])
        api.stop(box, timeout=1)
        assert api.wait(box, condition="not-running")["StatusCode"] in (0, 143)
        api.remove_container(box, v=True)
    finally:
        for one in api.containers(all=True, filters={"network": network}):
            api.remove_container(one["Id"], force=True)
        api.remove_network(network)


def test_no_swarm_and_no_plugins(client: Client) -> None:
    assert client.plugins.list() == []
    for ask in (client.nodes.list, client.services.list, client.secrets.list, client.configs.list,
                client.swarm.reload, client.api.tasks):  # fmt: skip
        with pytest.raises(docker.errors.APIError, match="This node is not a swarm manager"):
            ask()
