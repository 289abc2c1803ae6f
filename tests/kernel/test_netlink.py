"""Netlink codecs: what is written is read back, and no bytes bring a parser down."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.kernel import clauses, conntrack, links, netlink, nftables
from wherry.kernel.netlink import Message, attribute, message, nested, parse_list, parse_messages

pairs = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=64)), max_size=12)


@given(pairs)
def test_attributes_come_back(wanted: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, payload) for kind, payload in wanted)
    assert parse_list(data) == wanted
    assert parse_list(netlink.parse_attributes(nested(7, data))[7]) == wanted


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=64)), max_size=6))
def test_messages_come_back(wanted: list[tuple[int, bytes]]) -> None:
    data = b"".join(message(kind, 5, body, n) for n, (kind, body) in enumerate(wanted))
    found = parse_messages(data)
    assert [(m.kind, m.body, m.sequence, m.flags) for m in found] == [
        (kind, body, n, 5) for n, (kind, body) in enumerate(wanted)
    ]


@given(st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_garbage_is_survived(data: bytes, kind: int) -> None:
    parse_messages(data)
    parse_list(data)
    for number in (
        kind,
        links.NEWLINK,
        links.NEWADDR,
        links.NEWROUTE,
        0xA00,
        0xA03,
        0xA06,
        0xA0C,
        0x100,
    ):
        told = Message(number, 1, data)
        for parse in (
            links.parse_link,
            links.parse_address,
            links.parse_route,
            nftables.parse_table,
            nftables.parse_chain,
            nftables.parse_rule,
            conntrack.parse_original,
            netlink.parse_refusal,
        ):
            parse(told)
    nftables.parse_comment(data)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError):
        attribute(1, bytes(1 << 16))
    for mac in ("", "02:42", "zz:42:ac:11:00:02", "02:42:ac:11:00:02:03"):
        with pytest.raises(ValueError):
            links.pack_mac(mac)
    for kind, mode in (
        ("macvlan", "l2"),
        ("macvlan", "bridge/private"),
        ("ipvlan", "bridge"),
        ("ipvlan", "l2/x"),
    ):
        with pytest.raises(ValueError):
            links.make_child(kind, parent=1, inside="eth0", netns=1, mode=mode)


def test_a_refusal_tells_which_message_and_why() -> None:
    with netlink.Netlink() as route:
        requests = [links.set_link("lo", index=1), links.delete_link("no-such-link")]
        with pytest.raises(netlink.NetlinkError) as caught:
            route.perform(requests)
        assert caught.value.index == 1 and caught.value.errno == 19
        found = links.parse_link(route.ask(links.get_link("lo")))
        assert found is not None and (found.index, found.name) == (1, "lo")
        # The socket is of use after a refusal.
        assert any(
            address.address == "127.0.0.1/8"
            for address in map(links.parse_address, route.dump(links.dump_addresses()))
            if address is not None
        )


def test_the_kernels_words_are_passed_on() -> None:
    body = struct.pack("=i", -22) + bytes(16)
    told = body + netlink.text(1, "no such thing")
    answer = Message(netlink.ERROR, 1, told, 0x300)
    assert netlink.parse_refusal(answer) == (22, "no such thing")
    assert netlink.parse_refusal(Message(netlink.ERROR, 1, struct.pack("=i", 0))) == (0, "")


def test_a_denial_without_condition_is_known() -> None:
    drop, accept = clauses.verdict(clauses.DROP), clauses.verdict(clauses.ACCEPT)
    for parts, denies in (
        ((drop,), True),
        ((clauses.counter(), drop), True),
        ((accept,), False),
        ((clauses.answers(), drop), False),
        ((clauses.from_loopback(), drop), False),
    ):
        made = nftables.new_rule(nftables.INET, "t", nftables.Rule("c", parts, "why"))
        found = nftables.parse_rule(Message(made.kind, 1, made.body))
        assert found is not None and found.denies_all is denies
        assert (found.table, found.chain, found.comment) == ("t", "c", "why")


def test_routes_and_addresses_are_read_as_they_are_written() -> None:
    for interface in ("10.1.2.3/16", "fd00::7/64", "10.0.0.1/31"):
        made = links.add_address(4, interface)
        found = links.parse_address(Message(made.kind, 1, made.body))
        assert found is not None and (found.index, found.address) == (4, interface)
    for to, via, four in (
        ("0.0.0.0/0", "10.0.0.1", True),
        ("default", "fd00::1", False),
        ("10.2.0.0/16", "", True),
        ("default", "", False),
    ):
        made = links.add_route(3, to, via, four=four)
        found = links.parse_route(Message(made.kind, 1, made.body))
        expected = to if to != "default" else "::/0"
        assert found is not None and (found.to, found.via, found.index) == (expected, via, 3)
        assert made.body[0] == (socket.AF_INET if four else socket.AF_INET6)
