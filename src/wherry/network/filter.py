"""Keeps the engine's table in the kernel as it is wanted. Performs what `rules` plans."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterable, Sequence

from wherry.kernel import conntrack
from wherry.kernel import nftables as nft
from wherry.kernel.netlink import NETFILTER, Netlink, NetlinkError, Request
from wherry.model.errors import Unavailable
from wherry.network import rules
from wherry.network.rules import Element

_log = logging.getLogger(__name__)
_GONE = (errno.ENOENT, errno.EOPNOTSUPP)
_ODD = (errno.EEXIST, errno.EINVAL)
_BUSY_TRIES = 5


class Filter:
    """The wanted elements, and the socket by which the kernel is told."""

    def __init__(self, table: str) -> None:
        self._lock = threading.RLock()
        self.table = table
        self._wanted: dict[tuple[str, bytes, int], Element] = {}
        self._netlink: Netlink | None = None
        self._loaded = False

    def close(self) -> None:
        """Close the socket; the rules stay."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    @property
    def wanted(self) -> tuple[Element, ...]:
        """All elements that are to be there."""
        return tuple(self._wanted.values())

    def expect(self, elements: Iterable[Element]) -> None:
        """Want elements without telling the kernel: `load` does."""
        with self._lock:
            for element in elements:
                self._wanted[element.identity] = element

    def add(self, elements: Sequence[Element]) -> None:
        """Have elements in the kernel. Raises Unavailable; nothing is wanted of them then."""
        with self._lock:
            replaced = [e for e in elements if self._differs(e)]
            self.expect(elements)
            try:
                if not self._loaded:
                    self.load()
                    return
                # A map's element cannot be changed: it is replaced in one transaction.
                plan = rules.plan_remove(self.table, replaced) + rules.plan_add(
                    self.table, elements
                )
                self._commit_or_load(plan)
            except BaseException:
                for element in elements:
                    self._wanted.pop(element.identity, None)
                raise

    def _differs(self, element: Element) -> bool:
        present = self._wanted.get(element.identity)
        return present is not None and present.data != element.data

    def remove(self, elements: Sequence[Element]) -> None:
        """Have elements gone; again is fine. Raises Unavailable."""
        with self._lock:
            present = [e for e in elements if e.identity in self._wanted]
            for element in present:
                del self._wanted[element.identity]
            if present and self._loaded:
                self._commit_or_load(rules.plan_remove(self.table, present))

    def _commit_or_load(self, plan: list[Request]) -> None:
        try:
            self._commit(plan)
        except NetlinkError as error:
            # Somebody has flushed the rules, or has taken the element away: all of it is made again.
            if error.errno not in (*_GONE, *_ODD):
                raise _refused(error) from error
            _log.warning("the table %s was changed by somebody else: made again", self.table)
            self.load()

    def forget_flows(self, ports: Sequence[tuple[str, int, int]]) -> None:
        """Have connections to (host address, protocol, port) looked at by the rules again.

        By the socket that is kept: closing one waits for what was removed to be freed, some 15 ms.
        """
        with self._lock:
            try:
                if ports:
                    conntrack.forget_ports(self._socket(), ports)
            except OSError as error:
                self.close()
                text = error.strerror
                _log.warning("connections to ports that changed hands are still known: %s", text)

    def load(self) -> None:
        """Make the whole table as it is wanted; the administrator's chains stay. Raises Unavailable."""
        with self._lock:
            try:
                try:
                    self._commit(rules.plan_load(self.table, self.wanted))
                except NetlinkError as error:
                    if error.errno not in _ODD:
                        raise
                    # A table of the same name with other sets: of another version, and then not of much use.
                    _log.warning("the table %s is of another make: replaced", self.table)
                    whole = rules.plan_load(self.table, self.wanted)
                    self._commit([nft.delete_table(rules.FAMILY, self.table), *whole])
            except NetlinkError as error:
                raise _refused(error) from error
            self._loaded = True

    def unload(self) -> None:
        """Remove the table; again is fine. Raises Unavailable.

        One with rules of the administrator stays, knowing no network.
        """
        with self._lock:
            self._wanted.clear()
            try:
                if self._rules_of(rules.ADMIN_FORWARD) or self._rules_of(rules.ADMIN_PREROUTING):
                    empty = nft.flush_chain(rules.FAMILY, self.table, rules.OTHERS)
                    self._commit([empty, *rules.plan_load(self.table, ())])
                else:
                    self._commit([nft.delete_table(rules.FAMILY, self.table)])
            except NetlinkError as error:
                if error.errno not in _GONE:
                    raise _refused(error) from error
            self._loaded = False

    def _rules_of(self, chain: str) -> list[nft.RuleFacts]:
        with Netlink(NETFILTER) as asked:
            asked.widen()
            try:
                found = asked.dump(nft.dump_rules(rules.FAMILY, self.table, chain))
            except NetlinkError:
                return []
            return [rule for rule in map(nft.parse_rule, found) if rule is not None]

    def close_others(self, version: int) -> None:
        """Keep the host from forwarding for others than us; once. Raises Unavailable."""
        with self._lock:
            try:
                self._commit(rules.plan_closing(self.table, version))
            except NetlinkError as error:
                raise _refused(error) from error

    def has_closed_others(self, version: int) -> bool:
        """Whether that was done, by whichever daemon: the host did not forward that family before."""
        mark = rules.closing_mark(version)
        return any(rule.comment == mark for rule in self._rules_of(rules.OTHERS))

    def is_loaded(self) -> bool:
        """Whether the kernel has the table now."""
        with Netlink(NETFILTER) as asked:
            asked.widen()
            tables = (nft.parse_table(m) for m in asked.dump(nft.dump_tables(rules.FAMILY)))
            return any(table is not None and table[1] == self.table for table in tables)

    def _socket(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink(NETFILTER)
            self._netlink.widen()
        return self._netlink

    def _commit(self, plan: list[Request]) -> None:
        for _ in range(_BUSY_TRIES):
            try:
                self._socket().commit(nft.batch(plan))
                return
            except NetlinkError as error:
                # Somebody else's transaction came between; the kernel has retried itself as well.
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    raise
            except OSError:
                self.close()
                raise
        raise NetlinkError(errno.EBUSY, "others change the rules all the time", 0)


def _refused(error: NetlinkError) -> Unavailable:
    text = (error.strerror or str(error)).lower()
    hint = "the kernel needs nf_tables with nat" if error.errno in _GONE else ""
    return Unavailable(f"the firewall rules could not be changed: {text}", hint=hint)
