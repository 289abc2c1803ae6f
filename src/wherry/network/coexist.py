"""Forwarding beside firewalls of others: what of theirs denies by default, and the rules that let ours through.

A verdict of accept in one table cannot undo a drop in another: every chain on the hook has its say
(nft(8), "Verdict statement"). So where a chain of others on the forward hook denies what it does not
know (by policy, as Docker's FORWARD and ufw's, or by a last rule without condition), rules are put at
its very end that accept traffic from and to our links by name. Whatever the administrator has denied
comes before them and stays denied; what may go where among ours is still decided by our own table.
docs/decisions/0010-beside-other-firewalls.md has the experiments.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.kernel import clauses
from wherry.kernel import nftables as nft
from wherry.kernel.clauses import ACCEPT, DROP, FAMILIES, INET, IPV4, IPV6
from wherry.kernel.netlink import NETFILTER, Netlink, NetlinkError, Request
from wherry.kernel.nftables import ChainFacts, Rule, RuleFacts
from wherry.network.naming import DEFAULT_LINK, OWN_PREFIXES

_log = logging.getLogger(__name__)
_OWNED = 2
"""NFT_TABLE_F_OWNER: only the process that made the table may change it."""
_FIREWALLD = "firewalld"
_LEGACY = ("ip_tables_names", "ip6_tables_names")


@dataclass(frozen=True, slots=True)
class Denial:
    """A chain of others that denies what it does not know; our rules go before rule `before` (0: the end)."""

    chain: ChainFacts
    before: int
    ours: tuple[RuleFacts, ...]
    last_ones_are_ours: bool
    owned: bool

    @property
    def name(self) -> str:
        """How nft(8) calls the chain."""
        return f"{FAMILIES.get(self.chain.family, '?')} {self.chain.table} {self.chain.name}"


def patterns(links: Iterable[str]) -> tuple[str, ...]:
    """Return what names our links: two prefixes, and the names that users have chosen."""
    own = {name for name in links if name and not name.startswith(OWN_PREFIXES)}
    return (*(f"{prefix}*" for prefix in OWN_PREFIXES), *sorted(own))


def wanted_rules(chain: str, comment: str, links: Iterable[str]) -> list[Rule]:
    """Return the rules that let our links through a chain; iptables(8) can list them."""
    return [
        Rule(
            chain,
            (clauses.by_name(field, pattern), clauses.counter(), clauses.verdict(ACCEPT)),
            comment,
        )
        for pattern in patterns(links)
        for field in (clauses.IIFNAME, clauses.OIFNAME)
    ]


class Forwarding:
    """Keeps our rules in chains of others, where they are needed."""

    def __init__(self, comment: str, table: str) -> None:
        """`comment` marks our rules: only those are ever removed. `table` is our own."""
        self._comment = comment
        self._table = table

    def settle(self, links: Sequence[str], *, allow: bool) -> tuple[list[str], list[str]]:
        """Have rules where they are needed and nowhere else; return what was done, and warnings.

        Without `allow` none are wanted anywhere, and the warnings say what is in the way.
        """
        done: list[str] = []
        warnings: list[str] = []
        with Netlink(NETFILTER) as netlink:
            netlink.widen()
            try:
                denials, stale = self._look(netlink)
            except OSError as error:
                return done, [f"the firewalls of this host cannot be read: {error.strerror}"]
            self._remove(netlink, stale, done)
            for denial in denials:
                self._settle_one(netlink, denial, links, done, warnings, allow=allow)
        return done, warnings + _legacy_warnings()

    def _settle_one(
        self,
        netlink: Netlink,
        denial: Denial,
        links: Sequence[str],
        done: list[str],
        warnings: list[str],
        *,
        allow: bool,
    ) -> None:
        chain = denial.chain
        if not allow or denial.owned or chain.table == _FIREWALLD:
            self._remove(netlink, denial.ours, done)
            warnings.append(_advice(denial, links))
            return
        wanted = wanted_rules(chain.name, self._comment, links)
        if denial.last_ones_are_ours and len(denial.ours) == len(wanted):
            return
        plan = _deletions(denial.ours)
        plan += [nft.new_rule(chain.family, chain.table, r, before=denial.before) for r in wanted]
        try:
            netlink.commit(nft.batch(plan))
        except NetlinkError as error:
            _log.warning("cannot add to the chain %s: %s", denial.name, error.strerror)
            warnings.append(_advice(denial, links))
        else:
            done.append(
                f"let wherry's links through the chain {denial.name}, which denies by default"
            )

    def withdraw(self) -> bool:
        """Take all our rules out of chains of others; return whether others are on the hook. Raises OSError."""
        with Netlink(NETFILTER) as netlink:
            netlink.widen()
            denials, stale = self._look(netlink)
            self._remove(netlink, stale, [])
            for denial in denials:
                self._remove(netlink, denial.ours, [])
            chains = map(nft.parse_chain, netlink.dump(nft.dump_chains()))
            others = [c for c in chains if c is not None and c.hook == nft.FORWARD]
            return any(chain.table != self._table for chain in others)

    def _remove(self, netlink: Netlink, some: Sequence[RuleFacts], done: list[str]) -> None:
        if not some:
            return
        try:
            netlink.commit(nft.batch(_deletions(some)))
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                _log.warning("cannot take our rules out of %s: %s", some[0].table, error.strerror)
            return
        done.append(f"took our rules out of the chain {some[0].chain} of {some[0].table}")

    def _look(self, netlink: Netlink) -> tuple[list[Denial], list[RuleFacts]]:
        """Return the chains that deny by default, and rules of ours in others that do not any more."""
        owned = {
            (table[0], table[1])
            for table in map(nft.parse_table, netlink.dump(nft.dump_tables()))
            if table is not None and table[2] & _OWNED
        }
        denials: list[Denial] = []
        stale: list[RuleFacts] = []
        for chain in map(nft.parse_chain, netlink.dump(nft.dump_chains())):
            if chain is None or not _concerns(chain):
                continue
            asked = nft.dump_rules(chain.family, chain.table, chain.name)
            rules = [rule for rule in map(nft.parse_rule, netlink.dump(asked)) if rule is not None]
            ours = tuple(rule for rule in rules if rule.comment == self._comment)
            others = [rule for rule in rules if rule.comment != self._comment]
            last = others[-1] if others and others[-1].denies_all else None
            if chain.policy != DROP and last is None:
                stale += ours
                continue
            body = rules[:-1] if last is not None and rules[-1] is last else rules
            end = body[len(body) - len(ours) :] if ours else []
            denials.append(
                Denial(
                    chain,
                    last.handle if last else 0,
                    ours,
                    tuple(end) == ours,
                    (chain.family, chain.table) in owned,
                )
            )
        return denials, stale


def _concerns(chain: ChainFacts) -> bool:
    """Whether a chain is on the forward hook of IP and not a wherry's."""
    on_hook = chain.hook == nft.FORWARD and chain.kind == "filter"
    return on_hook and chain.family in (INET, IPV4, IPV6) and not chain.table.startswith("wherry-")


def _deletions(some: Sequence[RuleFacts]) -> list[Request]:
    return [nft.delete_rule(rule.family, rule.table, rule.chain, rule.handle) for rule in some]


def _advice(denial: Denial, links: Sequence[str]) -> str:
    """Return a warning that names the commands to run."""
    names = " ".join(f"--add-interface={link}" for link in links or (DEFAULT_LINK,))
    if denial.chain.table == _FIREWALLD:
        how = f"firewall-cmd --permanent --zone=trusted {names} && firewall-cmd --reload"
    else:
        how = "; ".join(
            f"nft {'insert' if denial.before else 'add'} rule {denial.name} {field} '{pattern}' accept"
            for pattern in patterns(links)
            for field in ("iifname", "oifname")
        )
    return (
        f"the firewall chain {denial.name} denies forwarding by default: containers reach nothing outside "
        f"and published ports are not reached until you run: {how}"
    )


def _legacy_warnings() -> list[str]:
    """Return a warning where the older iptables is in use: its policies are not seen by nf_tables."""
    for name in _LEGACY:
        try:
            tables = Path("/proc/self/net", name).read_text().split()
        except OSError:
            continue
        if "filter" in tables:
            program = "iptables-legacy" if name.startswith("ip_") else "ip6tables-legacy"
            return [
                f"rules of {program} are in use here; where its FORWARD policy is DROP, run: "
                + "; ".join(
                    f"{program} -A FORWARD {flag} {prefix}+ -j ACCEPT"
                    for prefix in OWN_PREFIXES
                    for flag in ("-i", "-o")
                )
            ]
    return []
