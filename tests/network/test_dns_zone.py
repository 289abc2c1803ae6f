"""What names mean: every line of the table was asked of Docker 28.5's own resolver first."""

from __future__ import annotations

import ipaddress
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.network.questions import Response, question, take_apart
from wherry.network.dns.answer import Answerer
from wherry.network.dns.facts import Member, Side, Upstream, View
from wherry.network.dns.message import parse_query
from wherry.network.dns.zone import Zones, packed, parse_reverse

N1, N2 = ("n1", "front"), ("n2", "back")


def house() -> Zones:
    """Return the networks that the reference was asked about: a in both, b and c in front, d in back."""
    zones = Zones()
    for container, network, last, *names in (
        ("a", "n1", 2, "same", "a.dotted", "UPPER", "209b0ee6527e"),
        ("b", "n1", 3, "same"),
        ("c", "n1", 4, "same"),
    ):
        addresses = (f"10.77.0.{last}", f"fd77::{last}")
        own = f"box-{container}"
        zones.put(Member(network, container, own, (own, *names), addresses))
    zones.put(Member("n2", "a", "box-a", ("box-a", "second", "209b0ee6527e"), ("172.18.0.3",)))
    zones.put(Member("n2", "d", "box-d", ("box-d", "5a2f11d427c8", "dhost"), ("172.18.0.2",)))
    return zones


VIEWS = {
    "a": View("a", (N1, N2)),
    "c": View("c", (N1,), links=(("linked", "b"), ("elsewhere", "d"))),
    "d": View("d", (N2,)),
}


def ask(answerer: Answerer, name: str, kind: str | int = "A", **more: int) -> Response | None:
    data = question(name, kind, **more)
    response = answerer.answer(parse_query(data), data)
    return take_apart(response) if response is not None else None


FORWARDED = None


@pytest.mark.parametrize(
    ("who", "name", "kind", "wanted"),
    [
        ("c", "box-a", "A", ["10.77.0.2"]),
        ("c", "box-a", "AAAA", ["fd77::2"]),
        ("c", "Box-A", "A", ["10.77.0.2"]),
        ("c", "upper", "A", ["10.77.0.2"]),
        ("c", "a.dotted", "A", ["10.77.0.2"]),
        ("c", "box-a.front", "A", ["10.77.0.2"]),
        ("c", "BOX-A.Front", "A", ["10.77.0.2"]),
        ("c", "box-a.back", "A", FORWARDED),
        ("c", "box-d", "A", FORWARDED),
        ("c", "box-d.back", "A", FORWARDED),
        ("c", "linked", "A", ["10.77.0.3"]),
        ("c", "linked", "AAAA", ["fd77::3"]),
        ("c", "linked.front", "A", ["10.77.0.3"]),
        ("c", "elsewhere", "A", FORWARDED),
        ("a", "linked", "A", FORWARDED),
        ("c", "second", "A", FORWARDED),
        ("c", "front", "A", FORWARDED),
        ("c", ".front", "A", FORWARDED),
        ("c", "", "A", FORWARDED),
        ("c", "box-a", "MX", []),
        ("c", "box-a", "SRV", FORWARDED),
        ("c", "box-a", "TXT", FORWARDED),
        ("c", "box-a", "ANY", FORWARDED),
        ("c", "box-a", 999, FORWARDED),
        ("c", "nobody", "A", FORWARDED),
        ("a", "box-d", "A", ["172.18.0.2"]),
        ("a", "box-d", "AAAA", []),
        ("a", "dhost", "A", ["172.18.0.2"]),
        ("a", "second", "A", ["172.18.0.3"]),
        ("a", "same.back", "A", FORWARDED),
        ("a", "box-a", "A", ["10.77.0.2"]),
        ("a", "box-a.front", "A", ["10.77.0.2"]),
        ("a", "box-a.back", "A", ["172.18.0.3"]),
        ("a", "a.dotted.front", "A", ["10.77.0.2"]),
        ("a", "209b0ee6527e", "A", ["10.77.0.2"]),
        ("d", "box-a", "A", ["172.18.0.3"]),
        ("c", "2.0.77.10.in-addr.arpa", "PTR", ["box-a.front"]),
        ("c", "2.0.77.10.IN-ADDR.arpa", "PTR", ["box-a.front"]),
        ("a", "3.0.18.172.in-addr.arpa", "PTR", ["box-a.back"]),
        ("c", "3.0.18.172.in-addr.arpa", "PTR", FORWARDED),
        ("c", "99.0.77.10.in-addr.arpa", "PTR", FORWARDED),
        ("c", "0.77.10.in-addr.arpa", "PTR", FORWARDED),
        ("c", "bogus.in-addr.arpa", "PTR", FORWARDED),
        ("c", f"2.{'0.' * 27}7.7.d.f.ip6.arpa", "PTR", ["box-a.front"]),
        ("c", f"3.{'0.' * 26}7.7.d.f.ip6.arpa", "PTR", FORWARDED),
        ("c", "2.0.77.10.in-addr.arpa", "A", FORWARDED),
    ],
)
def test_answers_as_docker_does(
    who: str, name: str, kind: str | int, wanted: list[str] | None
) -> None:
    seen = ask(Answerer(house(), VIEWS[who]), name, kind)
    assert (seen.answers if seen else None) == wanted
    if seen:
        assert (seen.code, seen.flags) == (0, {"qr", "rd", "ra"})
        assert set(seen.ttls) <= {600}
        assert seen.question == name


def test_several_addresses_take_turns() -> None:
    answerer = Answerer(house(), VIEWS["c"])
    data = question("same")
    firsts: list[str] = []
    for number in range(6):
        asked = number.to_bytes(2, "big") + data[2:]
        response = answerer.kept(asked) or answerer.answer(parse_query(asked), asked)
        assert response is not None and response[:2] == asked[:2]
        seen = take_apart(response)
        assert set(seen.answers) == {"10.77.0.2", "10.77.0.3", "10.77.0.4"}
        firsts.append(seen.answers[0])
    assert sorted(firsts[:3]) == sorted(firsts[3:]) == ["10.77.0.2", "10.77.0.3", "10.77.0.4"]


def test_what_was_answered_before_is_not_answered_after_a_change() -> None:
    zones = house()
    answerer = Answerer(zones, VIEWS["c"])
    data = question("box-b")
    assert ask(answerer, "box-b") and answerer.kept(data)
    zones.drop("n1", "b")
    assert answerer.kept(data) is None and ask(answerer, "box-b") is None
    zones.put(Member("n1", "b", "box-b", ("box-b",), ("10.77.0.9",)))
    renewed = ask(answerer, "box-b")
    assert renewed and renewed.answers == ["10.77.0.9"]
    answerer.view = View("c", (N2,))
    assert answerer.kept(data) is None


def test_a_small_client_gets_what_fits_and_edns_gets_all() -> None:
    zones = Zones()
    for number in range(60):
        zones.put(Member("n1", f"c{number}", f"c{number}", ("many",), (f"10.0.0.{number}",)))
    answerer = Answerer(zones, View("x", (N1,)))
    small, large = ask(answerer, "many"), ask(answerer, "many", edns=1232)
    assert small and "tc" in small.flags and small.size <= 512 and len(small.answers) > 20
    assert large and "tc" not in large.flags and large.edns and len(large.answers) == 60


@given(st.ip_addresses())
def test_reverse_names_are_read(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert parse_reverse(address.reverse_pointer) == address.packed == packed((str(address),))[0]


@given(st.text(max_size=80))
def test_anything_else_is_no_reverse_name(text: str) -> None:
    for name in (text, f"{text}.in-addr.arpa", f"{text}.ip6.arpa"):
        found = parse_reverse(name)
        assert found is None or ipaddress.ip_address(found).reverse_pointer.count(".") > 4


texts = st.text(max_size=8)
views = st.builds(
    View,
    texts,
    st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    st.lists(st.builds(Upstream, texts, st.sampled_from(Side), st.integers()), max_size=3).map(
        tuple
    ),
    st.booleans(),
)
members = st.builds(
    Member, texts, texts, texts, st.lists(texts).map(tuple), st.lists(texts).map(tuple)
)


@given(views, members)
def test_facts_survive_the_wire(view: View, member: Member) -> None:
    import json

    assert View.from_wire(json.loads(json.dumps(view.to_wire()))) == view
    assert Member.from_wire(json.loads(json.dumps(member.to_wire()))) == member


class Networks(RuleBasedStateMachine):
    """Whatever is put and dropped in whatever order: names lead to those present, and to nobody else."""

    few = st.sampled_from("pqr")

    def __init__(self) -> None:
        super().__init__()
        self.zones = Zones()
        self.wanted: dict[tuple[str, str], Member] = {}

    @rule(
        network=st.sampled_from(["n1", "n2"]),
        container=few,
        names=st.lists(st.sampled_from(["Web", "web", "db", "p"]), max_size=3),
        last=st.integers(1, 3),
    )
    def put(self, network: str, container: str, names: list[str], last: int) -> None:
        member = Member(network, container, container, tuple(names), (f"10.0.0.{last}",))
        self.zones.put(member)
        self.wanted[network, container] = member

    @rule(network=st.sampled_from(["n1", "n2", "n3"]), container=few)
    def drop(self, network: str, container: str) -> None:
        self.zones.drop(network, container)
        self.wanted.pop((network, container), None)

    @rule(container=few)
    def forget(self, container: str) -> None:
        self.zones.forget(container)
        self.wanted = {key: m for key, m in self.wanted.items() if key[1] != container}

    @invariant()
    def names_lead_to_those_present(self) -> None:
        assert set(self.zones.members()) == set(self.wanted)
        for network in ("n1", "n2"):
            view = View("x", ((network, "net"),))
            for name in ("web", "db", "p"):
                here = [
                    address
                    for (where, _), member in self.wanted.items()
                    if where == network and name in {n.lower() for n in member.names}
                    for address in packed(member.addresses)
                ]
                assert sorted(self.zones.resolve(view, name) or []) == sorted(here)


TestNetworks = cast("type", Networks.TestCase)
TestNetworks.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
