"""The engine's table: a fixed set of rules, and sets whose elements are its networks and ports. Pure.

Nothing in a rule names a network or a port, so a network is five elements and a port is one, however
many there are. Packets of others leave every chain by its first rule.

    prerouting, output   published ports: the destination becomes the container (one map look-up)
    forward              what may go where; the administrator's rules come first
    postrouting          what leaves gets the host's address; so does what comes back in by a hairpin

`others` is empty unless this engine has turned forwarding on: then it keeps the host from being a router
for everybody (`plan_closing`). `admin-prerouting` (before a published port's destination is changed)
and `admin-forward` are the administrator's: they are made empty and never flushed. `render` gives what
nft(8) prints.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wherry.kernel import clauses
from wherry.kernel import nftables as nft
from wherry.kernel.clauses import Clause
from wherry.kernel.netlink import Request
from wherry.kernel.nftables import Chain, Rule, Set
from wherry.model.networks import BridgePlan
from wherry.network.naming import OWN_PREFIXES
from wherry.network.options import has_version

FAMILY = clauses.INET
ADMIN_FORWARD = "admin-forward"
ADMIN_PREROUTING = "admin-prerouting"
OTHERS = "others"
KEPT = (ADMIN_FORWARD, ADMIN_PREROUTING, OTHERS)
"""Chains whose rules are not wherry's to flush at a load."""
_BOTH = (clauses.IIFNAME, clauses.OIFNAME)
_ANY = (clauses.L4PROTO, clauses.DPORT)
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

SETS = (
    Set("links", (clauses.IIFNAME,)),
    Set("together", _BOTH),
    Set("internal", (clauses.IIFNAME,)),
    Set("masquerade4", (clauses.IIFNAME,)),
    Set("masquerade6", (clauses.IIFNAME,)),
    Set("source4", (clauses.IIFNAME,), (clauses.DADDR4,)),
    Set("source6", (clauses.IIFNAME,), (clauses.DADDR6,)),
    Set("subnets4", (clauses.SADDR4,), interval=True),
    Set("subnets6", (clauses.SADDR6,), interval=True),
    Set("open4", (clauses.IIFNAME,)),
    Set("open6", (clauses.IIFNAME,)),
    Set("routed4", (clauses.IIFNAME,)),
    Set("routed6", (clauses.IIFNAME,)),
    Set("direct4", (clauses.DADDR4, *_ANY)),
    Set("direct6", (clauses.DADDR6, *_ANY)),
    Set("trusted4", (clauses.IIFNAME, clauses.DADDR4, *_ANY)),
    Set("trusted6", (clauses.IIFNAME, clauses.DADDR6, *_ANY)),
    Set("linked4", (clauses.SADDR4, clauses.DADDR4, *_ANY)),
    Set("any4", _ANY, (clauses.DADDR4, clauses.DPORT)),
    Set("any6", _ANY, (clauses.DADDR6, clauses.DPORT)),
    Set("bound4", (clauses.DADDR4, *_ANY), (clauses.DADDR4, clauses.DPORT)),
    Set("bound6", (clauses.DADDR6, *_ANY), (clauses.DADDR6, clauses.DPORT)),
)
_BY_NAME = {wanted.name: wanted for wanted in SETS}

CHAINS = (
    Chain("guard", nft.PREROUTING, "filter", -300),
    Chain("before", nft.PREROUTING, "filter", -110),
    Chain("prerouting", nft.PREROUTING, "nat", -100),
    Chain("output", nft.OUTPUT, "nat", -100),
    Chain("forward", nft.FORWARD, "filter", 0),
    Chain("postrouting", nft.POSTROUTING, "nat", 100),
    Chain("published"),
    Chain(ADMIN_PREROUTING),
    Chain(ADMIN_FORWARD),
    Chain(OTHERS),
)
"""Base chains with nft's priorities: raw, before dstnat, dstnat, filter, srcnat."""

_LOOPBACK = clauses.to_prefix4(clauses.DADDR4, "127.0.0.0", 8)
_FROM_LOOPBACK = clauses.to_prefix4(clauses.SADDR4, "127.0.0.0", 8)
_IPV6_LOOPBACK = clauses.equals(clauses.DADDR6, socket.inet_pton(socket.AF_INET6, "::1"), "::1")
_IN = clauses.within((clauses.IIFNAME,), "links")
_OUT = clauses.within((clauses.OIFNAME,), "links")
_NOT_IN = clauses.within((clauses.IIFNAME,), "links", inverted=True)
_NOT_OUT = clauses.within((clauses.OIFNAME,), "links", inverted=True)
_ACCEPT, _DROP, _RETURN = (
    clauses.verdict(code) for code in (clauses.ACCEPT, clauses.DROP, clauses.RETURN)
)
_MASQUERADE = clauses.masquerade()
_PUBLISHED = clauses.verdict(clauses.JUMP, "published")
_ICMP = clauses.equals(clauses.L4PROTO, b"\1", "icmp")
_ICMP6 = clauses.equals(clauses.L4PROTO, b"\x3a", "ipv6-icmp")


def _rule(chain: str, *parts: Clause) -> Rule:
    return Rule(chain, parts)


def _forward(version: int) -> tuple[Rule, ...]:
    """What may be reached without a published port, in networks whose gateway mode says so."""
    family = clauses.IPV4 if version == 4 else clauses.IPV6
    address = clauses.DADDR4 if version == 4 else clauses.DADDR6
    echo = _ICMP if version == 4 else _ICMP6
    return (
        _rule(
            "forward",
            clauses.protocol(family),
            clauses.within((clauses.OIFNAME,), f"open{version}"),
            _ACCEPT,
        ),
        _rule(
            "forward",
            echo,
            clauses.within((clauses.OIFNAME,), f"routed{version}"),
            _ACCEPT,
        ),
        _rule("forward", clauses.within((address, *_ANY), f"direct{version}"), _ACCEPT),
        _rule(
            "forward",
            clauses.within((clauses.IIFNAME, address, *_ANY), f"trusted{version}"),
            _ACCEPT,
        ),
    )


RULES: tuple[Rule, ...] = (
    # route_localnet is set on our bridges for ports on 127.0.0.1: a container must not use it (CVE-2020-8558).
    _rule("guard", _LOOPBACK, _IN, _DROP),
    _rule("before", clauses.verdict(clauses.JUMP, ADMIN_PREROUTING)),
    # A port on 127.0.0.1 is for this host; who sends there from outside reaches nothing (GHSA-x4rx-4gw3-53p4).
    _rule("prerouting", clauses.from_loopback(differs=True), _LOOPBACK, _RETURN),
    _rule("prerouting", clauses.to_local(), _PUBLISHED),
    # The kernel does not route ::1 away from the loopback: a listener stands in there.
    _rule("output", _IPV6_LOOPBACK, _RETURN),
    _rule("output", clauses.to_local(), _PUBLISHED),
    _rule("published", clauses.translate_by((clauses.DADDR4, *_ANY), "bound4", clauses.IPV4)),
    _rule(
        "published",
        clauses.protocol(clauses.IPV4),
        clauses.translate_by(_ANY, "any4", clauses.IPV4),
    ),
    _rule("published", clauses.translate_by((clauses.DADDR6, *_ANY), "bound6", clauses.IPV6)),
    _rule(
        "published",
        clauses.protocol(clauses.IPV6),
        clauses.translate_by(_ANY, "any6", clauses.IPV6),
    ),
    _rule("forward", _NOT_IN, _NOT_OUT, clauses.verdict(clauses.GOTO, OTHERS)),
    _rule("forward", clauses.verdict(clauses.JUMP, ADMIN_FORWARD)),
    _rule("forward", clauses.answers(), _ACCEPT),
    _rule("forward", clauses.within(_BOTH, "together"), _ACCEPT),
    # --link where icc is off.
    _rule("forward", clauses.within((clauses.SADDR4, clauses.DADDR4, *_ANY), "linked4"), _ACCEPT),
    _rule("forward", clauses.within((clauses.IIFNAME,), "internal"), _DROP),
    _rule("forward", clauses.within((clauses.OIFNAME,), "internal"), _DROP),
    _rule("forward", clauses.translated(), _ACCEPT),
    *_forward(4),
    *_forward(6),
    _rule("forward", _OUT, _DROP),
    # From a container to one by a published port, or from 127.0.0.1: the answer has to come back this way.
    # By address, since what br_netfilter bridges has no incoming link here.
    *(
        _rule(
            "postrouting", clauses.within((field,), name), _OUT, clauses.translated(), _MASQUERADE
        )
        for field, name in ((clauses.SADDR4, "subnets4"), (clauses.SADDR6, "subnets6"))
    ),
    _rule("postrouting", _FROM_LOOPBACK, _OUT, _MASQUERADE),
    *(
        _rule(
            "postrouting",
            clauses.protocol(family),
            _NOT_OUT,
            clauses.translate_source_by((clauses.IIFNAME,), name, family),
        )
        for family, name in ((clauses.IPV4, "source4"), (clauses.IPV6, "source6"))
    ),
    *(
        _rule(
            "postrouting",
            clauses.protocol(family),
            clauses.within((clauses.IIFNAME,), name),
            _NOT_OUT,
            _MASQUERADE,
        )
        for family, name in ((clauses.IPV4, "masquerade4"), (clauses.IPV6, "masquerade6"))
    ),
)


@dataclass(frozen=True, slots=True)
class Element:
    """An element of one of the sets: encoded, and as nft(8) prints it."""

    set_name: str
    key: bytes
    data: bytes = b""
    text: str = ""
    flags: int = 0

    @property
    def identity(self) -> tuple[str, bytes, int]:
        """What tells it from other elements."""
        return self.set_name, self.key, self.flags


def _name_bytes(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def network_elements(plan: BridgePlan) -> tuple[Element, ...]:
    """Return what the rules have to know of a network."""
    link, said = _name_bytes(plan.link), f'"{plan.link}"'
    names = ["links"]
    if plan.internal:
        names.append("internal")
    sources: list[Element] = []
    for version, mode, source in (
        (4, plan.mode4, plan.source4),
        (6, plan.mode6, plan.source6),
    ):
        if plan.internal or not has_version(plan.subnets, version):
            continue
        hidden = plan.masquerade and mode in ("nat", "nat-unprotected")
        if hidden and source:
            text = f"{said} : {source}"
            sources.append(Element(f"source{version}", link, _pack(source), text))
        elif hidden:
            names.append(f"masquerade{version}")
        if mode == "nat-unprotected":
            names.append(f"open{version}")
        if mode == "routed":
            names.append(f"routed{version}")
    found = [*(Element(name, link, text=said) for name in names), *sources]
    for subnet in plan.subnets:
        found += _range(subnet)
    if plan.icc:
        found.append(Element("together", link + link, text=f"{said} . {said}"))
    return tuple(found)


def _range(subnet: str) -> list[Element]:
    network = ipaddress.ip_network(subnet)
    name, size = ("subnets4", 4) if network.version == 4 else ("subnets6", 16)
    end = int(network.broadcast_address) + 1
    found = [Element(name, network.network_address.packed, text=subnet)]
    if end < 1 << size * 8:
        found.append(Element(name, end.to_bytes(size, "big"), flags=nft.INTERVAL_END))
    return found


def _pack(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def port_element(proto: str, host: str, port: int, address: str, to: int) -> Element:
    """Return the element that publishes a port; `host` is 0.0.0.0 or :: for every address of its family."""
    version = "6" if ":" in host else "4"
    everywhere = host in ("0.0.0.0", "::")
    name = f"any{version}" if everywhere else f"bound{version}"
    parts = (bytes([PROTOCOLS[proto]]), struct.pack(">H", port))
    key = _BY_NAME[name].encode_key(*(() if everywhere else (_pack(host),)), *parts)
    data = _pack(address) + struct.pack(">HH", to, 0)
    where = "" if everywhere else f"{host} . "
    return Element(name, key, data, f"{where}{proto} . {port} : {address} . {to}")


def direct_element(proto: str, address: str, port: int, link: str = "") -> Element:
    """Return the element that lets a port be reached by the container's own address, by one link or all."""
    version = "6" if ":" in address else "4"
    name = f"trusted{version}" if link else f"direct{version}"
    start = (_name_bytes(link),) if link else ()
    parts = (*start, _pack(address), bytes([PROTOCOLS[proto]]), struct.pack(">H", port))
    where = f'"{link}" . ' if link else ""
    text = f"{where}{address} . {proto} . {port}"
    return Element(name, _BY_NAME[name].encode_key(*parts), b"", text)


def linked_element(source: str, address: str, proto: str, port: int) -> Element:
    """Return the element that lets one container reach a port of another where icc is off."""
    parts = (_pack(source), _pack(address), bytes([PROTOCOLS[proto]]), struct.pack(">H", port))
    text = f"{source} . {address} . {proto} . {port}"
    return Element("linked4", _BY_NAME["linked4"].encode_key(*parts), b"", text)


def plan_load(table: str, elements: Iterable[Element]) -> list[Request]:
    """Return the whole table as one transaction, in place of what was in it but the administrator's rules."""
    out = [nft.new_table(FAMILY, table)]
    out += [nft.new_chain(FAMILY, table, chain) for chain in CHAINS]
    mine = [chain.name for chain in CHAINS if chain.name not in KEPT]
    out += [nft.flush_chain(FAMILY, table, chain) for chain in mine]
    out += [nft.new_set(FAMILY, table, wanted, n) for n, wanted in enumerate(SETS, 1)]
    out += [nft.flush_set(FAMILY, table, wanted.name) for wanted in SETS]
    out += plan_add(table, elements)
    return out + [nft.new_rule(FAMILY, table, rule) for rule in RULES]


def plan_closing(table: str, version: int) -> list[Request]:
    """Return the requests that deny forwarding of one family between links that are no engine's."""
    family = clauses.IPV4 if version == 4 else clauses.IPV6
    names = [f"{prefix}*" for prefix in OWN_PREFIXES]
    skip = [
        (clauses.by_name(field, name), _ACCEPT)
        for name in names
        for field in (clauses.IIFNAME, clauses.OIFNAME)
    ]
    some = [Rule(OTHERS, part) for part in (*skip, (clauses.answers(), _ACCEPT))]
    some.append(Rule(OTHERS, (clauses.protocol(family), _DROP), closing_mark(version)))
    return [nft.new_rule(FAMILY, table, rule) for rule in some]


def closing_mark(version: int) -> str:
    """Return the comment that tells the next daemon that this engine has turned forwarding on."""
    return f"IPv{version} forwarding was off"


def _by_set(elements: Iterable[Element]) -> dict[str, list[Element]]:
    found: dict[str, list[Element]] = {}
    for element in elements:
        found.setdefault(element.set_name, []).append(element)
    return found


def plan_add(table: str, elements: Iterable[Element]) -> list[Request]:
    """Return the requests that add elements."""
    out: list[Request] = []
    for name, some in _by_set(elements).items():
        out += nft.add_elements(FAMILY, table, name, [(e.key, e.data, e.flags) for e in some])
    return out


def plan_remove(table: str, elements: Iterable[Element]) -> list[Request]:
    """Return the requests that remove elements."""
    out: list[Request] = []
    for name, some in _by_set(elements).items():
        out += nft.delete_elements(FAMILY, table, name, [(e.key, b"", e.flags) for e in some])
    return out


def render(table: str, elements: Sequence[Element] = ()) -> str:
    """Return the table as text that nft(8) reads, elements in the order given."""
    lines = [f"table inet {table} {{"]
    grouped = _by_set(elements)
    for wanted in SETS:
        kind = " . ".join(field.type_name for field in wanted.key)
        data = " . ".join(field.type_name for field in wanted.data)
        lines.append(f"\t{'map' if data else 'set'} {wanted.name} {{")
        lines.append(f"\t\ttype {kind}{f' : {data}' if data else ''}")
        if wanted.interval:
            lines.append("\t\tflags interval")
        if said := [e.text for e in grouped.get(wanted.name, ()) if e.text]:
            lines.append(f"\t\telements = {{ {', '.join(said)} }}")
        lines.append("\t}")
    names = {-300: "raw", -110: "dstnat - 10", -100: "dstnat", 0: "filter", 100: "srcnat"}
    for chain in CHAINS:
        lines.append(f"\tchain {chain.name} {{")
        if chain.hook >= 0:
            # nft knows `dstnat` in prerouting only.
            said = names[chain.priority] if chain.name != "output" else "-100"
            hook = nft.HOOKS[chain.hook]
            lines.append(f"\t\ttype {chain.kind} hook {hook} priority {said}; policy accept;")
        lines += [f"\t\t{rule.text}" for rule in RULES if rule.chain == chain.name]
        lines.append("\t}")
    return "\n".join([*lines, "}"]) + "\n"
