"""What a container's interface has: addresses, routes, sizes, switches; macvlan; what cannot be."""

from __future__ import annotations

import os
import time

import pytest

from tests.harness.hosts import Site, talk
from tests.network.rig import Box, Rig
from wherry.model.errors import Conflict, Forbidden, Invalid, NotFound, StartFailed, Unsupported
from wherry.model.networks import Driver, Pool
from wherry.model.wiring import Link, LinkKind, Wiring
from wherry.network import options


def sysctl(box: Box, name: str) -> str:
    """Read a sysctl of a box's namespace."""
    with box.inside():
        with open(f"/proc/sys/{name.replace('.', '/')}") as file:
            return file.read().strip()


def test_an_interface_is_as_asked(rig: Rig) -> None:
    pools = (Pool("10.9.0.0/24", gateway="10.9.0.254"), Pool("fd00:9::/64"))
    network = rig.network("net", (options.MTU, "1400"), pools=pools)
    box = rig.box(
        "box",
        network,
        ipv4="10.9.0.77",
        ipv6="fd00:9::77",
        mac="02:00:00:00:00:07",
        link_local=("169.254.7.7", "fe80::7"),
        options=((options.SYSCTLS, "net.ipv4.conf.IFNAME.log_martians=1"),),
    )
    (endpoint,) = box.endpoints
    assert (endpoint.ipv4, endpoint.ipv6, endpoint.gateway4) == (
        "10.9.0.77",
        "fd00:9::77",
        "10.9.0.254",
    )
    told = box.ip("addr", "show", "eth0")
    for words in (
        "mtu 1400",
        "link/ether 02:00:00:00:00:07",
        "inet 10.9.0.77/24 brd 10.9.0.255",
        "inet6 fd00:9::77/64",
        "inet 169.254.7.7/16",
        "inet6 fe80::7/64",
    ):
        assert words in told
    assert box.ip("route", "show", "default").strip() == "default via 10.9.0.254 dev eth0"
    assert "via fd00:9::1 dev eth0" in box.ip("-6", "route", "show", "default")
    assert sysctl(box, "net.ipv4.conf.eth0.log_martians") == "1"
    host = rig.site.host.ip("-d", "link", "show", endpoint.host_link)
    assert f"alias wherry {rig.engine_id} {box.container_id}" in host and "mtu 1400" in host


def test_no_address_waits_to_be_found_unique(rig: Rig) -> None:
    box = rig.box("box", rig.network("net"))
    deadline = time.monotonic() + 30
    while "tentative" in (told := box.ip("-6", "addr", "show", "dev", "eth0", "scope", "link")):
        # The kernel's own link-local one does, a second; it must not take its own echo for another's.
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    assert "dadfailed" not in told and "inet6 fe80" in told
    assert "tentative" not in box.ip("-6", "addr", "show", "dev", "eth0", "scope", "global")


def test_without_ipv6_there_is_none(rig: Rig, site: Site) -> None:
    network = rig.network("net", ipv6=False)
    box = rig.box("box", network)
    assert "inet6" not in box.ip("addr", "show", "eth0")
    assert "inet6" not in site.host.ip("addr", "show", network.link)
    assert box.endpoints[0].ipv6 == ""
    # The container's own loopback has it.
    assert "inet6 ::1" in box.ip("addr", "show", "lo")


def test_only_ipv6(rig: Rig, site: Site) -> None:
    box = rig.box("box", rig.network("net", ipv4=False, ipv6=True))
    assert box.endpoints[0].ipv4 == ""
    with site.outside.listen("::", 80) as server:
        assert talk(box.connect(site.OUTSIDE6, 80), server) == site.HOST6


def test_hosts_without_ipv6_get_networks_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(ipv6=False) as site:
        rig = Rig(site)
        try:
            rig.open()
            assert [p.subnet for p in rig.network("net").spec.pools] == ["172.17.0.0/16"]
            assert len(rig.network("asked", ipv6=True).spec.pools) == 2
        finally:
            rig.close()


def test_addresses_that_are_taken_are_refused_by_holder(rig: Rig) -> None:
    network = rig.network("net", subnet="10.9.0.0/24")
    rig.box("web", network, ipv4="10.9.0.5")
    for address, kind, words in (
        ("10.9.0.5", Conflict, "container web"),
        ("10.9.0.1", Conflict, "gateway"),
        ("10.9.0.0", Conflict, "subnet"),
        ("10.9.1.5", Invalid, "no configured subnet contains IP address 10.9.1.5"),
        ("x", Invalid, "invalid IP address"),
    ):
        with pytest.raises(kind, match=words):
            rig.box("other", network, ipv4=address)
    with pytest.raises(Invalid, match="invalid MAC"):
        rig.box("other", network, mac="02:42")
    # A refusal takes nothing: the next one gets the first address.
    assert rig.box("other", network).ipv4 == "10.9.0.2"


def test_links_of_others_are_not_taken(rig: Rig, site: Site) -> None:
    site.host.ip("link", "add", "mine0", "type", "bridge")
    with pytest.raises(Conflict, match="not this engine's"):
        rig.network("net", (options.NAME, "mine0"))
    assert "mine0" in site.host.ip("link", "show", "mine0")
    rig.network("first", (options.NAME, "ours0"))
    with pytest.raises(Forbidden, match="same bridge name"):
        rig.network("second", (options.NAME, "ours0"))
    for name in ("sixteen-letters-", "a/b"):
        with pytest.raises(Invalid, match="invalid bridge name"):
            rig.network("third", (options.NAME, name))


def test_a_bridge_of_the_administrators_is_used_and_left(site: Site) -> None:
    site.host.ip("link", "add", "office0", "type", "bridge")
    site.host.address("office0", "10.50.0.1/24")
    site.host.ip("link", "set", "office0", "up")
    rig = Rig(site, bridge="office0", bip="10.50.0.1/24", ipv6=False)
    try:
        rig.open()
        network = rig.default()
        with site.outside.listen("0.0.0.0", 80) as server:
            talk(rig.box("box", network).connect(site.OUTSIDE, 80), server)
        rig.do(rig.networks.remove(network))
        assert "10.50.0.1/24" in site.host.ip("addr", "show", "office0")
    finally:
        rig.close()


def test_macvlan_children_are_on_the_parents_wire(rig: Rig, site: Site) -> None:
    pools = (Pool("192.0.2.0/24", "192.0.2.128/25", gateway=site.OUTSIDE),)
    network = rig.network("lan", ("parent", "up0"), driver=Driver.MACVLAN, pools=pools, ipv6=False)
    one, two = rig.box("one", network), rig.box("two", network)
    assert one.ipv4 == "192.0.2.128" and one.endpoints[0].host_link == ""
    with site.outside.listen("0.0.0.0", 80) as server:
        assert talk(one.connect(site.OUTSIDE, 80), server) == one.ipv4
    with two.listen("0.0.0.0", 80) as server:
        assert talk(one.connect(two.ipv4, 80), server) == one.ipv4
        assert talk(site.outside.connect(two.ipv4, 80), server) == site.OUTSIDE
    rig.disconnect(two, network)
    deadline = time.monotonic() + 30
    while "eth0" in two.ip("link"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_parents_that_cannot_be(rig: Rig) -> None:
    with pytest.raises(NotFound, match="nowhere0"):
        rig.network("lan", ("parent", "nowhere0"), driver=Driver.MACVLAN)
    # This kernel may know dummy and vlan links or not; either the link is made or the refusal says so.
    for parent in ((), (("parent", "up0.7"),)):
        try:
            made = rig.network("lan", *parent, driver=Driver.MACVLAN)
        except Unsupported as error:
            assert "this kernel cannot make the link" in error.message
        else:
            rig.do(rig.networks.remove(made))
            assert made.link not in rig.site.host.ip("link")


def test_ipvlan_or_a_clear_refusal(rig: Rig, site: Site) -> None:
    pools = (Pool("192.0.2.0/24", "192.0.2.128/25", gateway=site.OUTSIDE),)
    network = rig.network("lan", ("parent", "up0"), driver=Driver.IPVLAN, pools=pools, ipv6=False)
    try:
        box = rig.box("box", network)
    except StartFailed as error:
        assert "no ipvlan links" in error.hint
    else:
        with site.outside.listen("0.0.0.0", 80) as server:
            assert talk(box.connect(site.OUTSIDE, 80), server) == box.ipv4


def test_a_failed_wiring_leaves_nothing(rig: Rig, site: Site) -> None:
    network = rig.network("net")
    box = rig.box("box")
    good = Link(LinkKind.VETH, network.link, "eth0", "wv00000000000", addresses=("10.0.0.2/24",))
    for bad in (
        Link(LinkKind.VETH, "nowhere0", "eth1", "wv00000000001"),
        Link(LinkKind.VETH, network.link, "eth0", "wv00000000001"),
        Link(
            LinkKind.VETH,
            network.link,
            "eth1",
            "wv00000000001",
            addresses=("10.0.0.3/24",),
            sysctls=(("net.ipv4.conf.IFNAME.nothing", "1"),),
        ),
    ):
        with site.host.inside(), pytest.raises(StartFailed):
            rig.wirer.wire(box.pid, box.pidfd, Wiring((good, bad)))
        assert "wv0" not in site.host.ip("link") and "eth" not in box.ip("link")


def test_two_hundred_containers_on_a_bridge(rig: Rig) -> None:
    network = rig.network("net", ipv6=False)
    boxes = [Box(f"b{n}") for n in range(200)]
    rig.boxes += boxes
    start = time.perf_counter()
    with rig.site.host.inside():
        for box in boxes:
            asked = rig.asked(network)
            endpoint, link = rig.networks.attach(
                box.container_id, box.name, network, asked, "eth0", default_way=True
            )
            box.endpoints.append(endpoint)
            rig.wirer.wire(box.pid, box.pidfd, Wiring((link,)))
    assert time.perf_counter() - start < 40
    with boxes[199].listen("0.0.0.0", 80) as server:
        talk(boxes[0].connect(boxes[199].ipv4, 80), server)


def test_a_late_removal_spares_the_next_link_of_that_name(rig: Rig, site: Site) -> None:
    a, b = rig.network("a"), rig.network("b")
    box = rig.box("box", a)
    (endpoint,) = box.endpoints
    with site.host.inside():
        late = rig.wirer.unwire(box.pid, box.pidfd, endpoint.interface)
    rig.networks.detach(endpoint)
    box.endpoints.remove(endpoint)
    rig.connect(box, b)
    assert box.endpoints[0].interface == "eth0"
    with site.host.inside():
        late()
    for pid in rig.wirer.helpers:
        os.waitpid(pid, 0)
    rig.wirer.helpers.clear()
    assert box.endpoints[0].ipv4 in box.ip("addr", "show", "eth0")
