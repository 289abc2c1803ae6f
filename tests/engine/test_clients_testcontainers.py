"""testcontainers-python's everyday work: containers, waiting, networks, images, files, Compose projects.

What its reaper does is in test_clients_reaper.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.boxes import eventually
from tests.engine.composing import find_compose
from tests.engine.conftest import HOST
from tests.harness.clients import Client
from tests.harness.engine import Engine

pytest.importorskip("testcontainers")
from testcontainers.compose import DockerCompose
from testcontainers.core import wait_strategies as waits
from testcontainers.core.config import ConnectionMode
from testcontainers.core.config import testcontainers_config as config
from testcontainers.core.container import DockerContainer, ExecConfig
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

pytestmark = pytest.mark.skipif(bool(HOST), reason="the other engine's host is not the test's")

WEB = "mkdir /www; echo $WORD >/www/index.html; echo listening; exec httpd -f -h /www"


@pytest.fixture(autouse=True)
def settings(engine: Engine, docker: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library set to the engine, this thread on the engine's host; nothing is left afterwards."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (
        ("ryuk_disabled", True), ("tc_host_override", "127.0.0.1"), ("sleep_time", 0.05), ("max_tries", 400),
    ):  # fmt: skip
        monkeypatch.setattr(config, name, value)
    mine = "label=org.testcontainers=true"
    left = (("ps", "-aq"), ("network", "ls", "-q"))
    before = [docker.line(*words, "--filter", mine) for words in left]
    assert engine.network is not None
    with engine.network.inside():
        yield
    assert [docker.line(*words, "--filter", mine) for words in left] == before


@pytest.fixture
def box_of(busybox: str) -> Callable[..., DockerContainer]:
    """A function from a shell script to a container that is not started yet."""
    return lambda script: DockerContainer(busybox).with_command(["sh", "-c", script])


@pytest.fixture
def web(box_of: Callable[..., DockerContainer]) -> DockerContainer:
    """A web server, not started yet, that serves `said`."""
    return box_of(WEB).with_env("WORD", "said").with_exposed_ports(80)


def quick(strategy: Any, seconds: int = 20) -> Any:
    """The strategy with shorter waits."""
    return strategy.with_poll_interval(0.05).with_startup_timeout(seconds)


def fetch(box: DockerContainer, port: int = 80) -> str:
    """What a container serves, by the address that the library says."""
    url = f"http://{box.get_container_host_ip()}:{box.get_exposed_port(port)}/index.html"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode().strip()


def test_what_a_container_is_given(
    box_of: Callable[..., DockerContainer], tmp_path: Path, docker: Client
) -> None:
    (tmp_path / "env").write_text("FILED=filed\n# no\nQUOTED='a b'\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/in").write_text("from the host\n")
    volume = "wt-testcontainers"
    box = (
        box_of('echo "$A $B $FILED $QUOTED"; cat /shared/in; echo back >/writable/out; hostname; '
               "grep -c ' /scratch tmpfs .*size=4096k' /proc/mounts; touch /shared/no; exit 3")
        .with_env("A", "a").with_envs(B="b").with_env_file(tmp_path / "env").with_name("wt-given")
        .with_volume_mapping(tmp_path / "shared", "/shared")
        .with_volume_mapping(volume, "/writable", "rw")
        .with_tmpfs_mount("/scratch", "size=4m")
        .with_kwargs(hostname="named", mem_limit="64m", labels={"mine": "yes"}, working_dir="/tmp")
    )  # fmt: skip
    try:
        with box:
            assert box.wait() == 3
            out, err = box.get_logs()
            assert out.decode().split("\n")[:4] == ["a b filed a b", "from the host", "named", "1"]
            assert b"Read-only file system" in err
            assert (box.status, box.reload(), box.status) == ("created", None, "exited")
            info = box.get_container_info()
            assert info is not None and info.State is not None and info.State.ExitCode == 3
            labels = box.get_wrapped_container().labels
            assert (labels["mine"], labels["org.testcontainers"]) == ("yes", "true")
            assert (
                docker.line("ps", "-aqf", "name=wt-given", "--no-trunc") == box.get_container_id()
            )
        with box_of("cat /old/out").with_volume_mapping(volume, "/old") as again:
            assert again.wait() == 0 and again.get_logs()[0] == b"back\n"
    finally:
        docker("volume", "rm", volume)


def test_ports(web: DockerContainer, box_of: Callable[..., DockerContainer]) -> None:
    web.with_exposed_ports("81/tcp").with_bind_ports("80/tcp", 18480).with_bind_ports(
        82, "18482/udp"
    )
    with web.waiting_for(quick(waits.PortWaitStrategy(80))):
        assert web.get_exposed_port(80) == 18480
        assert fetch(web) == "said"
        assert 1024 < web.get_exposed_port(81) not in (18480, 18482)
        ports = web.get_wrapped_container().ports
        assert (ports["82/udp"] or [{}])[0]["HostPort"] == "18482"
        with pytest.raises(ConnectionError):
            web.get_exposed_port(999)
    # The port is free again at once.
    with (
        box_of(WEB).with_bind_ports(80, 18480).waiting_for(quick(waits.PortWaitStrategy(80))) as box
    ):
        assert fetch(box) == ""


def test_exec(box_of: Callable[..., DockerContainer]) -> None:
    with box_of("trap exit TERM; sleep 600 & wait") as box:
        assert box.exec(["sh", "-c", "echo out; echo err >&2; exit 4"]) == (4, b"out\nerr\n")
        assert box.exec("echo 'two words'").output == b"two words\n"
        assert box.exec("/nothing/here").exit_code == 127
        config = ExecConfig(
            ["sh", "-c", "echo $(id -u) $X $PWD; grep CapEff /proc/self/status"],
            user="33", environment={"X": "x"}, workdir="/var", privileged=True,
        )  # fmt: skip
        said = box.exec(config).output.split()
        assert said[:3] == [b"33", b"x", b"/var"]


def test_copying(box_of: Callable[..., DockerContainer], tmp_path: Path) -> None:
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/file").write_text("deep\n")
    (tmp_path / "seed").write_bytes(bytes(range(256)) * 4096)
    box = (
        box_of("cat /begin/bytes /tree/tree/deep/file; /begin/program; trap exit TERM; sleep 600 & wait")
        .with_copy_into_container(b"given\n", "/begin/bytes")
        .with_copy_into_container(b"#!/bin/sh\necho ran\n", "/begin/program", 0o755)
        .with_copy_into_container(tmp_path / "tree", "/tree")
        .waiting_for(quick(waits.LogMessageWaitStrategy("ran")))
    )  # fmt: skip
    with box:
        # Before its first process began: that one read them.
        assert box.get_logs()[0] == b"given\ndeep\nran\n"
        box.copy_into_container(tmp_path / "seed", "/tmp/new/seed", 0o600)
        assert box.exec("stat -c '%a %s' /tmp/new/seed").output == b"600 1048576\n"
        box.copy_from_container("/tmp/new/seed", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "seed").read_bytes()


def test_waiting_for_logs(box_of: Callable[..., DockerContainer]) -> None:
    script = "echo begun; sleep 0.3; echo ready >&2; trap exit TERM; sleep 600 & wait"
    both = waits.LogMessageWaitStrategy("(?m)^(begun|ready)$", predicate_streams_and=True)
    with box_of(script).waiting_for(quick(both)) as box:
        assert box.get_logs() == (b"begun\n", b"ready\n")
        with pytest.warns(DeprecationWarning):
            wait_for_logs(box, "begun", timeout=30)
        with pytest.raises(TimeoutError, match="'never'"):
            quick(waits.LogMessageWaitStrategy("never"), 0).wait_until_ready(box)
    with pytest.raises(RuntimeError, match="exit code: 5"):
        box_of("exit 5").waiting_for(quick(waits.LogMessageWaitStrategy("x"))).__enter__()


def test_waiting_for_http(web: DockerContainer) -> None:
    web.waiting_for(quick(waits.HttpWaitStrategy(80, "/index.html").for_status_code(200)))
    with web:
        for strategy in (
            waits.HttpWaitStrategy(80, "/none").for_status_code(404),
            waits.HttpWaitStrategy(80, "/none").for_status_code_matching(lambda code: code > 400),
            waits.HttpWaitStrategy(80, "/index.html").for_response_predicate(lambda t: "said" in t),
            waits.HttpWaitStrategy(80).with_method("POST").with_body("x").for_status_code(501),
        ):
            quick(strategy).wait_until_ready(web)
        with pytest.raises(TimeoutError):
            quick(waits.HttpWaitStrategy(80, "/none"), 0).wait_until_ready(web)


def test_waiting_for_health(box_of: Callable[..., DockerContainer]) -> None:
    def checked(script: str, test: str, **more: Any) -> DockerContainer:
        check = {"test": ["CMD-SHELL", test], "interval": 200_000_000, **more}
        return box_of(script).with_kwargs(healthcheck=check)

    strategy = quick(waits.HealthcheckWaitStrategy())
    script = "sleep 0.5; touch /ready; trap exit TERM; sleep 600 & wait"
    with checked(script, "test -e /ready", retries=100).waiting_for(strategy) as box:
        assert box.get_wrapped_container().health == "healthy"
    box = checked("sleep 600", "echo why; exit 6", retries=2).waiting_for(strategy)
    with pytest.raises(RuntimeError, match="Exit code: [16], Output: why"):
        box.__enter__()
    with box_of("sleep 600") as plain, pytest.raises(RuntimeError, match="No health check"):
        strategy.wait_until_ready(plain)


def test_waiting_for_other_things(
    web: DockerContainer, box_of: Callable[..., DockerContainer], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    web.with_volume_mapping(tmp_path / "out", "/out", "rw")
    web.with_command(["sh", "-c", f"touch /out/there; {WEB}"])
    web.waiting_for(
        quick(
            waits.CompositeWaitStrategy(
                waits.ContainerStatusWaitStrategy(),
                waits.FileExistsWaitStrategy(tmp_path / "out/there"),
                waits.ExecWaitStrategy(["test", "-e", "/www/index.html"]),
                waits.ExecWaitStrategy(["sh", "-c", "exit 9"], expected_exit_code=9),
                waits.PortWaitStrategy(80),
                waits.HttpWaitStrategy(80),
            )
        )
    )
    with web:
        assert fetch(web) == "said"
    with box_of("exit 1") as ended:
        ended.wait()
        with pytest.raises(TimeoutError):
            quick(waits.ContainerStatusWaitStrategy(), 0).wait_until_ready(ended)


def test_networks(
    web: DockerContainer, box_of: Callable[..., DockerContainer], docker: Client
) -> None:
    asking = "trap exit TERM; sleep 600 & wait"
    with Network() as network, Network(docker_network_kw={"internal": True}) as inner:
        web.with_network(network).with_network_aliases("site", "other")
        web.waiting_for(quick(waits.LogMessageWaitStrategy("listening")))
        with web, box_of(asking).with_network(network) as asker, box_of(asking) as outsider:
            name = web.get_wrapped_container().name
            for known in ("site", "other", name):
                said = asker.exec(["wget", "-qO-", f"http://{known}/"])
                assert said == (0, b"said\n"), known
            assert outsider.exec(["wget", "-qO-", "http://site/"]).exit_code != 0
            network.connect(outsider.get_container_id(), ["late"])
            assert outsider.exec(["wget", "-qO-", "http://site/"]).output == b"said\n"
            eventually(lambda: asker.exec(["nslookup", "late"]).exit_code == 0)
            inner.connect(web.get_container_id())
            assert docker.line("network", "inspect", "-f", "{{.Internal}}", inner.name) == "true"
    assert not docker.line("network", "ls", "-qf", f"name={network.name}")


@pytest.mark.parametrize("mode", list(ConnectionMode))
def test_ways_to_a_container(
    mode: ConnectionMode, web: DockerContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the host, as beside it in a container, as in the container's own network."""
    monkeypatch.setattr(config, "connection_mode_override", mode)
    with web.waiting_for(quick(waits.PortWaitStrategy(80))):
        assert fetch(web) == "said"
        host = web.get_container_host_ip()
        assert (host == "127.0.0.1") == (mode is ConnectionMode.docker_host)
        assert (web.get_exposed_port(80) == 80) == (mode is ConnectionMode.bridge_ip)


def test_images(busybox: str, tmp_path: Path, docker: Client) -> None:
    (tmp_path / "file").write_text("copied\n")
    text = f"FROM {busybox}\nARG WORD=none\nCOPY file /file\nRUN echo $WORD >/word\nCMD cat /word /file\n"
    (tmp_path / "Other").write_text(text)
    options: dict[str, Any] = {"dockerfile_path": "Other", "buildargs": {"WORD": "argued"}}
    with DockerImage(tmp_path, tag="wt-built:1", labels={"a": "b"}, **options) as image:
        assert str(image) == "wt-built:1" and image.get_wrapped_image().labels == {"a": "b"}
        logs = "".join(str(line) for line in image.get_logs())
        assert "Step 1/5" in logs and "Successfully tagged wt-built:1" in logs
        with DockerContainer(str(image)) as box:
            assert box.wait() == 0 and box.get_logs()[0] == b"argued\ncopied\n"
    assert not docker.line("images", "-q", "wt-built")
    (tmp_path / "Other").write_text(f"FROM {busybox}\nRUN echo told; exit 7\n")
    broken = DockerImage(tmp_path, dockerfile_path="Other", no_cache=True)
    with pytest.raises(Exception, match="returned a non-zero code: 7"):
        broken.build()
    broken.get_docker_client().client.close()


def test_several_at_once(busybox: str) -> None:
    said: dict[int, str] = {}

    def one(number: int) -> None:
        box = (
            DockerContainer(busybox).with_command(["sh", "-c", WEB]).with_env("WORD", f"w{number}")
        )
        box.with_exposed_ports(80).waiting_for(quick(waits.HttpWaitStrategy(80, "/index.html")))
        with box:
            said[number] = fetch(box)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == {number: f"w{number}" for number in range(8)}


# Compose

PROJECT = """
services:
  web:
    build: {{context: site, args: {{WORD: built}}}}
    environment: {{SET: "$SET"}}
    ports: ["127.0.0.1::80", "127.0.0.1::81"]
    volumes: ["kept:/kept"]
  side:
    image: {image}
    command: ["sh", "-c", "echo side-$SET; trap exit TERM; sleep 600 & wait"]
    depends_on: [web]
  extra:
    image: {image}
    command: ["sh", "-c", "trap exit TERM; sleep 600 & wait"]
    profiles: [more]
volumes: {{kept: }}
"""


@pytest.fixture
def folder(
    busybox: str, tmp_path: Path, docker: Client, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A Compose project's folder, with Compose as the docker client's plugin."""
    plugins = tmp_path / "docker/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(find_compose())
    monkeypatch.setenv("DOCKER_CONFIG", str(plugins.parent))
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "wt-tc-compose")
    folder = tmp_path / "project"
    (folder / "site").mkdir(parents=True)
    (folder / "compose.yaml").write_text(PROJECT.format(image=busybox))
    (folder / "site/Dockerfile").write_text(
        f"FROM {busybox}\nARG WORD\nRUN mkdir /www; echo $WORD >/www/index.html\n"
        'CMD ["sh", "-c", "echo listening; trap exit TERM; httpd -f -h /www & wait"]\n'
    )
    (folder / "set.env").write_text("SET=set\n")
    yield folder
    mine = ("--filter", "label=com.docker.compose.project=wt-tc-compose")
    docker("image", "rm", "-f", "wt-tc-compose-web", check=False)
    for words in (("ps", "-aq"), ("network", "ls", "-q"), ("volume", "ls", "-q")):
        assert not docker.line(*words, *mine)


def test_a_compose_project(folder: Path) -> None:
    compose = DockerCompose(
        folder, compose_file_name="compose.yaml", build=True, env_file="set.env", profiles=["more"]
    )
    with compose.waiting_for({"web": quick(waits.LogMessageWaitStrategy("listening"))}):
        running = {one.Service: one for one in compose.get_containers()}
        assert set(running) == {"web", "side", "extra"}
        assert {one.State for one in running.values()} == {"running"}
        host, port = compose.get_service_host_and_port("web", 80)
        assert (host, port) == ("127.0.0.1", compose.get_service_port("web", 80))
        assert compose.wait_for(f"http://{host}:{port}/") is compose
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as answer:
            assert answer.read() == b"built\n"
        out, err, code = compose.exec_in_container(["sh", "-c", "echo $SET; echo e >&2"], "web")
        assert (out, err, code) == ("set\n", "e\n", 0)
        assert "side-set" in compose.get_logs("side")[0]
        info = compose.get_container("web").get_container_info()
        assert info is not None and info.Config is not None and "SET=set" in (info.Config.Env or [])
        assert set(compose.get_config()["services"]) == {"web", "side", "extra"}
    assert compose.get_containers(include_all=True) == []


def test_a_compose_project_s_parts(folder: Path, docker: Client) -> None:
    compose = DockerCompose(
        folder, build=True, quiet_build=False, services=["web"], keep_volumes=True, wait=False,
        env_file="set.env",
    )  # fmt: skip
    with compose:
        assert [one.Service for one in compose.get_containers()] == ["web"]
        compose.exec_in_container(["touch", "/kept/file"])
    assert [one.State for one in compose.get_containers(include_all=True)] == ["exited"]
    compose.keep_volumes = False
    with compose:
        assert compose.exec_in_container(["ls", "/kept"], "web")[0] == "file\n"
    assert not docker.line("volume", "ls", "-qf", "name=wt-tc-compose_kept")
