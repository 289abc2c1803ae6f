"""nf_tables: tables, chains, sets, rules and their elements as nfnetlink requests. Pure.

A rule is a row of clauses; a clause has a text, as nft(8) prints it, and the expressions that the
kernel runs. `batch` makes one transaction of requests: all of it is done or nothing.
Source: linux/netfilter/nf_tables.h, nfnetlink.h of Linux 6.18; the numbers of types are nft's own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wherry.kernel.clauses import ACCEPT, DROP, INET, Clause, Field, of_family, value_of
from wherry.kernel.netlink import (
    APPEND,
    CREATE,
    Message,
    Request,
    attribute,
    be32,
    get_be32,
    get_text,
    nested,
    parse_attributes,
    parse_list,
    text,
)

_SUBSYSTEM = 10 << 8
_NEWTABLE, _GETTABLE, _DELTABLE = 0, 1, 2
_NEWCHAIN, _GETCHAIN, _DELCHAIN = 3, 4, 5
_NEWRULE, _GETRULE, _DELRULE = 6, 7, 8
_NEWSET, _GETSET, _DELSET = 9, 10, 11
_NEWELEM, _DELELEM = 12, 14
_BATCH_BEGIN, _BATCH_END = 16, 17

_IS_MAP, _IS_INTERVAL = 8, 4
INTERVAL_END = 1
_HOST_ORDER, _NETWORK_ORDER = 1, 2

Entry = tuple[bytes, bytes, int]
"""An element: key, data (of maps), flags (INTERVAL_END)."""

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


def request(kind: int, family: int, body: bytes, flags: int = 0) -> Request:
    """Return one nf_tables request with its nfgenmsg header."""
    return Request(_SUBSYSTEM | kind, struct.pack(">BBH", family, 0, 0) + body, flags)


def batch(requests: Iterable[Request]) -> list[Request]:
    """Return the requests between the messages that open and close a transaction."""
    edge = struct.pack(">BBH", 0, 0, 10)
    return [Request(_BATCH_BEGIN, edge), *requests, Request(_BATCH_END, edge)]


# -- what tables hold ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; one with a `hook` is a base chain, `kind` and `priority` are then as in nft(8)."""

    name: str
    hook: int = -1
    kind: str = "filter"
    priority: int = 0
    policy: int = ACCEPT


@dataclass(frozen=True, slots=True)
class Set:
    """A set, or with `data` a map, of the fields that its key is made of."""

    name: str
    key: tuple[Field, ...]
    data: tuple[Field, ...] = ()
    interval: bool = False
    """Elements are ranges: one where it starts, one behind its end."""

    def encode_key(self, *parts: bytes) -> bytes:
        """Return a key: each part padded to whole registers."""
        return b"".join(
            part.ljust(f.padded, b"\0") for f, part in zip(self.key, parts, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule at the end of a chain; `comment` is shown by nft(8) and iptables(8) alike."""

    chain: str
    clauses: tuple[Clause, ...]
    comment: str = ""

    @property
    def text(self) -> str:
        """The rule as nft(8) prints it."""
        said = " ".join(clause.text for clause in self.clauses)
        return f'{said} comment "{self.comment}"' if self.comment else said


def new_table(family: int, table: str) -> Request:
    """Return the request that makes a table, or finds it made."""
    return request(_NEWTABLE, family, text(1, table), CREATE)


def delete_table(family: int, table: str) -> Request:
    """Return the request that removes a table and all in it."""
    return request(_DELTABLE, family, text(1, table))


def new_chain(family: int, table: str, chain: Chain) -> Request:
    """Return the request that makes a chain, or finds it made."""
    body = text(1, table) + text(3, chain.name)
    if chain.hook >= 0:
        hook = nested(4, be32(1, chain.hook), be32(2, chain.priority & 0xFFFFFFFF))
        body += hook + be32(5, chain.policy) + text(7, chain.kind)
    return request(_NEWCHAIN, family, body, CREATE)


def flush_chain(family: int, table: str, chain: str) -> Request:
    """Return the request that removes a chain's rules."""
    return request(_DELRULE, family, text(1, table) + text(2, chain))


def new_rule(family: int, table: str, rule: Rule, *, before: int = 0) -> Request:
    """Return the request that appends a rule to its chain, or puts it before the one with that handle."""
    expressions = b""
    said = 0
    for clause in rule.clauses:
        if clause.family and clause.family != said and family == INET:
            expressions += of_family(clause.family)
            said = clause.family
        expressions += clause.expressions
    body = text(1, table) + text(2, rule.chain) + attribute(4 | 0x8000, expressions)
    if rule.comment:
        body += attribute(7, _user_text(rule.comment))
    if before:
        return request(_NEWRULE, family, body + attribute(6, struct.pack(">Q", before)), CREATE)
    return request(_NEWRULE, family, body, CREATE | APPEND)


def _user_text(comment: str) -> bytes:
    """Return libnftnl's form of a comment: type 0, length, text with its zero."""
    data = comment.encode()[:127] + b"\0"
    return bytes([0, len(data)]) + data


def delete_rule(family: int, table: str, chain: str, handle: int) -> Request:
    """Return the request that removes one rule."""
    where = text(1, table) + text(2, chain) + attribute(3, struct.pack(">Q", handle))
    return request(_DELRULE, family, where)


def _type_number(fields: Sequence[Field]) -> int:
    number = 0
    for field in fields:
        number = number << 6 | field.type_number
    return number


def new_set(family: int, table: str, wanted: Set, number: int) -> Request:
    """Return the request that makes a set, or finds it made; `number` is its own within the batch."""
    body = (
        text(1, table)
        + text(2, wanted.name)
        + be32(3, _IS_MAP * bool(wanted.data) | _IS_INTERVAL * wanted.interval)
    )
    several = len(wanted.key) > 1
    length = sum(field.padded if several else field.length for field in wanted.key)
    body += be32(4, _type_number(wanted.key)) + be32(5, length)
    if wanted.data:
        size = sum(field.padded for field in wanted.data)
        body += be32(6, _type_number(wanted.data)) + be32(7, size)
    if not several:
        # For nft(8): the bytes of names are in the host's order, those of addresses are not.
        order = _HOST_ORDER if wanted.key[0].type_name == "ifname" else _NETWORK_ORDER
        body += attribute(13, bytes([0, 4]) + struct.pack("=I", order))
    return request(_NEWSET, family, body + be32(10, number), CREATE)


def flush_set(family: int, table: str, name: str) -> Request:
    """Return the request that takes all elements out of a set."""
    return request(_DELELEM, family, text(1, table) + text(2, name))


def _elements(
    kind: int,
    family: int,
    table: str,
    name: str,
    elements: Sequence[Entry],
    flags: int,
) -> list[Request]:
    out: list[Request] = []
    for at in range(0, len(elements), 256):
        body = b"".join(
            nested(
                1,
                nested(1, value_of(key)),
                *((nested(2, value_of(data)),) if data else ()),
                *((be32(3, flag),) if flag else ()),
            )
            for key, data, flag in elements[at : at + 256]
        )
        where = text(1, table) + text(2, name)
        out.append(request(kind, family, where + attribute(3 | 0x8000, body), flags))
    return out


def add_elements(family: int, table: str, name: str, elements: Sequence[Entry]) -> list[Request]:
    """Return the requests that put elements into a set. Again is fine."""
    return _elements(_NEWELEM, family, table, name, elements, CREATE)


def delete_elements(family: int, table: str, name: str, elements: Sequence[Entry]) -> list[Request]:
    """Return the requests that take keys out of a set; the batch fails with ENOENT for a missing one."""
    bare = [(key, b"", flag) for key, _, flag in elements]
    return _elements(_DELELEM, family, table, name, bare, 0)


# -- what is asked ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """A chain that is there; `hook` is -1 where it is none of the base chains."""

    family: int
    table: str
    name: str
    hook: int
    priority: int
    policy: int
    kind: str


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """A rule that is there: where, its handle, its comment."""

    family: int
    table: str
    chain: str
    handle: int
    comment: str
    denies_all: bool = False
    """It drops or rejects whatever comes to it: no expression of it asks anything."""


def dump_tables(family: int = 0) -> Request:
    """Return the question about all tables."""
    return request(_GETTABLE, family, b"")


def dump_chains(family: int = 0) -> Request:
    """Return the question about all chains."""
    return request(_GETCHAIN, family, b"")


def dump_rules(family: int, table: str, chain: str) -> Request:
    """Return the question about the rules of a chain."""
    return request(_GETRULE, family, text(1, table) + text(2, chain))


def _body(message: Message, kind: int) -> tuple[int, dict[int, bytes]] | None:
    if message.kind != (_SUBSYSTEM | kind) or len(message.body) < 4:
        return None
    return message.body[0], parse_attributes(message.body[4:])


def parse_table(message: Message) -> tuple[int, str, int] | None:
    """Return family, name and flags (2: owned by a process) of a table; None for another message."""
    found = _body(message, _NEWTABLE)
    if found is None:
        return None
    return found[0], get_text(found[1].get(1)), get_be32(found[1].get(2))


def parse_chain(message: Message) -> ChainFacts | None:
    """Return what a message tells of a chain; None for another one."""
    found = _body(message, _NEWCHAIN)
    if found is None:
        return None
    family, fields = found
    hook = parse_attributes(fields.get(4, b""))
    priority = get_be32(hook.get(2))
    return ChainFacts(
        family=family,
        table=get_text(fields.get(1)),
        name=get_text(fields.get(3)),
        hook=get_be32(hook.get(1)) if hook else -1,
        priority=priority - (1 << 32) if priority >> 31 else priority,
        policy=get_be32(fields.get(5), ACCEPT),
        kind=get_text(fields.get(7)),
    )


def parse_rule(message: Message) -> RuleFacts | None:
    """Return what a message tells of a rule; None for another one."""
    found = _body(message, _NEWRULE)
    if found is None:
        return None
    family, fields = found
    handle = fields.get(3, b"")
    return RuleFacts(
        family=family,
        table=get_text(fields.get(1)),
        chain=get_text(fields.get(2)),
        handle=struct.unpack(">Q", handle)[0] if len(handle) == 8 else 0,
        comment=parse_comment(fields.get(7, b"")),
        denies_all=_denies_all(fields.get(4, b"")),
    )


def _denies_all(expressions: bytes) -> bool:
    """Whether a rule has a denial and no condition: `drop`, `reject`, xtables' target REJECT."""
    denies = False
    for _, item in parse_list(expressions):
        fields = parse_attributes(item)
        name, inner = get_text(fields.get(1)), parse_attributes(fields.get(2, b""))
        match name:
            case "counter" | "log":
                continue
            case "reject":
                denies = True
            case "target":
                denies |= get_text(inner.get(1)) in ("REJECT", "DROP")
            case "immediate":
                code = parse_attributes(parse_attributes(inner.get(2, b"")).get(2, b"")).get(1)
                denies |= code is not None and get_be32(code) == DROP
            case _:
                return False
    return denies


def parse_comment(data: bytes) -> str:
    """Return the comment in a rule's user data (libnftnl's type, length, value); empty where none is."""
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        if kind == 0:
            return get_text(data[at + 2 : at + 2 + length])
        at += 2 + length
    return ""
