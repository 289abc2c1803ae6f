"""docker-py's everyday use: what programs and testcontainers do with an engine."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import pytest
from docker.types import IPAMConfig, IPAMPool, Mount, Ulimit

from tests.engine.boxes import Boxes, eventually
from tests.engine.tars import file, tar_of

# docker-py ships no types: its client is used as it comes.
Client = Any


@pytest.fixture(scope="module")
def client(engine_host: str) -> Iterator[Client]:
    """A docker-py client on the engine under test, its version negotiated."""
    client = docker.DockerClient(base_url=engine_host, version="auto")
    yield client
    client.close()


@pytest.fixture
def sleeper(client: Client, boxes: Boxes) -> Any:
    """A running container as docker-py's object."""
    return client.containers.get(boxes.sleeper())


def test_version_and_ping(client: Client) -> None:
    assert client.ping() is True
    assert client.version()["ApiVersion"] == "1.51"
    assert client.info()["OSType"] == "linux"


def test_run(client: Client, busybox: str) -> None:
    assert (
        client.containers.run(busybox, ["echo", "hi"], network_mode="none", remove=True) == b"hi\n"
    )


def test_run_that_fails(client: Client, busybox: str) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run(
            busybox, "sh -c 'echo no >&2; exit 3'", network_mode="none", remove=True
        )
    assert caught.value.exit_status == 3
    assert "no" in str(caught.value.stderr)


def test_run_of_no_command(client: Client, busybox: str, boxes: Boxes) -> None:
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        client.containers.run(busybox, "nosuchprogram", network_mode="none", name=boxes.name())


def test_no_such_things(client: Client) -> None:
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("no-such-box")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("no-such-image")


def test_detached_with_options(client: Client, busybox: str, boxes: Boxes) -> None:
    container = client.containers.run(
        busybox, "sleep 60", name=boxes.name(), detach=True, network_mode="none",
        environment={"A": "1"}, labels={"l": "v"}, mem_limit="64m", working_dir="/tmp",
        user="33", hostname="h", tmpfs={"/t": "size=1m"}, cap_drop=["ALL"], read_only=True,
        ulimits=[Ulimit(name="nofile", soft=64, hard=128)],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}, init=True,
    )  # fmt: skip
    assert container.status in ("created", "running")
    container.reload()
    assert container.status == "running"
    assert container.labels == {"l": "v"}
    code, out = container.exec_run("sh -c 'echo $A $PWD $(id -u) $(hostname) $(ulimit -n)'")
    assert (code, out) == (0, b"1 /tmp 33 h 64\n")
    container.stop(timeout=1)
    container.reload()
    assert container.status == "exited"


def test_list(client: Client, boxes: Boxes) -> None:
    mark = boxes.name()
    name = boxes.sleeper("-l", mark)
    found = client.containers.list(filters={"label": mark})
    assert [c.name for c in found] == [name]
    assert client.containers.list(all=True, filters={"label": mark, "status": "exited"}) == []


def test_logs(client: Client, boxes: Boxes) -> None:
    container = client.containers.get(boxes.sh("echo out; echo err >&2"))
    assert container.wait()["StatusCode"] == 0
    assert container.logs(stderr=False) == b"out\n"
    assert container.logs(stdout=False) == b"err\n"
    assert sorted(container.logs().split()) == [b"err", b"out"]
    assert container.logs(tail=0) == b""


def test_logs_as_they_come(client: Client, boxes: Boxes) -> None:
    container = client.containers.get(boxes.sh("for n in 1 2 3; do echo $n; sleep 0.1; done"))
    assert b"".join(container.logs(stream=True, follow=True)) == b"1\n2\n3\n"


def test_attach_stream(client: Client, boxes: Boxes) -> None:
    container = client.containers.get(boxes.create(boxes.image, "seq", "100"))
    stream = container.attach(stream=True, logs=True)
    container.start()
    assert b"".join(stream).split()[-1] == b"100"


def test_attach_socket_for_input(client: Client, boxes: Boxes) -> None:
    container = client.containers.get(
        boxes.create("-i", boxes.image, "sh", "-c", "read x; echo $x")
    )
    socket = container.attach_socket(params={"stdin": 1, "stream": 1})
    container.start()
    socket._sock.sendall(b"typed\n")
    assert container.wait()["StatusCode"] == 0
    socket.close()
    assert container.logs() == b"typed\n"


def test_exec(client: Client, sleeper: Any) -> None:
    assert sleeper.exec_run("echo hi") == (0, b"hi\n")
    assert sleeper.exec_run(["sh", "-c", "exit 5"]).exit_code == 5
    assert sleeper.exec_run("sh -c 'echo a; echo b >&2'", demux=True).output == (b"a\n", b"b\n")
    assert b"".join(sleeper.exec_run("seq 3", stream=True).output) == b"1\n2\n3\n"
    assert sleeper.exec_run("pwd", workdir="/tmp", user="33").output == b"/tmp\n"
    assert sleeper.exec_run("sh -c 'echo $V'", environment={"V": "x"}).output == b"x\n"
    assert sleeper.exec_run("sleep 60", detach=True).exit_code is None


def test_exec_by_socket(client: Client, sleeper: Any) -> None:
    made = client.api.exec_create(sleeper.id, "cat", stdin=True, tty=True)
    socket = client.api.exec_start(made["Id"], tty=True, socket=True)
    socket._sock.sendall(b"echoed\n")
    data = b""
    while data.count(b"echoed") < 2:
        data += socket._sock.recv(1000)
    socket._sock.sendall(b"\x04")
    eventually(lambda: client.api.exec_inspect(made["Id"])["ExitCode"] == 0)
    socket.close()


def test_archives(client: Client, sleeper: Any) -> None:
    assert sleeper.put_archive("/tmp", tar_of([file("in", b"data")])) is True
    assert sleeper.exec_run("cat /tmp/in").output == b"data"
    stream, stat = sleeper.get_archive("/tmp/in")
    assert (stat["name"], stat["size"]) == ("in", 4)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        found = tar.extractfile("in")
        assert found and found.read() == b"data"
    with pytest.raises(docker.errors.NotFound):
        sleeper.get_archive("/no/such")


def test_export_and_commit(client: Client, boxes: Boxes, sleeper: Any) -> None:
    sleeper.exec_run("touch /made")
    assert sleeper.diff() == [{"Path": "/made", "Kind": 1}]
    assert b"made" in b"".join(sleeper.export())
    repository, tag = boxes.image_name().split(":")
    image = sleeper.commit(repository=repository, tag=tag, changes="CMD ls /made")
    assert client.containers.run(image, network_mode="none", remove=True) == b"/made\n"


def test_stats(client: Client, sleeper: Any) -> None:
    one = sleeper.stats(stream=False)
    assert one["pids_stats"]["current"] >= 1
    assert one["memory_stats"]["usage"] > 0
    assert one["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert one["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert one["name"] == f"/{sleeper.name}"


def test_stats_as_they_come(client: Client, sleeper: Any) -> None:
    stream = sleeper.stats(decode=True)
    first, second = next(stream), next(stream)
    stream.close()
    assert first["read"] < second["read"]


def test_wait_and_kill(client: Client, sleeper: Any) -> None:
    threading.Timer(0.1, sleeper.kill).start()
    assert sleeper.wait(timeout=10)["StatusCode"] == 137
    with pytest.raises(docker.errors.APIError, match="is not running"):
        sleeper.kill()


def test_wait_for_removal(client: Client, boxes: Boxes) -> None:
    container = client.containers.get(boxes.sleeper())
    timer = threading.Timer(0.1, lambda: container.remove(force=True))
    timer.start()
    assert container.wait(timeout=10, condition="removed")["StatusCode"] == 137
    timer.join()


def test_verbs(client: Client, boxes: Boxes, sleeper: Any) -> None:
    sleeper.pause()
    sleeper.reload()
    assert sleeper.status == "paused"
    sleeper.unpause()
    sleeper.rename(boxes.name())
    sleeper.restart(timeout=0)
    sleeper.reload()
    assert sleeper.status == "running"
    assert sleeper.top()["Titles"][0] == "UID"
    sleeper.update(mem_limit="64m", memswap_limit="64m")
    with pytest.raises(docker.errors.APIError, match="container is running"):
        sleeper.remove()
    sleeper.remove(force=True)
    with pytest.raises(docker.errors.NotFound):
        sleeper.reload()


def test_events(client: Client, boxes: Boxes, busybox: str) -> None:
    since = time.time() - 0.001
    client.containers.run(busybox, "true", network_mode="none", remove=True, labels={"mine": "1"})
    events = list(
        client.events(
            since=since, until=time.time() + 0.5, decode=True, filters={"label": "mine=1"}
        )
    )
    actions = [event["Action"] for event in events]
    assert actions[0] == "create" and "start" in actions and "die" in actions
    assert events[0]["Actor"]["Attributes"]["image"] == busybox
    assert events[0]["timeNano"] <= events[-1]["timeNano"]


def test_events_as_they_come(client: Client, sleeper: Any) -> None:
    events = client.events(decode=True, filters={"container": sleeper.id})
    sleeper.pause()
    assert next(events)["Action"] == "pause"
    events.close()


def test_images(client: Client, boxes: Boxes, busybox: str) -> None:
    image = client.images.get(busybox)
    assert busybox in image.tags
    repository, tag = boxes.image_name().split(":")
    assert image.tag(repository, tag) is True
    assert [i.id for i in client.images.list(name=repository)] == [image.id]
    data = b"".join(client.api.get_image(f"{repository}:{tag}"))
    client.images.remove(f"{repository}:{tag}")
    assert client.images.list(name=repository) == []
    loaded = client.images.load(data)
    assert f"{repository}:{tag}" in loaded[0].tags
    assert image.history()


def test_prune(client: Client, boxes: Boxes) -> None:
    mark = boxes.name()
    boxes.create("-l", mark, boxes.image)
    done = client.containers.prune(filters={"label": [mark]})
    assert len(done["ContainersDeleted"]) == 1


def test_resize(client: Client, boxes: Boxes) -> None:
    container = client.containers.get(boxes.run("-it", boxes.image, "sh"))
    container.resize(height=30, width=100)
    # On Docker too an exec's terminal is its own: the size is asked of the first process's.
    eventually(lambda: b"30 100" in container.exec_run("sh -c 'stty size <>/dev/pts/0'").output)


def test_binds(client: Client, busybox: str, tmp_path: Any) -> None:
    (tmp_path / "x").write_text("seen")
    out = client.containers.run(
        busybox, "cat /data/x", volumes={str(tmp_path): {"bind": "/data", "mode": "ro"}},
        network_mode="none", remove=True,
    )  # fmt: skip
    assert out == b"seen"
    mount = Mount("/data", str(tmp_path), type="bind", read_only=True)
    assert (
        client.containers.run(
            busybox, "cat /data/x", mounts=[mount], network_mode="none", remove=True
        )
        == b"seen"
    )


def test_volumes(client: Client, busybox: str, boxes: Boxes) -> None:
    name = boxes.volume_name()
    volume = client.volumes.create(name, labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"}
    out = client.containers.run(
        busybox, "sh -c 'echo x >/v/x; cat /v/x'", volumes={name: {"bind": "/v", "mode": "rw"}},
        network_mode="none", remove=True,
    )  # fmt: skip
    assert out == b"x\n"
    assert [v.name for v in client.volumes.list(filters={"name": name})] == [name]
    mount = Mount("/w", name, type="volume", read_only=True, no_copy=True)
    words = {"mounts": [mount], "network_mode": "none", "remove": True}
    assert client.containers.run(busybox, "cat /w/x", **words) == b"x\n"
    found = {v["Name"]: v["UsageData"] for v in client.df()["Volumes"]}
    assert found[name] == {"RefCount": 0, "Size": 2}
    client.volumes.get(name).remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get(name)


def test_many_threads(client: Client, busybox: str) -> None:
    results: dict[int, bytes] = {}

    def work(n: int) -> None:
        results[n] = client.containers.run(busybox, f"echo {n}", network_mode="none", remove=True)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {n: f"{n}\n".encode() for n in range(8)}


def test_df(client: Client) -> None:
    usage = client.df()
    assert usage["LayersSize"] > 0
    assert any(image["Id"].startswith("sha256:") for image in usage["Images"])


def test_networks(client: Client, busybox: str, boxes: Boxes) -> None:
    pool = IPAMPool(subnet="10.212.7.0/24", gateway="10.212.7.254")
    network = client.networks.create(
        boxes.name(),
        driver="bridge",
        ipam=IPAMConfig(pool_configs=[pool]),
        labels={"mine": "1"},
        check_duplicate=True,
        enable_ipv6=False,
    )
    try:
        assert network in client.networks.list(filters={"label": "mine"})
        assert client.networks.get(network.id).attrs["IPAM"]["Config"] == [
            {"Subnet": "10.212.7.0/24", "Gateway": "10.212.7.254"}
        ]
        box = client.containers.run(
            busybox, ["sleep", "60"], name=boxes.name(), detach=True, network=network.name,
            ports={"80/tcp": None, "81/udp": ("127.0.0.1", None)},
        )  # fmt: skip
        box.reload()
        assert set(box.ports) == {"80/tcp", "81/udp"}
        assert box.ports["81/udp"][0]["HostIp"] == "127.0.0.1"
        other = client.containers.run(
            busybox, ["sleep", "60"], name=boxes.name(), detach=True, network_mode="none"
        )
        client.networks.get("none").disconnect(other)
        network.connect(other, aliases=["friend"], ipv4_address="10.212.7.77")
        network.reload()
        assert {one.name for one in network.containers} == {box.name, other.name}
        assert box.exec_run("nslookup friend").output.count(b"10.212.7.77")
        with pytest.raises(docker.errors.APIError, match="has active endpoints"):
            network.remove()
        network.disconnect(other, force=True)
        box.remove(force=True)
        network.reload()
        assert network.containers == []
    finally:
        for name in [one["Name"] for one in network.attrs.get("Containers", {}).values()]:
            client.containers.get(name).remove(force=True)
        network.remove()
    with pytest.raises(docker.errors.NotFound):
        client.networks.get(network.id)
