"""Clauses of nf_tables rules: what nft(8) prints for them, and the expressions that the kernel runs. Pure.

Expressions load fields of a packet into registers of four bytes, compare them, look them up in sets,
and decide. Source: linux/netfilter/nf_tables.h of Linux 6.18; the numbers of types are nft's own
(src/datatype.h of nftables).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.kernel.netlink import attribute, be32, nested, text

INET, IPV4, IPV6 = 1, 2, 10
FAMILIES = {INET: "inet", IPV4: "ip", IPV6: "ip6", 3: "arp", 7: "bridge", 5: "netdev"}

_REGISTER = 8
"""NFT_REG32_00: sixteen registers of four bytes."""
_VERDICT_REGISTER = 0

ACCEPT, DROP, JUMP, GOTO, RETURN = 1, 0, -3, -4, -5


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *attributes))


def value_of(data: bytes) -> bytes:
    """Return NFTA_DATA_VALUE."""
    return attribute(1, data)


def _compare(register: int, data: bytes, *, differs: bool = False) -> bytes:
    return _expression("cmp", be32(1, register), be32(2, int(differs)), nested(3, value_of(data)))


def _meta(key: int, register: int) -> bytes:
    return _expression("meta", be32(2, key), be32(1, register))


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    return _expression(
        "payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, length)
    )


@dataclass(frozen=True, slots=True)
class Field:
    """Something of a packet: its text, nft's number of its type, its bytes, and how it is loaded."""

    text: str
    type_name: str
    type_number: int
    length: int
    family: int = 0
    """nfproto that it exists in; 0: any."""
    meta: int = -1
    payload: tuple[int, int] = (0, 0)

    @property
    def padded(self) -> int:
        """Bytes that it takes in a key: whole registers."""
        return (self.length + 3) & ~3

    def load(self, register: int) -> bytes:
        """Return the expression that loads it into `register`."""
        if self.meta >= 0:
            return _meta(self.meta, register)
        return _payload(*self.payload, self.length, register)


IIFNAME = Field("iifname", "ifname", 41, 16, meta=6)
OIFNAME = Field("oifname", "ifname", 41, 16, meta=7)
L4PROTO = Field("meta l4proto", "inet_proto", 12, 1, meta=16)
SADDR4 = Field("ip saddr", "ipv4_addr", 7, 4, 2, payload=(1, 12))
DADDR4 = Field("ip daddr", "ipv4_addr", 7, 4, 2, payload=(1, 16))
SADDR6 = Field("ip6 saddr", "ipv6_addr", 8, 16, 10, payload=(1, 8))
DADDR6 = Field("ip6 daddr", "ipv6_addr", 8, 16, 10, payload=(1, 24))
DPORT = Field("th dport", "inet_service", 13, 2, payload=(2, 2))
_NFPROTO = 15


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a rule: what nft(8) prints for it, and its expressions, encoded."""

    text: str
    expressions: bytes
    family: int = 0
    """It holds for this nfproto only; the rule says so first, once."""


def protocol(number: int) -> Clause:
    """Return the clause for IPv4 or IPv6 packets: `meta nfproto ipv4`."""
    name = {IPV4: "ipv4", IPV6: "ipv6"}[number]
    return Clause(f"meta nfproto {name}", of_family(number))


def of_family(number: int) -> bytes:
    """Return the expressions that hold for IPv4 or IPv6 packets only."""
    return _meta(_NFPROTO, _REGISTER) + _compare(_REGISTER, bytes([number]))


def _load(fields: Sequence[Field]) -> bytes:
    register, out = _REGISTER, b""
    for field in fields:
        out += field.load(register)
        register += field.padded // 4
    return out


def _family_of(fields: Sequence[Field]) -> int:
    return next((field.family for field in fields if field.family), 0)


def within(fields: Sequence[Field], name: str, *, inverted: bool = False) -> Clause:
    """Return the clause that the fields together are (or are not) an element of a set of this table."""
    flags = (be32(5, 1),) if inverted else ()
    lookup = _expression("lookup", text(1, name), be32(2, _REGISTER), *flags)
    said = " . ".join(field.text for field in fields)
    sign = " !=" if inverted else ""
    return Clause(f"{said}{sign} @{name}", _load(fields) + lookup, _family_of(fields))


def equals(field: Field, data: bytes, said: str, *, differs: bool = False) -> Clause:
    """Return the clause that a field has this value; `said` is the value as nft(8) prints it."""
    sign = "!= " if differs else ""
    return Clause(
        f"{field.text} {sign}{said}",
        field.load(_REGISTER) + _compare(_REGISTER, data, differs=differs),
        field.family,
    )


def by_name(field: Field, pattern: str) -> Clause:
    """Return the clause that a link has this name, or with a `*` behind it, a name that starts so."""
    start = pattern.removesuffix("*")
    data = start.encode() if start != pattern else start.encode().ljust(field.length, b"\0")
    return equals(field, data, f'"{pattern}"')


def from_loopback(*, differs: bool = False) -> Clause:
    """Return the clause that a packet came in by `lo`, or by anything else."""
    return equals(IIFNAME, b"lo".ljust(16, b"\0"), '"lo"', differs=differs)


def to_prefix4(field: Field, network: str, length: int) -> Clause:
    """Return the clause that an IPv4 field lies in a prefix of whole octets: `ip daddr 127.0.0.0/8`."""
    packed = socket.inet_aton(network)[: length // 8]
    load = _payload(*field.payload, length // 8, _REGISTER)
    return Clause(f"{field.text} {network}/{length}", load + _compare(_REGISTER, packed), IPV4)


def to_local() -> Clause:
    """Return the clause that the destination is an address of this host: `fib daddr type local`."""
    fib = _expression("fib", be32(1, _REGISTER), be32(2, 3), be32(3, 2))
    return Clause("fib daddr type local", fib + _compare(_REGISTER, struct.pack("=I", 2)))


def _bits(load: bytes, mask: int) -> bytes:
    word = struct.pack("=I", mask)
    masked = _expression(
        "bitwise",
        be32(1, _REGISTER),
        be32(2, _REGISTER),
        be32(3, 4),
        nested(4, value_of(word)),
        nested(5, value_of(bytes(4))),
    )
    return load + masked + _compare(_REGISTER, bytes(4), differs=True)


def _ct(key: int) -> bytes:
    return _expression("ct", be32(2, key), be32(1, _REGISTER))


def answers() -> Clause:
    """Return the clause for packets of connections that are known: `ct state established,related`."""
    return Clause("ct state established,related", _bits(_ct(0), 0x6))


def translated() -> Clause:
    """Return the clause for connections whose destination was changed: `ct status dnat`."""
    return Clause("ct status dnat", _bits(_ct(2), 0x20))


def counter(packets: int = 0, octets: int = 0) -> Clause:
    """Return the clause that counts."""
    body = _expression(
        "counter", attribute(1, struct.pack(">Q", octets)), attribute(2, struct.pack(">Q", packets))
    )
    return Clause("counter", body)


def verdict(code: int, chain: str = "") -> Clause:
    """Return what becomes of the packet: ACCEPT, DROP, RETURN, or JUMP and GOTO to a chain."""
    names = {
        ACCEPT: "accept",
        DROP: "drop",
        RETURN: "return",
        JUMP: f"jump {chain}",
        GOTO: f"goto {chain}",
    }
    to = text(2, chain) if chain else b""
    data = nested(2, nested(2, be32(1, code & 0xFFFFFFFF) + to))
    return Clause(names[code], _expression("immediate", be32(1, _VERDICT_REGISTER), data))


def masquerade() -> Clause:
    """Return the clause that gives a packet the address of the link it leaves by."""
    return Clause("masquerade", _expression("masq"))


def translate_by(fields: Sequence[Field], name: str, family: int) -> Clause:
    """Return the clause that sends a packet to the address and port that a map of this table has for the
    fields; packets without an element pass on."""
    size = 4 if family == IPV4 else 16
    lookup = _expression("lookup", text(1, name), be32(2, _REGISTER), be32(3, _REGISTER))
    nat = _nat(family, _REGISTER, _REGISTER + size // 4)
    said = " . ".join(field.text for field in fields)
    return Clause(
        f"dnat {FAMILIES[family]} to {said} map @{name}",
        _load(fields) + lookup + nat,
        _family_of(fields),
    )


def translate_source_by(fields: Sequence[Field], name: str, family: int) -> Clause:
    """Return the clause that gives a packet the source address that a map of this table has for the fields;
    packets without an element pass on."""
    lookup = _expression("lookup", text(1, name), be32(2, _REGISTER), be32(3, _REGISTER))
    source = be32(1, 0), be32(2, family), be32(3, _REGISTER), be32(4, _REGISTER)
    said = " . ".join(field.text for field in fields)
    return Clause(
        f"snat {FAMILIES[family]} to {said} map @{name}",
        _load(fields) + lookup + _expression("nat", *source),
        _family_of(fields),
    )


def translate_to(address: str, port: int) -> Clause:
    """Return the clause that sends a packet to one IPv4 address and port."""
    load = _expression(
        "immediate", be32(1, _REGISTER), nested(2, value_of(socket.inet_aton(address)))
    ) + _expression(
        "immediate", be32(1, _REGISTER + 1), nested(2, value_of(struct.pack(">H", port)))
    )
    return Clause(f"dnat to {address}:{port}", load + _nat(IPV4, _REGISTER, _REGISTER + 1), IPV4)


def _nat(family: int, address: int, port: int) -> bytes:
    return _expression(
        "nat",
        be32(1, 1),
        be32(2, family),
        be32(3, address),
        be32(4, address),
        be32(5, port),
        be32(6, port),
    )
