"""`--link` on a default bridge without icc: what one container may reach of another. Performs it.

The bridge keeps its ports apart there, so a linked container's packets have to come by the host: it answers
for the neighbours' addresses (proxy_arp_pvlan, RFC 3069), and the rules let just the linked ports through.
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.network import rules
from wherry.network.filter import Filter
from wherry.network.hostlinks import bridged_is_filtered, write_link_sysctl, write_sysctl
from wherry.network.rules import Element

Targets = Sequence[tuple[str, str, int]]
"""(address, protocol, port)."""


class Linking:
    """The linked ports of running containers."""

    def __init__(self, filter_: Filter | None) -> None:
        """Without `filter_` the administrator sees to the rules."""
        self._filter = filter_
        self._links: dict[str, tuple[str, tuple[Element, ...]]] = {}

    def link(self, container_id: str, bridge: str, address: str, targets: Targets) -> None:
        """Let a container with this address reach just these targets. Raises Unavailable."""
        wanted = tuple(
            rules.linked_element(address, *target)
            for target in targets
            if address and ":" not in target[0]
        )
        before = self._links.get(container_id, ("", ()))
        if before == (bridge, wanted) or (not before[1] and not wanted) or self._filter is None:
            return
        stale = [element for element in before[1] if element not in wanted]
        fresh = [element for element in wanted if element not in before[1]]
        if fresh:
            self._filter.add(fresh)
        if wanted:
            self._links[container_id] = bridge, wanted
            self._answer_for_neighbours(bridge)
        else:
            del self._links[container_id]
            if all(other != before[0] for other, _ in self._links.values()):
                write_link_sysctl(4, before[0], "proxy_arp_pvlan", "0")
        if stale:
            self._filter.remove(stale)

    def repair(self) -> None:
        """Set again what went with the links of bridges."""
        for bridge, _ in self._links.values():
            self._answer_for_neighbours(bridge)

    def _answer_for_neighbours(self, bridge: str) -> None:
        if not bridged_is_filtered():
            # At once: others wait up to 0.8 s, lest two of them answer (Documentation/networking/ip-sysctl).
            write_sysctl(f"ipv4/neigh/{bridge}/proxy_delay", "0")
            write_link_sysctl(4, bridge, "proxy_arp_pvlan", "1")
