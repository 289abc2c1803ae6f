"""What is on the host: made with the first network, mended, and gone with the last."""

from __future__ import annotations

from collections.abc import Callable

from tests.harness.hosts import Host, Site, talk
from tests.network.rig import Rig, tcp
from wherry.network import rules


def links(host: Host) -> set[str]:
    """The names of a host's links."""
    found = {
        line.split(":")[1].strip().partition("@")[0] for line in host.ip("-o", "link").splitlines()
    }
    return found - {"lo", "up0", "up1"}


def test_without_networks_nothing_is_touched(site: Site, new_rig: Callable[..., Rig]) -> None:
    rig = new_rig()
    assert site.host.run("nft", "list", "ruleset") == "" and links(site.host) == set()
    assert site.host.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    network = rig.network("net")
    assert links(site.host) == {network.link}
    assert site.host.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"
    rig.do(rig.networks.remove(network))
    assert site.host.run("nft", "list", "ruleset") == "" and links(site.host) == set()
    assert site.host.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"


def test_the_table_is_as_rendered(rig: Rig, site: Site) -> None:
    rig.box("box", rig.network("net"), ports=(tcp(80, 8080), tcp(81, 8081, "127.0.0.1")))
    rig.network("inner", internal=True)
    table = rig.networks._filter
    listed = site.host.run("nft", "list", "table", "inet", table.table)
    kept = listed[: listed.index("\tchain others {")] + "\tchain others {\n\t}\n}\n"
    expected = rules.render(table.table, table.wanted)
    assert _lines(kept) == _lines(expected)
    # What is rendered is what nft reads.
    site.outside.nft(expected)


def _lines(text: str) -> list[str]:
    """Lines without what nft is free in: the order and wrapping of elements."""
    joined = text.replace(",\n\t\t\t     ", ", ")
    out: list[str] = []
    for line in filter(str.strip, joined.splitlines()):
        head, sign, tail = line.partition("{ ")
        elements = ", ".join(sorted(" ".join(tail.rstrip("} ").split()).split(", ")))
        out.append(head + sign + elements if "elements" in head else line)
    return out


def test_turning_forwarding_on_makes_no_router(site: Site, new_rig: Callable[..., Rig]) -> None:
    with Host("other") as other:
        site.host.link("up1", other, "up1")
        site.host.address("up1", "198.51.100.2/24")
        other.address("up1", "198.51.100.1/24")
        other.ip("route", "add", "default", "via", "198.51.100.2")
        rig = new_rig()
        box = rig.box("box", rig.network("net"))
        site.outside.ip("route", "add", "198.51.100.0/24", "via", site.HOST)
        with other.listen("0.0.0.0", 80) as server:
            assert not site.outside.reaches("198.51.100.1", 80)
            talk(box.connect("198.51.100.1", 80), server)
            rig.reopen()
            assert not site.outside.reaches("198.51.100.1", 80)
            site.host.run("nft", "flush", "ruleset")
            talk(site.outside.connect("198.51.100.1", 80), server)
            rig.do(rig.networks.repair())


def test_a_router_stays_one(site: Site, new_rig: Callable[..., Rig]) -> None:
    with Host("other") as other:
        site.host.sysctl("net.ipv4.ip_forward", "1")
        site.host.link("up1", other, "up1")
        site.host.address("up1", "198.51.100.2/24")
        other.address("up1", "198.51.100.1/24")
        other.ip("route", "add", "default", "via", "198.51.100.2")
        rig = new_rig()
        rig.network("net")
        site.outside.ip("route", "add", "198.51.100.0/24", "via", site.HOST)
        with other.listen("0.0.0.0", 80) as server:
            talk(site.outside.connect("198.51.100.1", 80), server)


def test_a_daemon_that_was_killed_finds_all_again(rig: Rig, site: Site) -> None:
    network = rig.network("net")
    box = rig.box("box", network, ports=(tcp(80, 8080),))
    stranger = rig.network("unsaved")
    # Killed after the link was made and before the network was written down; a container died meanwhile.
    rig.made.remove(stranger)
    gone = rig.box("gone", network, ports=(tcp(80, 8081),))
    gone.end()
    rig.boxes.remove(gone)
    report = rig.reopen()
    assert report.done == (f"removed the link {stranger.link}, which is no network's",)
    assert links(site.host) - {box.endpoints[0].host_link} <= {
        network.link,
        gone.endpoints[0].host_link,
    }
    with box.listen("0.0.0.0", 80) as server:
        talk(site.outside.connect(site.HOST, 8080), server)
        assert not site.outside.reaches(site.HOST, 8081)
    # Its address and its port are still its own; the dead one's are free.
    other = rig.box("other", network, ports=(tcp(80, 8081),))
    assert other.ipv4 == gone.ipv4 != box.ipv4


def test_a_bridge_that_was_removed_comes_back(rig: Rig, site: Site) -> None:
    network = rig.network("net")
    site.host.ip("link", "del", network.link)
    assert rig.do(rig.networks.repair()).done == (f"made the bridge {network.link}",)
    with site.outside.listen("0.0.0.0", 80) as server:
        talk(rig.box("box", network).connect(site.OUTSIDE, 80), server)


def test_many_networks_are_taken_back_and_away_at_once(
    site: Site, new_rig: Callable[..., Rig]
) -> None:
    rig = new_rig(pools=(("10.0.0.0/8", 24),))
    many = [rig.network(f"n{number}") for number in range(40)]
    assert links(site.host) == {network.link for network in many}
    site.host.ip("link", "del", many[7].link)
    site.host.ip("addr", "add", "10.99.0.1/24", "dev", many[8].link)
    report = rig.reopen()
    assert report.done == (f"made the bridge {many[7].link}",)
    assert "10.99.0.1" not in site.host.ip("addr", "show", many[8].link)
    rig.do(rig.networks.close(remove=True))
    assert links(site.host) == set()
