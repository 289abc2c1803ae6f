"""What a container may ask of networks: each thing that is wrong is named, and all of them at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wherry.containers.endpoints import IFNAME_OPTION, check_endpoint, check_together
from wherry.model.errors import Invalid
from wherry.model.networks import Driver, EndpointSpec, Network, NetworkSpec, Pool

BRIDGE = Network("b", NetworkSpec("bridge"), 0)
OWN = Network("o", NetworkSpec("own"), 0, asked=(Pool("10.1.0.0/16", ip_range="10.1.2.0/24"),))
PLAIN = Network("p", NetworkSpec("plain"), 0)
WISH = EndpointSpec("own")


@pytest.mark.parametrize(
    ("network", "wish", "problem"),
    [
        (BRIDGE, replace(WISH, aliases=("x",)), "network-scoped alias is supported only"),
        (BRIDGE, replace(WISH, ipv4="172.17.0.9"), "on user defined networks only"),
        (PLAIN, replace(WISH, ipv4="10.1.2.3"), "user configured subnets"),
        (OWN, replace(WISH, ipv4="10.2.0.1"), "no configured subnet or ip-range contain"),
        (OWN, replace(WISH, ipv4="10.1.2"), "invalid IPv4 address: 10.1.2"),
        (OWN, replace(WISH, ipv6="10.1.2.3"), "invalid IPv6 address: 10.1.2.3"),
        (OWN, replace(WISH, ipv6="fd00::1"), "user configured subnets"),
        (OWN, replace(WISH, link_local=("x",)), "invalid link-local IP address: x"),
        (OWN, replace(WISH, aliases=("a b",)), "invalid alias: 'a b'"),
        (OWN, replace(WISH, mac="zz"), "invalid MAC address zz"),
        (OWN, replace(WISH, mac="01:00:5e:00:00:01"), "invalid MAC address 01:00:5e:00:00:01"),
        (OWN, replace(WISH, options=((IFNAME_OPTION, "a/b"),)), "invalid interface name: 'a/b'"),
        (OWN, replace(WISH, options=((IFNAME_OPTION, "lo"),)), "invalid interface name: 'lo'"),
    ],
)
def test_what_cannot_be_had_is_named(network: Network, wish: EndpointSpec, problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_endpoint(wish, network)
    assert problem in caught.value.message


def test_all_that_is_wrong_is_named_once() -> None:
    wish = replace(WISH, ipv4="x", link_local=("y", "y"), aliases=("z z",))
    with pytest.raises(Invalid) as caught:
        check_endpoint(wish, PLAIN)
    lines = caught.value.message.split("\n")
    assert lines[0] == "invalid endpoint settings:" and len(set(lines)) == len(lines) == 5


def test_what_can_be_had_is_fine() -> None:
    options = ((IFNAME_OPTION, "lan0"),)
    wish = EndpointSpec("own", ("a",), ipv4="10.1.2.9", mac="02:00:00:00:00:01", options=options)
    check_endpoint(wish, OWN)
    check_endpoint(EndpointSpec("bridge"), BRIDGE)


def test_networks_that_exclude_each_other() -> None:
    host = Network("h", NetworkSpec("host", driver=Driver.HOST), 0)
    none = Network("n", NetworkSpec("none", driver=Driver.NONE), 0)
    for alone in (host, none, BRIDGE):
        check_together([alone], alone.name)
    check_together([BRIDGE, OWN], "bridge")
    for networks, mode, problem in (
        ([none, BRIDGE], "none", "in private (none) mode"),
        ([BRIDGE, none], "bridge", "in private (none) mode"),
        ([BRIDGE, host], "bridge", "must be created in host network mode"),
        ([host, BRIDGE], "host", "cannot be connected to any other network"),
    ):
        with pytest.raises(Invalid) as caught:
            check_together(networks, mode)
        assert problem in caught.value.message
