"""Subnets, addresses and options as computed: laws, limits and refusals."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Conflict, Forbidden, Full, Invalid
from wherry.model.networks import Driver, Network, NetworkSpec, Pool
from wherry.network import options, pools
from wherry.network.addresses import Space, parse_subnet
from wherry.network.endpoints import make_spaces, with_gateways
from wherry.network.naming import Naming, check_link_name
from wherry.network.pools import Use, choose_pools, next_free, uses_of, uses_of_routes
from wherry.network.settings import DEFAULT_POOLS, NetworkSettings, sources

ENGINE = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
SOURCES = sources(NetworkSettings(), ENGINE)


def net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


def test_the_defaults_are_given_out_in_dockers_order() -> None:
    held: list[Use] = []
    chosen: list[str] = []
    for number in range(31):
        held.append(Use(next_free(4, SOURCES, held), f"n{number}"))
        chosen.append(str(held[-1].subnet))
    assert chosen[:3] == ["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16"]
    assert chosen[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    with pytest.raises(Full) as caught:
        next_free(4, SOURCES, held)
    assert caught.value.message == "all predefined address pools have been fully subnetted"
    assert "n0, n1, n10" in caught.value.hint and "and 23 more" in caught.value.hint


def test_a_thousand_networks() -> None:
    small = sources(NetworkSettings(pools=(("10.0.0.0/8", 24),)), ENGINE)
    held: list[Use] = []
    for number in range(1000):
        for version in (4, 6):
            held.append(Use(next_free(version, small, held), f"n{number}"))
    found = [use.subnet for use in held if use.subnet.version == 4]
    assert len(set(found)) == 1000


@given(
    st.lists(
        st.tuples(st.integers(0, 2**16 - 1), st.integers(20, 32)).map(
            lambda pair: (
                net(f"10.0.{pair[0] >> 8}.{pair[0] & 255}/{pair[1]}")
                if pair[1] == 32
                else ipaddress.ip_network(
                    (0x0A000000 | pair[0] >> (32 - pair[1]) << (32 - pair[1]), pair[1])
                )
            )
        ),
        max_size=30,
    ),
    st.integers(18, 28),
)
def test_what_is_chosen_overlaps_nothing_and_is_the_first(
    taken: list[ipaddress.IPv4Network], length: int
) -> None:
    held = [Use(subnet, "x") for subnet in taken]
    source = (("10.0.0.0/16", length),)
    brute = next(
        (
            subnet
            for subnet in net("10.0.0.0/16").subnets(new_prefix=length)
            if not any(subnet.overlaps(use) for use in taken)
        ),
        None,
    )
    if brute is None:
        with pytest.raises(Full):
            next_free(4, source, held)
    else:
        assert next_free(4, source, held) == brute


def test_routes_of_the_host_are_avoided_but_may_be_asked_for() -> None:
    held = uses_of_routes(["0.0.0.0/0", "172.17.0.0/24", "172.18.5.5/32"])
    assert str(next_free(4, DEFAULT_POOLS, held)) == "172.19.0.0/16"
    spec = NetworkSpec("n", pools=(Pool("172.17.0.0/16"),))
    assert choose_pools(spec, held, SOURCES, ipv6=False)[0].subnet == "172.17.0.0/16"


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (Pool("10.0.0.0"), "invalid CIDR"),
        (Pool("10.0.0.0/33"), "invalid CIDR"),
        (Pool("ten/8"), "invalid CIDR"),
        (Pool("10.0.0.5/24"), "it should be 10.0.0.0/24"),
        (Pool("10.0.0.0/24", gateway="10.0.1.1"), "gateway"),
        (Pool("10.0.0.0/24", gateway="fd00::1"), "gateway"),
        (Pool("10.0.0.0/24", gateway="x"), "invalid IP address"),
        (Pool("10.0.0.0/24", ip_range="10.0.1.0/28"), "ip-range"),
        (Pool("10.0.0.0/24", ip_range="10.0.0.0/16"), "ip-range"),
        (Pool("10.0.0.0/24", auxiliary=(("a", "10.0.1.1"),)), "auxiliary"),
        (Pool("", ip_range="10.0.0.0/24"), "subnet"),
    ],
)
def test_pools_that_cannot_be(pool: Pool, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        choose_pools(NetworkSpec("n", pools=(pool,)), [], SOURCES, ipv6=False)


def test_overlaps_are_refused_by_name() -> None:
    first = Network("1", NetworkSpec("first", pools=(Pool("10.1.0.0/16"),)), 0)
    for subnet in ("10.1.2.0/24", "10.0.0.0/8", "10.1.0.0/16"):
        with pytest.raises(Forbidden, match="overlaps") as caught:
            spec = NetworkSpec("second", pools=(Pool(subnet),))
            choose_pools(spec, uses_of([first]), SOURCES, ipv6=False)
        assert "first" in caught.value.hint
    both = NetworkSpec("both", pools=(Pool("10.0.0.0/8"), Pool("10.1.0.0/16")))
    with pytest.raises(Forbidden, match="overlaps"):
        choose_pools(both, [], SOURCES, ipv6=False)


def test_families() -> None:
    spec = NetworkSpec("n")
    assert [":" in p.subnet for p in choose_pools(spec, [], SOURCES, ipv6=True)] == [False, True]
    only6 = replace(spec, ipv4=False)
    assert [":" in p.subnet for p in choose_pools(only6, [], SOURCES, ipv6=True)] == [True]
    with pytest.raises(Invalid):
        choose_pools(only6, [], SOURCES, ipv6=False)
    # The engine's own prefix: the same each time, another one for another engine.
    assert (
        SOURCES[-1] == sources(NetworkSettings(), ENGINE)[-1] != sources(NetworkSettings(), "x")[-1]
    )
    assert net(SOURCES[-1][0]).is_private


def test_default_pools_that_cannot_be_cut() -> None:
    for bad in (("10.0.0.0/16", 8), ("10.0.0.0/16", 31), ("x", 24), ("fd00::/64", 127)):
        with pytest.raises(Invalid):
            pools.check_sources([bad])


def test_a_wish_outside_of_the_range_is_not_given_out_when_it_is_free_again() -> None:
    space = Space.of("n", parse_subnet("10.0.0.0/24"), parse_subnet("10.0.0.64/26"))
    space.claim("10.0.0.5", "web")
    assert str(space.take("a")) == "10.0.0.64"
    space.release("10.0.0.5")
    assert str(space.take("b")) == "10.0.0.65"
    space.claim("10.0.0.5", "again")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=60))
def test_an_address_is_one_holders_only(steps: list[tuple[bool, int]]) -> None:
    space = Space.of("n", parse_subnet("10.0.0.0/28"))
    held: dict[str, str] = {}
    for number, (take, value) in enumerate(steps):
        if take:
            try:
                address = str(space.take(f"h{number}"))
            except Full:
                assert len(held) == 14
                continue
            assert address not in held
            # The lowest that is free.
            assert all(f"10.0.0.{n}" in held for n in range(1, int(address.split(".")[3])))
            held[address] = f"h{number}"
        else:
            address = f"10.0.0.{value}"
            space.release(address) if value not in (0, 15) else None
            held.pop(address, None)
    for address, holder in held.items():
        assert space.holder(address) == holder
        with pytest.raises(Conflict, match=holder):
            space.claim(address, "x")


def test_what_is_nobodys_is_not_given_out() -> None:
    pool = Pool("10.0.0.0/29", "10.0.0.4/30", "10.0.0.4", (("a", "10.0.0.6"),))
    (space,) = make_spaces(Network("1", NetworkSpec("n", pools=(pool,)), 0))
    assert str(space.take("x")) == "10.0.0.5"
    with pytest.raises(Full, match="no available IPv4 addresses"):
        space.take("x")
    assert str(space.claim("10.0.0.2", "x")) == "10.0.0.2"
    for address, kind in (("10.0.0.7", Conflict), ("10.0.0.9", Invalid), ("fd00::1", Invalid)):
        with pytest.raises(kind):
            space.claim(address, "x")


@pytest.mark.parametrize(
    ("pool", "gateway"),
    [
        (Pool("10.0.0.0/24"), "10.0.0.1"),
        (Pool("fd00::/64"), "fd00::1"),
        (Pool("10.0.0.0/24", auxiliary=(("a", "10.0.0.1"),)), "10.0.0.2"),
        (Pool("10.0.0.0/24", gateway="10.0.0.9"), "10.0.0.9"),
    ],
)
def test_gateways(pool: Pool, gateway: str) -> None:
    made = with_gateways(Network("1", NetworkSpec("n", pools=(pool,)), 0))
    assert made.spec.pools[0].gateway == gateway
    make_spaces(made)


@pytest.mark.parametrize(
    "pairs",
    [
        ((options.ICC, "maybe"),),
        ((options.MTU, "67"),),
        ((options.MTU, "1e3"),),
        ((options.MODE4, "bridge"),),
        ((options.MODE4, "isolated"),),
        ((options.HOST_ADDRESS, "fd00::1"),),
        ((options.HOST_ADDRESS, "x"),),
        ((options.PREFIX, "averylongprefix"),),
        ((options.SOURCE4, "fd00::1"),),
        ((options.SOURCE6, "192.0.2.1"),),
        ((options.TRUSTED, "eth0:a/b"),),
    ],
)
def test_options_that_cannot_be(pairs: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(Invalid):
        options.check_options(NetworkSpec("n", options=pairs))


@pytest.mark.parametrize(
    ("driver", "pair", "words"),
    [
        (
            Driver.MACVLAN,
            ("macvlan_mode", "x"),
            "requested macvlan mode 'x' is not valid, 'bridge'",
        ),
        (Driver.IPVLAN, ("ipvlan_mode", "l4"), "requested ipvlan mode 'l4' is not valid, 'l2'"),
        (Driver.IPVLAN, ("ipvlan_flag", "x"), "requested ipvlan flag 'x' is not valid"),
    ],
)
def test_modes_of_children(driver: Driver, pair: tuple[str, str], words: str) -> None:
    options.check_child(NetworkSpec("n", driver))
    with pytest.raises(Invalid, match=words):
        options.check_child(NetworkSpec("n", driver, options=(pair,)))


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (Pool("10.0.0.0/24", gateway="10.0.0.0"), "failed to allocate gateway .10.0.0.0."),
        (Pool("10.0.0.0/24", gateway="10.0.0.255"), "failed to allocate gateway"),
        (Pool("fd00::/64", gateway="fd00::"), "failed to allocate gateway"),
        (
            Pool("10.0.0.0/24", gateway="10.0.0.1", auxiliary=(("a", "10.0.0.1"),)),
            "failed to allocate secondary ip address .a:10.0.0.1.: Address already in use",
        ),
        (
            Pool("10.0.0.0/24", auxiliary=(("a", "10.0.0.9"), ("b", "10.0.0.9"))),
            "failed to allocate secondary ip address .b:10.0.0.9.",
        ),
    ],
)
def test_addresses_that_are_somebody_elses(pool: Pool, words: str) -> None:
    with pytest.raises(Conflict, match=words):
        make_spaces(with_gateways(Network("1", NetworkSpec("n", pools=(pool,)), 0)))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "sixteen-letters-", "a:b", "a\0b", "a%d"]
)
def test_names_that_no_link_may_have(name: str) -> None:
    with pytest.raises(Invalid):
        check_link_name(name, "bridge name")


def test_endpoint_sysctls() -> None:
    key = options.SYSCTLS
    good = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.forwarding=0"
    assert options.sysctls(((key, good),)) == (
        ("net.ipv4.conf.IFNAME.log_martians", "1"),
        ("net.ipv6.conf.IFNAME.forwarding", "0"),
    )
    for bad in (
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.eth0.x=1",
        "kernel.IFNAME.a.b=1",
        "net.ipv4.conf.IFNAME./../x=1",
    ):
        with pytest.raises(Invalid):
            options.sysctls(((key, bad),))


def test_a_bridges_plan() -> None:
    naming = Naming(ENGINE)
    spec = NetworkSpec(
        "n",
        pools=(Pool("10.0.0.0/24", gateway="10.0.0.1"), Pool("fd00::/64", gateway="fd00::1")),
        options=((options.ICC, "false"), (options.MODE6, "routed"), (options.MTU, "1400")),
    )
    plan = options.plan_bridge(Network("f" * 64, spec, 0, "wh-ffffffffffff"), naming)
    assert plan.gateways == ("10.0.0.1/24", "fd00::1/64") and plan.mtu == 1400
    assert (plan.icc, plan.mode4, plan.mode6) == (False, "nat", "routed")
    assert naming.owns(plan.alias) and not Naming("other").owns(plan.alias)
    isolated = replace(spec, internal=True, options=((options.MODE4, "isolated"),))
    assert options.plan_bridge(Network("1", isolated, 0, "x"), naming).gateways == ("fd00::1/64",)
    assert Driver.NONE == "null"
