"""Containers find each other by name: asked from inside with real packets, on wherry and on Docker alike."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.boxes import SLEEP, Boxes, eventually
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.network.names import FakeUpstream
from tests.network.questions import Response, exchange, question, take_apart
from tests.network.spaces import Space
from wherry.network.dns import message
from wherry.network.dns.message import Query, record, respond

Inspect = Callable[..., object]


def ask(
    pid: int, name: str, kind: str | int = "A", *, tcp: bool = False, edns: int = 0
) -> Response:
    """Ask 127.0.0.11:53 from inside the network namespace of a process."""
    with Space(pid) as space:
        data = question(name, kind, edns=edns)
        return take_apart(asyncio.run(exchange(space, 53, data, tcp=tcp)))


@dataclass(frozen=True)
class Neighbours:
    """Two networks and who is in them: a in both, b and c in the first, d in the second."""

    first: str
    second: str
    names: dict[str, str]
    pids: dict[str, int]
    addresses: dict[str, dict[str, str]]

    def ask(self, who: str, name: str, kind: str = "A", *, tcp: bool = False) -> Response:
        """Ask from inside one of them; {a} is a's name and so on."""
        words = self.names | {"first": self.first, "second": self.second}
        return ask(self.pids[who], name.format(**words), kind, tcp=tcp)


@pytest.fixture(scope="module")
def neighbours(docker: Client, module_boxes: Boxes, inspect: Inspect) -> Iterator[Neighbours]:
    first, second = (f"wt-{secrets.token_hex(4)}" for _ in range(2))
    subnet = f"fd{secrets.token_hex(1)}:{secrets.token_hex(2)}::/64"
    docker("network", "create", "--ipv6", "--subnet", subnet, first)
    docker("network", "create", "--ipv6=false", second)
    names = {who: module_boxes.name() for who in "abcd"}
    try:

        def start(who: str, network: str, *flags: str) -> None:
            image = (module_boxes.image, *SLEEP)
            docker("run", "-d", "--name", names[who], "--network", network, *flags, *image)

        start("a", first, "--network-alias", "same", "--network-alias", "A.Dotted")
        start("b", first, "--network-alias", "same")
        start("c", first, "--network-alias", "same", "--link", f"{names['b']}:linked")
        start("d", second, "--hostname", "dhost")
        docker("network", "connect", "--alias", "second", second, names["a"])
        addresses: dict[str, dict[str, str]] = {}
        for who, name in names.items():
            settings = inspect(name, ".NetworkSettings.Networks")
            assert isinstance(settings, dict)
            for network, one in settings.items():
                addresses.setdefault(who, {})[network] = one["IPAddress"]
                addresses[who][f"{network}/6"] = one["GlobalIPv6Address"]
        pids = {who: int(str(inspect(name, ".State.Pid"))) for who, name in names.items()}
        yield Neighbours(first, second, names, pids, addresses)
    finally:
        docker("rm", "-f", *names.values(), check=False)
        docker("network", "rm", first, second)


@pytest.mark.parametrize("tcp", [False, True])
def test_neighbours_are_found_by_all_their_names(neighbours: Neighbours, tcp: bool) -> None:
    n = neighbours
    a = n.addresses["a"]
    for name in ("{a}", "a.dotted", "{a}.{first}"):
        assert n.ask("b", name, tcp=tcp).answers == [a[n.first]], name
        assert n.ask("b", name, "AAAA", tcp=tcp).answers == [a[f"{n.first}/6"]]
    assert n.ask("b", n.names["a"].upper(), tcp=tcp).answers == [a[n.first]]
    assert n.ask("b", "SAME", tcp=tcp).ttls == [600] * 3
    assert n.ask("a", "{a}.{second}", tcp=tcp).answers == [a[n.second]]
    assert n.ask("d", "second", tcp=tcp).answers == [a[n.second]]
    assert n.ask("a", "dhost", tcp=tcp).answers == [n.addresses["d"][n.second]]
    assert n.ask("c", "linked", tcp=tcp).answers == [n.addresses["b"][n.first]]


def test_a_shared_alias_has_all_addresses_in_turn(neighbours: Neighbours) -> None:
    n = neighbours
    wanted = {n.addresses[who][n.first] for who in "abc"}
    firsts: set[str] = set()
    for _ in range(60):  # Docker draws lots
        answers = n.ask("a", "same").answers
        assert set(answers) == wanted
        firsts.add(answers[0])
    assert firsts == wanted


def test_short_ids_and_addresses_are_found(neighbours: Neighbours, docker: Client) -> None:
    n = neighbours
    short = docker.line("inspect", "-f", "{{.Id}}", n.names["a"])[:12]
    assert n.ask("b", short).answers == [n.addresses["a"][n.first]]
    backwards = ".".join(reversed(n.addresses["a"][n.first].split("."))) + ".in-addr.arpa"
    assert n.ask("b", backwards, "PTR").answers == [f"{n.names['a']}.{n.first}"]
    assert n.ask("d", backwards, "PTR").answers == []


def test_networks_do_not_see_each_other(neighbours: Neighbours) -> None:
    n = neighbours
    for who, name in (
        ("b", "{d}"),
        ("b", "second"),
        ("d", "same"),
        ("d", "{b}"),
        ("b", "{d}.{second}"),
    ):
        assert n.ask(who, name).answers == [], (who, name)
    # Only c is linked.
    assert n.ask("a", "linked").answers == []


def test_a_name_without_such_an_address_has_no_data(neighbours: Neighbours) -> None:
    seen = neighbours.ask("a", "{d}", "AAAA")
    assert (seen.code, seen.answers) == (0, [])
    seen = neighbours.ask("a", "{d}", "MX")
    assert (seen.code, seen.answers) == (0, [])


def test_the_container_is_told_to_ask_here(neighbours: Neighbours, docker: Client) -> None:
    text = docker("exec", neighbours.names["b"], "cat", "/etc/resolv.conf").stdout
    assert "nameserver 127.0.0.11\n" in text and "options ndots:0\n" in text
    name, address = neighbours.names["a"], neighbours.addresses["a"][neighbours.first]
    assert address in docker("exec", neighbours.names["b"], "nslookup", name).stdout


def test_a_new_name_and_a_gone_one(neighbours: Neighbours, docker: Client, boxes: Boxes) -> None:
    n = neighbours
    old, new = boxes.name(), boxes.name()
    docker("run", "-d", "--name", old, "--network", n.first, boxes.image, *SLEEP)
    assert len(n.ask("b", old).answers) == 1
    docker("rename", old, new)
    assert len(n.ask("b", new).answers) == 1
    docker("network", "disconnect", n.first, new)
    assert n.ask("b", new).answers == []
    docker("network", "connect", "--alias", "back", n.first, new)
    assert len(n.ask("b", "back").answers) == 1
    docker("rm", "-f", new)
    assert n.ask("b", "back").answers == n.ask("b", new).answers == []


def test_given_resolvers_are_asked_from_inside(
    neighbours: Neighbours, docker: Client, boxes: Boxes, inspect: Inspect
) -> None:
    n = neighbours
    box = boxes.name()
    asked = (
        "--dns",
        n.addresses["b"][n.first],
        "--dns-search",
        "x.example",
        "--dns-option",
        "timeout:3",
    )
    docker("run", "-d", "--name", box, "--network", n.first, *asked, boxes.image, *SLEEP)
    text = docker("exec", box, "cat", "/etc/resolv.conf").stdout
    assert "\nsearch x.example\noptions timeout:3 ndots:0\n" in text
    pid = int(str(inspect(box, ".State.Pid")))

    def answer(query: Query, tcp: bool) -> bytes:
        return respond(query, [record(message.A, 9, bytes([192, 0, 2, 9]))], room=65535)

    async def test() -> None:
        with Space(n.pids["b"]) as there, Space(pid) as here:
            fake = FakeUpstream(there, n.addresses["b"][n.first], answer)
            try:
                for tcp in (False, True):
                    data = question("outside.example")
                    seen = take_apart(await exchange(here, 53, data, tcp=tcp))
                    assert (seen.answers, seen.ttls) == (["192.0.2.9"], [9])
                assert fake.seen == [("outside.example", False), ("outside.example", True)]
            finally:
                await fake.close()

    asyncio.run(test())


# -- what only wherry promises ---------------------------------------------------------------------


@pytest.fixture
def pair(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> Iterator[Pair]:
    """An engine of its own with two containers in a network."""
    engine = new_engine()
    docker = docker_for(engine)
    docker.raw("import", "-c", "CMD sh", "-", "box", stdin=busybox_tar())
    docker("network", "create", "net")
    for name in ("web", "db"):
        docker("run", "-d", "--name", name, "--network", "net", "box", *SLEEP)
    yield Pair(engine, docker)


@dataclass(frozen=True)
class Pair:
    """The engine, and its client."""

    engine: Engine
    docker: Client

    def pid(self, name: str) -> int:
        """Return the pid of a container's first process."""
        return int(self.docker.line("inspect", "-f", "{{.State.Pid}}", name))

    def process(self) -> int:
        """Return the pid of the name service, 0 for none."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "comm").read_text() == "wherry-names\n":
                    if os.fsencode(self.engine.exec_root) in (entry / "cmdline").read_bytes():
                        return int(entry.name)
            except OSError:
                continue
        return 0


def answers(pid: int, name: str) -> bool:
    """Whether a name has an address now; False while nobody answers."""
    try:
        return ask(pid, name, tcp=True).answers != []
    except (OSError, AssertionError):
        return False


def test_answers_go_on_while_the_daemon_is_away(pair: Pair) -> None:
    pid = pair.pid("web")
    eventually(lambda: answers(pid, "db"))
    process = pair.process()
    pair.engine.crash()
    for _ in range(20):
        assert ask(pid, "db").answers != []
    pair.engine.start()
    assert ask(pid, "db").answers != []
    assert pair.process() == process
    pair.docker("rename", "db", "store")
    eventually(lambda: answers(pid, "store"))


def test_the_name_service_is_started_again_when_it_is_killed(pair: Pair) -> None:
    pid = pair.pid("web")
    eventually(lambda: answers(pid, "db"))
    os.kill(pair.process(), 9)
    eventually(lambda: answers(pid, "db"))
    # And when both are gone, the next daemon brings both back before it answers.
    pair.engine.crash()
    os.kill(pair.process(), 9)
    pair.engine.start()
    assert answers(pid, "db")


def test_it_ends_when_nobody_needs_it(pair: Pair) -> None:
    eventually(lambda: answers(pair.pid("web"), "db"))
    process = pair.process()
    assert process
    pair.docker("rm", "-f", "web", "db")
    pair.engine.halt()
    eventually(lambda: not pair.process(), 2)
    pair.engine.start()
    assert not pair.process()


def test_an_ended_container_leaves_no_link_while_the_daemon_is_away(pair: Pair) -> None:
    pid = pair.pid("web")
    eventually(lambda: answers(pid, "db"))
    assert pair.engine.network is not None
    before = links(pair)
    pair.engine.crash()
    os.kill(pid, 9)
    eventually(lambda: links(pair) == before - 1)
    pair.engine.start()


def links(pair: Pair) -> int:
    """Return how many veth ends the engine's host has."""
    assert pair.engine.network is not None
    return pair.engine.network.ip("-o", "link", "show", "type", "veth").count("\n")


def test_the_hosts_own_resolver_serves_though_it_listens_on_loopback(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client], tmp_path: Path
) -> None:
    """The host's resolv.conf names 127.0.0.53: containers ask through the host, but not from internal networks."""
    engine = new_engine()
    docker = docker_for(engine)
    host = engine.network
    assert host is not None
    servers = [
        words[1]
        for line in Path("/etc/resolv.conf").read_text().splitlines()
        if len(words := line.split()) > 1 and words[0] == "nameserver"
    ]
    if not servers:
        pytest.skip("this machine's resolv.conf names no server")
    # The address of the machine's own resolver, on the loopback of the engine's host.
    host.address("lo", f"{servers[0]}/{128 if ':' in servers[0] else 32}")
    docker.raw("import", "-c", "CMD sh", "-", "box", stdin=busybox_tar())
    docker("network", "create", "net")
    docker("network", "create", "--internal", "inner")
    docker("run", "-d", "--name", "web", "--network", "net", "box", *SLEEP)
    docker("run", "-d", "--name", "shut", "--network", "inner", "box", *SLEEP)
    web, shut = (int(docker.line("inspect", "-f", "{{.State.Pid}}", n)) for n in ("web", "shut"))

    def answer(query: Query, tcp: bool) -> bytes:
        return respond(query, [record(message.A, 9, bytes([192, 0, 2, 9]))], room=65535)

    async def test() -> None:
        there = Space(engine.pid)
        fake = FakeUpstream(there, servers[0], answer)
        try:
            with Space(web) as inside, Space(shut) as inner:
                data = question("outside.example")
                seen = take_apart(await exchange(inside, 53, data))
                assert seen.answers == ["192.0.2.9"]
                seen = take_apart(await exchange(inner, 53, data))
                assert seen.code == message.SERVFAIL
            assert len(fake.seen) == 1
        finally:
            await fake.close()
            there.close()

    asyncio.run(test())
