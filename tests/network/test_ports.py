"""Published ports: who has which, what is refused and what the refusal says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from tests.harness.hosts import Site, talk
from tests.network.rig import Rig, tcp, udp
from wherry.model.errors import Conflict, Invalid
from wherry.model.networks import Endpoint, Network, PortWish
from wherry.network import holders


def test_a_port_of_another_container_is_refused_by_its_name(rig: Rig) -> None:
    network = rig.network("net")
    rig.box("web", network, ports=(tcp(80, 8080), udp(53, 8080)))
    for address in ("", "127.0.0.1", "0.0.0.0", "::1"):
        with pytest.raises(Conflict) as caught:
            rig.box("other", network, ports=(tcp(81, 8081), tcp(80, 8080, address)))
        assert "port is already allocated" in caught.value.message
        assert "container web" in caught.value.hint
    # What was taken before the refusal is free again.
    rig.box("third", network, ports=(tcp(80, 8081), udp(80, 8081)))


def test_a_port_of_a_process_is_refused_by_its_name(rig: Rig, site: Site) -> None:
    network = rig.network("net")
    with site.host.listen("127.0.0.1", 8080):
        with pytest.raises(Conflict) as caught:
            rig.do(rig.networks.publish("a" * 64, "web", [tcp(80, 8080)], _endpoint(rig, network)))
    assert (
        "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use"
        in (caught.value.message)
    )
    # The holder is this very process, which is left out of its own search.
    assert caught.value.hint


def test_the_holder_is_found(site: Site) -> None:
    with site.host.listen("127.0.0.1", 8080) as server, site.host.bind("::1", 8080) as datagrams:
        for proto, end in (("tcp", server), ("udp", datagrams)):
            table = "tcp" if proto == "tcp" else "udp6"
            with site.host.inside():
                text = open(f"/proc/thread-self/net/{table}").read()
            inode = os.fstat(end.fileno()).st_ino
            assert holders.parse_sockets(text, proto, 8080) == {inode}
            assert holders.parse_sockets(text, proto, 8081) == set()


def _endpoint(rig: Rig, network: Network) -> list[Endpoint]:
    return rig.box("box", network).endpoints


def test_no_process_gets_a_published_port(rig: Rig, site: Site) -> None:
    box = rig.box("box", rig.network("net"), ports=(tcp(80, 8080), udp(53, 5353)))
    for address in ("0.0.0.0", "127.0.0.1", "::", "::1"):
        with pytest.raises(OSError, match="in use"):
            site.host.listen(address, 8080)
        with pytest.raises(OSError, match="in use"):
            site.host.bind(address, 5353)
    rig.stop(box)
    site.host.listen("0.0.0.0", 8080).close()
    site.host.bind("0.0.0.0", 5353).close()


def test_two_engines_do_not_share_a_port(new_rig: Callable[..., Rig]) -> None:
    first, second = new_rig(), new_rig()
    first.box("web", first.network("net"), ports=(tcp(80, 8080),))
    with pytest.raises(Conflict, match="address already in use"):
        second.box("web", second.network("net"), ports=(tcp(80, 8080),))


def test_ranges_and_open_ports(rig: Rig, site: Site) -> None:
    network = rig.network("net")
    boxes = [rig.box(f"r{n}", network, ports=(tcp(80, 9000, end=9002),)) for n in range(3)]
    assert [box.ports[0].host_port for box in boxes] == [9000, 9001, 9002]
    with pytest.raises(Conflict, match="all ports are allocated"):
        rig.box("r3", network, ports=(tcp(80, 9000, end=9002),))
    first, last = 0, 0
    with site.host.inside():
        first, last = holders.ephemeral_range()
    opened = [rig.box(f"e{n}", network, ports=(tcp(80), tcp(81))) for n in range(2)]
    numbers = [
        port.host_port for box in opened for port in box.ports if ":" not in port.host_address
    ]
    assert len(set(numbers)) == 4 and all(first <= number <= last for number in numbers)
    # Both families have the same number.
    for box in opened:
        for port in (80, 81):
            assert len({p.host_port for p in box.ports if p.container_port == port}) == 1
    with opened[1].listen("0.0.0.0", 81) as server:
        talk(site.outside.connect(site.HOST, numbers[3]), server)


def test_what_cannot_be_published(rig: Rig) -> None:
    network = rig.network("net")
    for wish in (
        PortWish("icmp", 80),
        tcp(0, 80),
        tcp(80, 65536),
        tcp(80, 10, end=9),
        tcp(80, 80, "192.0.2.300"),
        tcp(80, 80, "203.0.113.9"),
    ):
        with pytest.raises(Invalid):
            rig.box("box", network, ports=(wish,))


def test_sctp_is_published_with_or_without_its_sockets(rig: Rig) -> None:
    box = rig.box("box", rig.network("net"), ports=(PortWish("sctp", 80, "", 8080),))
    assert {port.host_port for port in box.ports} == {8080}
    listed = rig.site.host.run("nft", "list", "map", "inet", rig.networks._filter.table, "any4")
    assert "sctp . 8080 : 172.17.0.2 . 80" in listed


def test_a_thousand_ports_cost_no_more_than_one(rig: Rig) -> None:
    network = rig.network("net")
    box = rig.box("many", network)
    rig.do(
        rig.networks.publish(
            box.container_id, "many", [tcp(n, 10000 + n) for n in range(1, 1001)], box.endpoints
        )
    )
    other = rig.box("one", network)

    async def timed() -> list[float]:
        spent = []
        for _ in range(20):
            start = time.perf_counter()
            await rig.networks.publish(other.container_id, "one", [tcp(1, 80)], other.endpoints)
            spent.append(time.perf_counter() - start)
            await rig.networks.unpublish(other.container_id)
        return spent

    assert min(rig.do(timed())) < 0.003


def test_udp_flows_follow_the_next_container(rig: Rig, site: Site) -> None:
    network = rig.network("net")
    box = rig.box("one", network, ports=(udp(53, 5353),))
    with site.outside.bind("0.0.0.0", 40000) as client:
        with box.bind("0.0.0.0", 53) as server:
            client.sendto(b"a", (site.HOST, 5353))
            assert server.recvfrom(10)[0] == b"a"
        rig.box("filler", network)
        rig.stop(box)
        rig.box("taker", network)  # it has the first one's address now
        again = rig.box("two", network, ports=(udp(53, 5353),))
        assert again.ipv4 != box.ipv4
        with again.bind("0.0.0.0", 53) as server:
            client.sendto(b"b", (site.HOST, 5353))
            assert server.recvfrom(10)[0] == b"b"
