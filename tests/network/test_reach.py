"""Real packets: containers that find each other, reach out and are reached."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.harness.hosts import Host, Site, swap, talk
from tests.network.rig import Rig, tcp, udp
from wherry.network import options


def set_br_netfilter(host: Host, value: str) -> None:
    for name in ("iptables", "ip6tables"):
        host.sysctl(f"net.bridge.bridge-nf-call-{name}", value)


def test_containers_of_a_network_reach_each_other(rig: Rig) -> None:
    network = rig.network("net")
    one, two = rig.box("one", network), rig.box("two", network)
    for address, other in ((two.ipv4, one.ipv4), (two.ipv6, one.ipv6)):
        with two.listen(address, 80) as server:
            assert talk(one.connect(address, 80), server) == other


def test_containers_reach_outside_with_the_hosts_address(rig: Rig, site: Site) -> None:
    box = rig.box("box", rig.network("net"))
    for address, host in ((site.OUTSIDE, site.HOST), (site.OUTSIDE6, site.HOST6)):
        with site.outside.listen(address, 80) as server:
            assert talk(box.connect(address, 80), server) == host
        with (
            site.outside.bind(address, 53) as server,
            box.bind("::" if ":" in address else "0.0.0.0", 0) as client,
        ):
            assert swap(client, server, address, 53) == host


def test_the_host_reaches_containers(rig: Rig, site: Site) -> None:
    box = rig.box("box", rig.network("net"))
    for address in (box.ipv4, box.ipv6):
        with box.listen(address, 80) as server:
            talk(site.host.connect(address, 80), server)


def test_outsiders_reach_published_ports_only(rig: Rig, site: Site) -> None:
    box = rig.box("box", rig.network("net"), ports=(tcp(80, 8080), udp(53, 5353)))
    site.outside.ip("route", "add", "172.16.0.0/12", "via", site.HOST)
    with box.listen("0.0.0.0", 80) as server, box.listen("0.0.0.0", 81):
        # The source address is kept.
        assert talk(site.outside.connect(site.HOST, 8080), server) == site.OUTSIDE
        assert not site.outside.reaches(box.ipv4, 80)
        assert not site.outside.reaches(box.ipv4, 81)
        assert not site.outside.reaches(site.HOST, 81)
    with box.listen("::", 80) as server:
        assert talk(site.outside.connect(site.HOST6, 8080), server) == site.OUTSIDE6
    with box.bind("0.0.0.0", 53) as server, site.outside.bind("0.0.0.0", 0) as client:
        assert swap(client, server, site.HOST, 5353) == site.OUTSIDE


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.77", Site.HOST, "172.17.0.1"])
def test_the_host_reaches_published_ports(rig: Rig, site: Site, address: str) -> None:
    box = rig.box("box", rig.default(), ports=(tcp(80, 8080), udp(53, 5353)))
    with box.listen("0.0.0.0", 80) as server:
        talk(site.host.connect(address, 8080), server)
    with box.bind("0.0.0.0", 53) as server, site.host.bind("0.0.0.0", 0) as client:
        swap(client, server, address, 5353)


def test_a_port_on_one_address_is_reached_by_that_one(rig: Rig, site: Site) -> None:
    site.host.address("up0", "192.0.2.3/24")
    ports = (tcp(80, 8080, "192.0.2.3"), tcp(81, 8081, "127.0.0.1"))
    box = rig.box("box", rig.network("net"), ports=ports)
    with box.listen("0.0.0.0", 80) as server, box.listen("0.0.0.0", 81) as local:
        talk(site.outside.connect("192.0.2.3", 8080), server)
        assert not site.outside.reaches(site.HOST, 8080)
        assert not site.outside.reaches(site.HOST, 8081)
        assert not site.host.reaches("127.0.0.1", 8080)
        talk(site.host.connect("127.0.0.1", 8081), local)
        # A neighbour on the wire who sends to 127.0.0.1 reaches nothing.
        site.outside.ip("addr", "del", "127.0.0.1/8", "dev", "lo")
        site.outside.sysctl("net.ipv4.conf.all.route_localnet", "1")
        site.outside.ip("route", "replace", "127.0.0.1/32", "via", site.HOST)
        assert not site.outside.reaches("127.0.0.1", 8081)


@pytest.mark.parametrize("filtered", ["1", "0"])
def test_containers_reach_published_ports_of_themselves_and_others(
    rig: Rig, site: Site, filtered: str
) -> None:
    set_br_netfilter(site.host, filtered)
    first, second = rig.network("first"), rig.network("second")
    box = rig.box("box", first, ports=(tcp(80, 8080),))
    neighbour, stranger = rig.box("neighbour", first), rig.box("stranger", second)
    with box.listen("0.0.0.0", 80) as server:
        for who in (box, neighbour, stranger):
            talk(who.connect(site.HOST, 8080), server)
    with box.listen("::", 80) as server:
        for who in (box, neighbour, stranger):
            talk(who.connect(site.HOST6, 8080), server)


def test_networks_are_apart(rig: Rig) -> None:
    one, two = rig.box("one", rig.network("a")), rig.box("two", rig.network("b"))
    with two.listen("0.0.0.0", 80), two.listen("::", 80):
        assert not one.reaches(two.ipv4, 80)
        assert not one.reaches(two.ipv6, 80)


def test_a_container_in_two_networks_reaches_both(rig: Rig) -> None:
    a, b = rig.network("a"), rig.network("b")
    one, two, both = rig.box("one", a), rig.box("two", b), rig.box("both", a, b)
    for other in (one, two):
        with other.listen("0.0.0.0", 80) as server:
            talk(both.connect(other.ipv4, 80), server)


def test_internal_networks_reach_nothing_else(rig: Rig, site: Site) -> None:
    inner, outer = rig.network("inner", internal=True), rig.network("outer")
    one, two = rig.box("one", inner), rig.box("two", inner)
    other = rig.box("other", outer, ports=(tcp(80, 8080),))
    with two.listen("0.0.0.0", 80) as server:
        talk(one.connect(two.ipv4, 80), server)
        assert not other.reaches(two.ipv4, 80)
    gateway = inner.spec.pools[0].gateway
    one.ip("route", "add", "default", "via", gateway)
    with site.outside.listen("0.0.0.0", 80), other.listen("0.0.0.0", 80):
        for address, port in ((site.OUTSIDE, 80), (other.ipv4, 80), (site.HOST, 8080)):
            assert not one.reaches(address, port)


@pytest.mark.parametrize("filtered", ["1", "0"])
def test_without_icc_only_published_ports_are_reached(rig: Rig, site: Site, filtered: str) -> None:
    set_br_netfilter(site.host, filtered)
    network = rig.network("net", (options.ICC, "false"))
    one, two = rig.box("one", network), rig.box("two", network, ports=(tcp(80, 8080),))
    with two.listen("0.0.0.0", 80) as server, two.listen("::", 80):
        assert not one.reaches(two.ipv4, 80)
        assert not one.reaches(two.ipv6, 80)
        talk(one.connect(site.HOST, 8080), server)
    with site.outside.listen("0.0.0.0", 80) as server:
        talk(one.connect(site.OUTSIDE, 80), server)


@pytest.mark.parametrize("filtered", ["1", "0"])
def test_links_open_just_their_ports_where_icc_is_off(rig: Rig, site: Site, filtered: str) -> None:
    set_br_netfilter(site.host, filtered)
    network = rig.network("net", (options.ICC, "false"))
    one, two, three = (rig.box(name, network) for name in ("one", "two", "three"))

    def link(*targets: tuple[str, str, int]) -> None:
        with site.host.inside():
            rig.networks.link(one.container_id, one.endpoints[0], targets)

    with (
        two.listen("0.0.0.0", 80) as server,
        two.listen("0.0.0.0", 81),
        three.listen("0.0.0.0", 80),
    ):
        link((two.ipv4, "tcp", 80))
        talk(one.connect(two.ipv4, 80), server)
        assert not one.reaches(two.ipv4, 81)
        assert not one.reaches(three.ipv4, 80) and not three.reaches(two.ipv4, 80)
        rig.open()
        talk(one.connect(two.ipv4, 80), server)
        link()
        assert not one.reaches(two.ipv4, 80)
    if filtered == "0":
        path = f"/proc/sys/net/ipv4/conf/{network.link}/proxy_arp_pvlan"
        assert site.host.run("cat", path).strip() == "0"


def test_who_may_come_directly(site: Site, new_rig: Callable[..., Rig]) -> None:
    rig = new_rig(allow_direct=True)
    box = rig.box("box", rig.network("net"), ports=(tcp(80, 8080),))
    site.outside.ip("route", "add", "172.16.0.0/12", "via", site.HOST)
    for _ in range(2):
        with box.listen("0.0.0.0", 80) as server, box.listen("0.0.0.0", 81):
            assert talk(site.outside.connect(box.ipv4, 80), server) == site.OUTSIDE
            assert not site.outside.reaches(box.ipv4, 81)
        rig.reopen()


def test_trusted_links_may_come_directly(rig: Rig, site: Site) -> None:
    site.outside.ip("route", "add", "172.16.0.0/12", "via", site.HOST)
    boxes = [
        rig.box(name, rig.network(name, (options.TRUSTED, trusted)), ports=(tcp(80),))
        for name, trusted in (("yes", "up7:up0"), ("no", "up7"))
    ]
    for _ in range(2):
        for box, trusted in zip(boxes, (True, False), strict=True):
            with box.listen("0.0.0.0", 80) as server, box.listen("0.0.0.0", 81):
                if trusted:
                    assert talk(site.outside.connect(box.ipv4, 80), server) == site.OUTSIDE
                assert site.outside.reaches(box.ipv4, 80, seconds=20 if trusted else 0.4) == trusted
                assert not site.outside.reaches(box.ipv4, 81)
        rig.reopen()


def test_a_source_address_of_ones_own(rig: Rig, site: Site) -> None:
    site.host.address("up0", "192.0.2.77/24")
    chosen = ((options.SOURCE4, "192.0.2.77"),)
    box = rig.box("box", rig.network("net", *chosen), ports=(tcp(80, 8080),))
    plain = rig.box("plain", rig.network("other"))
    with site.outside.listen("0.0.0.0", 80) as server:
        assert talk(box.connect(site.OUTSIDE, 80), server) == "192.0.2.77"
        assert talk(plain.connect(site.OUTSIDE, 80), server) == site.HOST
    with site.outside.listen("::", 80) as server:
        assert talk(box.connect(site.OUTSIDE6, 80), server) == site.HOST6


def test_defaults_of_a_driver(new_rig: Callable[..., Rig]) -> None:
    defaults = (("bridge", ((options.MTU, "1400"), (options.ICC, "false"))), ("macvlan", ()))
    rig = new_rig(defaults=defaults)
    assert dict(rig.network("net", (options.ICC, "true")).spec.options) == {
        options.MTU: "1400",
        options.ICC: "true",
    }


def test_containers_do_not_reach_the_hosts_loopback(rig: Rig, site: Site) -> None:
    network = rig.network("net")
    box = rig.box("box", network)
    box.sysctl("net.ipv4.conf.all.route_localnet", "1")
    box.ip("addr", "del", "127.0.0.1/8", "dev", "lo")
    box.ip("route", "replace", "127.0.0.1/32", "via", network.spec.pools[0].gateway)
    with site.host.listen("127.0.0.1", 6379):
        assert not box.reaches("127.0.0.1", 6379)


def test_name_queries_reach_the_sockets_that_were_made(rig: Rig) -> None:
    import socket

    box = rig.box("box", rig.network("net"), names=True)
    udp, stream, pidfd = box.names
    box.names = (pidfd,)
    names, streams = socket.socket(fileno=udp), socket.socket(fileno=stream)
    with names, streams, box.bind("0.0.0.0", 53), box.listen("0.0.0.0", 53):
        for end in (names, streams):
            end.settimeout(30)
        with box.bind("127.0.0.1", 0) as client:
            swap(client, names, "127.0.0.11", 53)
        talk(box.connect("127.0.0.11", 53), streams)


@pytest.mark.parametrize("mode", ["routed", "nat-unprotected"])
def test_gateway_modes(rig: Rig, site: Site, mode: str) -> None:
    network = rig.network("net", (options.MODE4, mode))
    box = rig.box("box", network, ports=(tcp(80, 8080),))
    site.outside.ip("route", "add", "172.16.0.0/12", "via", site.HOST)
    with box.listen("0.0.0.0", 80) as server, box.listen("0.0.0.0", 81) as other:
        assert talk(site.outside.connect(box.ipv4, 80), server) == site.OUTSIDE
        if mode == "routed":
            assert not site.outside.reaches(box.ipv4, 81)
            assert [(p.host_address, p.host_port) for p in box.ports] == [
                ("0.0.0.0", 0),
                ("::", 8080),
            ]
            rig.reopen()
            assert talk(site.outside.connect(box.ipv4, 80), server) == site.OUTSIDE
            site.outside.run("busybox", "ping", "-c1", "-W2", box.ipv4)
        else:
            talk(site.outside.connect(box.ipv4, 81), other)
    with site.outside.listen("0.0.0.0", 80) as server:
        expected = box.ipv4 if mode == "routed" else site.HOST
        assert talk(box.connect(site.OUTSIDE, 80), server) == expected


def test_connect_and_disconnect_while_running(rig: Rig) -> None:
    a, b = rig.network("a"), rig.network("b")
    one, two = rig.box("one", a), rig.box("two", b)
    rig.connect(one, b)
    with two.listen("0.0.0.0", 80) as server:
        talk(one.connect(two.ipv4, 80), server)
        start = time.perf_counter()
        rig.disconnect(one, b)
        assert time.perf_counter() - start < 5
        assert not one.reaches(two.ipv4, 80)
        assert two.ipv4 not in one.ip("neigh")
        # At once again, by the same name.
        rig.connect(one, b)
        talk(one.connect(two.ipv4, 80), server)
        rig.disconnect(one, b)
    deadline = time.monotonic() + 30
    while "eth1" in one.ip("link"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_second_engine_is_no_neighbour(new_rig: Callable[..., Rig], site: Site) -> None:
    first, second = new_rig(), new_rig()
    a, b = first.default(), second.default()
    assert a.link == "wherry0" and b.link == f"wherry-{second.engine_id[:8]}"
    assert a.spec.pools[0].subnet != b.spec.pools[0].subnet
    one, two = first.box("one", a, ports=(tcp(80, 8080),)), second.box("two", b)
    with one.listen("0.0.0.0", 80) as server:
        assert not two.reaches(one.ipv4, 80)
        talk(two.connect(site.HOST, 8080), server)
    first.do(first.networks.close(remove=True))
    assert [link for link in _links(site.host) if link.startswith("wherry")] == [b.link]


def _links(host: Host) -> list[str]:
    return [line.split(":")[1].strip() for line in host.ip("-o", "link").splitlines()]
