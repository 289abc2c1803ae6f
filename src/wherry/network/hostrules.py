"""All that is set on the host besides links: the table, others' firewalls, forwarding. Nothing without a bridge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.model.errors import WherryError
from wherry.network.coexist import Forwarding
from wherry.network.filter import Filter
from wherry.network.hostlinks import read_sysctl, write_sysctl
from wherry.network.naming import OWN_PREFIXES, Naming
from wherry.network.settings import NetworkSettings

_SWITCHES = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was not as it should be and was mended, and what could not be; lines for a person."""

    done: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class HostRules:
    """Has the host let containers' packets through, and no others by the way. Called in a thread."""

    def __init__(self, table: Filter, naming: Naming, settings: NetworkSettings) -> None:
        self._filter = table
        self._forwarding = Forwarding(naming.comment, naming.table)
        self._settings = settings
        self._closed: set[int] = set()
        self._settled: set[int] = set()

    def settle(self, links: Sequence[str], versions: Sequence[int]) -> RepairReport:
        """Have everything as it should be for networks with these links; nothing where there are none.

        `versions` are the families that are forwarded.
        """
        if not versions:
            return RepairReport()
        done: list[str] = []
        warnings: list[str] = []
        if self._settings.firewall:
            try:
                if not self._filter.is_loaded():
                    done.append(f"made the table {self._filter.table}")
                self._filter.load()
                more, told = self._forwarding.settle(links, allow=self._settings.forward_accept)
                done += more
                warnings += told
            except (WherryError, OSError) as error:
                warnings.append(str(error))
        warnings += self._allow_forwarding(versions)
        self._settled |= set(versions)
        return RepairReport(tuple(done), tuple(warnings))

    def include(self, links: Sequence[str], link: str, versions: Sequence[int]) -> RepairReport:
        """Take in a network that was just made and whose elements the table has already."""
        if self._settled >= set(versions) and link.startswith(OWN_PREFIXES):
            return RepairReport()
        return self.settle(links, versions)

    def withdraw(self) -> None:
        """Take the table and our rules in others' chains away. Raises Unavailable.

        Forwarding that was turned on for us is turned off, unless somebody else filters what is
        forwarded, and so may have come to need it: no router is left behind that was none.
        """
        self._settled.clear()
        if not self._settings.firewall:
            return
        turned_on = [version for version in _SWITCHES if self._filter.has_closed_others(version)]
        alone = not self._forwarding.withdraw()
        for version in turned_on if alone else ():
            write_sysctl(_SWITCHES[version], "0")
        self._closed.clear()
        self._filter.unload()

    def _allow_forwarding(self, versions: Sequence[int]) -> list[str]:
        """Turn the kernel's forwarding on, and keep the host from becoming everybody's router by that."""
        missing: list[str] = []
        for version in versions:
            switch = _SWITCHES[version]
            present = read_sysctl(switch)
            if present == "1":
                if version in self._closed and not self._filter.has_closed_others(version):
                    missing += self._close(version)
                continue
            if not self._settings.ip_forward or not present:
                missing.append(
                    f"IPv{version} forwarding is disabled: containers reach nothing outside"
                )
                continue
            # Closed first: no packet of others is forwarded in between.
            missing += self._close(version)
            if version == 6:
                _keep_advertised_routes()
            if not write_sysctl(switch, "1"):
                missing.append(f"IPv{version} forwarding is disabled and cannot be enabled here")
        return missing

    def _close(self, version: int) -> list[str]:
        if self._settings.ip_forward_no_drop or not self._settings.firewall:
            return []
        try:
            self._filter.close_others(version)
        except WherryError as error:
            return [str(error)]
        self._closed.add(version)
        return []


def _keep_advertised_routes() -> None:
    """A host that forwards IPv6 forgets the default route that it was advertised, unless told otherwise.

    Source: Documentation/networking/ip-sysctl, accept_ra.
    """
    try:
        names = os.listdir("/proc/sys/net/ipv6/conf")
    except OSError:
        return
    for name in names:
        if read_sysctl(f"ipv6/conf/{name}/accept_ra") == "1":
            write_sysctl(f"ipv6/conf/{name}/accept_ra", "2")
