"""A container's part in networks over fakes: what is reserved, kept, told and given back, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.containers.fakes import NOT_FOUND, House, make_container, until
from wherry.containers.endpoints import connect_order, dns_names, gateway_order, port_wishes
from wherry.containers.hostfiles import own_lines
from wherry.containers.ways import one_way_out, ways_out
from wherry.model.containers import ContainerSpec, Namespaces, Status
from wherry.model.errors import Conflict, WherryError
from wherry.model.networks import Endpoint, EndpointSpec, NetworkSpec, PortWish
from wherry.model.wiring import Link, LinkKind, Way

Story = Callable[[House, Any], Awaitable[None]]


def spec(*networks: str, **changes: Any) -> ContainerSpec:
    """Return a specification of a container in these networks, the default bridge where none is named."""
    wishes = tuple(EndpointSpec(name) for name in networks)
    if networks:
        changes["namespaces"] = Namespaces(network=networks[0])
    return ContainerSpec("bb", command=("sh",), endpoints=wishes, **changes)


def play(tmp_path: Path, story: Story) -> House:
    """Play `story` in a house of fakes, and return the house."""
    house = House(tmp_path)

    async def main() -> None:
        async with house.open() as service:
            await story(house, service)

    asyncio.run(main())
    return house


PUBLISHED: Any = {"published": (("80/tcp", "", "8080"),), "exposed_ports": ("80/tcp",)}


def test_what_a_start_takes_an_exit_gives_back(tmp_path: Path) -> None:
    async def story(house: House, service: Any) -> None:
        await house.networks.create(NetworkSpec("web"))
        made = await service.create(spec("web", **PUBLISHED), "box")
        await service.start("box")
        container = house.store.get(made.id)
        (endpoint,) = container.state.attachments.endpoints
        assert endpoint.names == ("box", made.id[:12])
        assert house.fabric.addresses == {endpoint.ipv4}
        assert [port.host_port for port in container.state.attachments.ports] == [8080]
        assert [member.name for member in house.names.members.values()] == ["box"]
        wiring = house.supervisor.launches[0].wiring
        assert wiring.name_service
        assert [link.name for link in wiring.links] == ["eth0"]
        house.supervisor.end(made.id, 0)
        await until(lambda: house.store.get(made.id).state.status is Status.EXITED)
        assert house.store.get(made.id).state.attachments.endpoints == ()
        assert not house.fabric.addresses
        assert not house.fabric.ports
        assert not house.names.members
        assert not house.names.views

    play(tmp_path, story)


@pytest.mark.parametrize("where", ["supervisor", "fabric", "port"])
def test_a_failed_start_leaves_nothing(tmp_path: Path, where: str) -> None:
    async def story(house: House, service: Any) -> None:
        made = await service.create(spec(**PUBLISHED), "box")
        if where == "supervisor":
            house.supervisor.fail = NOT_FOUND
        elif where == "fabric":
            house.fabric.fail = Conflict("Address already in use")
        else:
            await service.create(spec(**PUBLISHED), "other")
            await service.start("other")
        before = set(house.fabric.addresses)
        with pytest.raises(WherryError):
            await service.start("box")
        container = house.store.get(made.id)
        assert container.state.attachments.endpoints == ()
        assert container.state.error
        assert house.fabric.addresses == before
        assert made.id not in house.fabric.ports
        if where != "supervisor":
            assert container.state.error.startswith("failed to set up container networking: ")

    play(tmp_path, story)


def test_a_daemon_that_died_in_a_start_gives_addresses_back(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def first() -> str:
        async with house.open() as service:
            made = await service.create(spec(**PUBLISHED), "box")
            kept: list[Any] = []

            async def dies(launch: Any) -> Any:
                # What the row says at the moment in which the links are made.
                kept.append(house.store.get(made.id).state.attachments)
                raise asyncio.CancelledError

            house.supervisor.start = dies  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await service.start("box")
            assert kept[0].endpoints
            # As a crash leaves it.
            container = house.store.get(made.id)
            state = replace(container.state, attachments=kept[0])
            house.store.save_state(made.id, state)
            return made.id

    async def second(container_id: str) -> None:
        async with house.open():
            assert house.fabric.opened == []
            assert house.store.get(container_id).state.attachments.endpoints == ()

    house_id = asyncio.run(first())
    asyncio.run(second(house_id))


def test_what_runs_is_taken_back(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def first() -> None:
        async with house.open() as service:
            await house.networks.create(NetworkSpec("web"))
            await service.create(spec("web"), "box")
            await service.start("box")

    async def second() -> None:
        house.names.views.clear()
        house.names.members.clear()
        async with house.open():
            ((_, name, attachments),) = house.fabric.opened
            assert name == "box"
            assert len(attachments.endpoints) == 1
            assert len(house.names.views) == len(house.names.members) == 1
            # The predefined networks are the same as before.
            assert {network.name for network in house.network_store} == {
                "bridge", "host", "none", "web",
            }  # fmt: skip

    asyncio.run(first())
    asyncio.run(second())


def test_a_connect_that_fails_changes_nothing(tmp_path: Path) -> None:
    async def story(house: House, service: Any) -> None:
        await house.networks.create(NetworkSpec("web"))
        made = await service.create(spec(), "box")
        await service.start("box")
        before = house.store.get(made.id)
        held = set(house.fabric.addresses)
        house.supervisor.fail = NOT_FOUND
        with pytest.raises(WherryError):
            await house.networks.connect("web", "box", EndpointSpec("web"))
        assert house.store.get(made.id) == before
        assert house.fabric.addresses == held
        assert not house.names.members

    play(tmp_path, story)


# Order and ways: laws

names = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True)
wishes = names.flatmap(
    lambda some: st.tuples(
        *(st.builds(EndpointSpec, st.just(n), gateway_priority=st.integers(-2, 2)) for n in some)
    )
)


@given(wishes, st.sets(st.integers(0, 5)))
def test_orders_are_permutations_and_priority_rules(
    some: tuple[EndpointSpec, ...], both: set[int]
) -> None:
    ordered = connect_order(some, some[0].network)
    assert sorted(w.network for w in ordered) == sorted(w.network for w in some)
    priorities = [wish.gateway_priority for wish in ordered]
    assert priorities == sorted(priorities, reverse=True)
    made = [
        Endpoint(
            "",
            w.network,
            w.network,
            "eth0",
            gateway4="10.0.0.1",
            gateway6="fd00::1" if n in both else "",
        )
        for n, w in enumerate(some)
    ]
    first = gateway_order(some, made)[0]
    highest = max(wish.gateway_priority for wish in some)
    foremost = [w.network for w in some if w.gateway_priority == highest]
    # As with Docker, of equals those with both families come first.
    whole = [one.network for one in made if one.gateway6 and one.network in foremost]
    assert first == min(whole or foremost)


@given(wishes, st.data())
def test_there_is_one_way_out_of_each_family(
    some: tuple[EndpointSpec, ...], data: st.DataObject
) -> None:
    endpoints: list[Endpoint] = []
    links: list[Link] = []
    for number, wish in enumerate(some):
        four, six = data.draw(st.booleans()), data.draw(st.booleans())
        gateway4, gateway6 = f"10.0.{number}.1" if four else "", f"fd0{number}::1" if six else ""
        name = f"eth{number}"
        endpoints.append(
            Endpoint("", wish.network, wish.network, name, gateway4=gateway4, gateway6=gateway6)
        )
        ways = tuple(Way("default", via) for via in (gateway4, gateway6) if via)
        links.append(Link(LinkKind.VETH, "br", name, ways=(*ways, Way("10.9.9.0/24"))))
    order = gateway_order(some, endpoints)
    left = one_way_out(links, endpoints, order)
    defaults = [(link.name, way) for link in left for way in link.ways if way.to == "default"]
    assert len([way for _, way in defaults if ":" in way.via]) <= 1
    assert len([way for _, way in defaults if ":" not in way.via]) <= 1
    # A start and a later change agree.
    wanted = ways_out(endpoints, order)
    assert sorted(defaults, key=str) == sorted(
        ((name, way) for name, ways in wanted.items() for way in ways), key=str
    )
    assert all(Way("10.9.9.0/24") in link.ways for link in left)


def test_names_are_each_said_once() -> None:
    container = make_container("web", hostname="web")
    wish = EndpointSpec("net", aliases=("db", "db", "web"))
    assert dns_names(container, wish) == ("web", "db", container.id[:12])


@pytest.mark.parametrize(
    ("hostname", "domain", "names"),
    [
        ("web", "", "web"),
        ("web", "d.e", "web.d.e web"),
        ("a.b.c", "", "a.b.c a"),
        ("a.b.c", "d.e", "a.b.c.d.e a"),
    ],
)
def test_the_own_line_has_the_whole_name_and_its_first_label(
    hostname: str, domain: str, names: str
) -> None:
    container = make_container("web", hostname=hostname)
    container = replace(container, spec=replace(container.spec, domainname=domain))
    endpoints = [Endpoint("", "net", "net", "eth0", ipv4="10.0.0.2")]
    assert own_lines(container, endpoints) == [f"10.0.0.2\t{names}"]


def test_port_wishes() -> None:
    published = (("80/tcp", "[::1]", "8000-8010"), ("81/udp", "", ""), ("99/tcp", "", "99"))
    wanted = ContainerSpec(
        "bb",
        published=published,
        publish_all=True,
        exposed_ports=("80/tcp", "81/udp", "82-83/tcp"),
    )
    assert port_wishes(wanted) == (
        PortWish("tcp", 80, "::1", 8000, 8010),
        PortWish("udp", 81),
        PortWish("tcp", 82),
        PortWish("tcp", 83),
    )
