"""What an engine does to its host's network, as one host sees it from a start to `wherryd stop`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.hosts import Site

IMAGE = "bb:1"


def links(site: Site) -> set[str]:
    """The names of the host's links that were not there before."""
    lines = site.host.ip("-o", "link").splitlines()
    return {line.split(":")[1].strip().partition("@")[0] for line in lines} - {"lo", "up0"}


def rules(site: Site) -> str:
    """The host's rules."""
    return site.host.run("nft", "list", "ruleset")


def fetch(site: Site, port: int, path: str) -> str:
    """What an outsider is answered at a port of the host, once somebody answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with site.outside.connect(site.HOST, port) as client:
                client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return b"".join(iter(lambda: client.recv(4096), b"")).decode()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def site() -> Iterator[Site]:
    """A host with an uplink, and an outsider."""
    with Site() as site:
        yield site


@pytest.fixture
def made(
    site: Site, new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> Callable[..., tuple[Engine, Client]]:
    """A function that starts an engine with an image on the site's host."""

    def make(*options: str) -> tuple[Engine, Client]:
        engine = new_engine(*options, host=site.host)
        docker = docker_for(engine)
        docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
        return engine, docker

    return make


def test_from_start_to_stop(site: Site, made: Callable[..., tuple[Engine, Client]]) -> None:
    engine, docker = made()
    docker("network", "create", "net")
    docker("run", "-d", "--name", "web", "--network", "net", "-p", "8080:80", IMAGE, "sleep", "60")
    assert len(links(site)) == 3 and "dnat" in rules(site)
    docker("rm", "-f", "web")
    # The end of a namespace is the kernel's business, and not waited for.
    assert len({name for name in links(site) if not name.startswith("wv")}) == 2
    engine.close()
    assert links(site) == set() and rules(site) == ""


@pytest.mark.parametrize(
    "place", ["supervisor.after-store", "supervisor.after-begin", "supervisor.before-answer"]
)
def test_killed_in_the_middle_of_a_start(
    site: Site,
    made: Callable[..., tuple[Engine, Client]],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    monkeypatch.setenv("WHERRY_FAILPOINTS", f"{place}=kill")
    engine, docker = made()
    words = ("run", "--rm", "-p", "8080:80", IMAGE, "true")
    docker(*words, check=False)
    engine.crash()
    monkeypatch.delenv("WHERRY_FAILPOINTS")
    engine.close()
    assert links(site) == set() and rules(site) == ""


def test_the_daemon_killed_with_ports_published(
    site: Site,
    made: Callable[..., tuple[Engine, Client]],
) -> None:
    engine, docker = made()
    script = "echo hello > /tmp/i; exec /bin/busybox httpd -f -p 80 -h /tmp"
    docker("run", "-d", "--name", "web", "-p", "8080:80", IMAGE, "sh", "-c", script)
    docker("run", "-d", "--name", "gone", "-p", "8081:80", IMAGE, "sleep", "60")
    pid = int(docker.line("inspect", "-f", "{{.State.Pid}}", "gone"))
    engine.crash()
    subprocess.run(["kill", "-9", str(pid)], check=True)
    site.host.run("nft", "flush", "ruleset")
    site.host.ip("link", "del", "wherry0")
    engine.start()
    # The bridge was taken from under the container; its outer end is put back with a restart.
    docker("restart", "-t", "0", "web")
    assert fetch(site, 8080, "/i").endswith("hello\n")
    # The dead one's port is free.
    docker("run", "--rm", "-p", "8081:80", IMAGE, "true")


def test_info_tells_of_firewalls_in_the_way(
    site: Site,
    made: Callable[..., tuple[Engine, Client]],
) -> None:
    chain = "type filter hook forward priority 10; policy accept; reject"
    site.host.nft(f"table inet firewalld {{ chain filter_FORWARD {{ {chain}; }}; }}")
    _, docker = made()
    assert "firewall-cmd --permanent --zone=trusted" in docker("info", "-f", "{{.Warnings}}").stdout


def test_links_where_containers_do_not_reach_each_other(
    made: Callable[..., tuple[Engine, Client]],
) -> None:
    mtu = "com.docker.network.driver.mtu"
    engine, docker = made("--icc=false", "--default-network-opt", f"bridge={mtu}=1402")
    script = "echo hi > /tmp/i; httpd -f -p 81 -h /tmp & exec httpd -f -p 80 -h /tmp"
    docker("run", "-d", "--name", "web", "--expose", "80", IMAGE, "sh", "-c", script)
    docker("run", "-d", "--name", "one", "--link", "web:db", IMAGE, "sleep", "600")
    docker("run", "-d", "--name", "other", IMAGE, "sleep", "600")

    def fetch(name: str, port: int) -> str:
        address = docker.line("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
        # The wget of a static busybox wants libraries.
        asked = f"printf 'GET /i HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} {port} | tail -n 1"
        return docker("exec", name, "sh", "-c", asked, check=False).stdout.strip()

    def until_linked() -> None:
        deadline = time.monotonic() + 20
        while fetch("one", 80) != "hi":
            assert time.monotonic() < deadline
        assert (fetch("one", 81), fetch("other", 80)) == ("", "")

    until_linked()
    # Another address after a restart, while somebody else has the one before.
    docker("stop", "-t", "0", "web")
    docker("run", "-d", "--name", "squatter", IMAGE, "sleep", "600")
    docker("start", "web")
    until_linked()
    engine.crash()
    engine.start()
    until_linked()
    docker("rm", "--link", "one/db")
    assert fetch("one", 80) == ""
    docker("network", "create", "net")
    assert mtu in docker("network", "inspect", "net").stdout
    inside = docker("run", "--rm", "--network", "net", IMAGE, "cat", "/sys/class/net/eth0/mtu")
    assert inside.stdout.strip() == "1402"


@pytest.mark.parametrize(
    "place", ["connect.kept", "connect.made", "disconnect.kept", "supervisor.wired"]
)
def test_killed_in_the_middle_of_a_connect(
    made: Callable[..., tuple[Engine, Client]], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("WHERRY_FAILPOINTS", f"{place}=kill")
    engine, docker = made()
    docker("run", "-d", "--name", "box", IMAGE, "sleep", "600")
    docker("network", "create", "--subnet", "10.99.0.0/24", "a")
    if place == "disconnect.kept":
        docker("network", "connect", "a", "box")
    verb = "disconnect" if place.startswith("dis") else "connect"
    assert docker("network", verb, "a", "box", check=False).returncode == 1
    monkeypatch.delenv("WHERRY_FAILPOINTS")
    if not place.startswith("supervisor"):
        engine.crash()
        engine.start()

    def inside() -> tuple[str, str]:
        facts = "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}"
        named = docker.line("inspect", "-f", facts, "box").strip()
        return named, " ".join(docker("exec", "box", "ls", "/sys/class/net").stdout.split())

    def until(*wanted: str) -> None:
        deadline = time.monotonic() + 20
        while inside() != wanted:
            assert time.monotonic() < deadline, inside()
            time.sleep(0.05)

    until("bridge", "eth0 lo")
    assert "default via 172.17.0.1 dev eth0" in docker("exec", "box", "ip", "route").stdout
    docker("run", "--rm", "--network", "a", "--ip", "10.99.0.2", IMAGE, "true")
    if place.startswith("supervisor"):
        return  # the new one has the failpoint too
    docker("network", "connect", "--ip", "10.99.0.2", "a", "box")
    until("a bridge", "eth0 eth1 lo")
    assert "default via 10.99.0.1 dev eth1" in docker("exec", "box", "ip", "route").stdout
