"""Performs a Wiring: what a container's network namespace gets before its first program runs.

    host     the pair of links in one message: inner end in the namespace, outer end up in the bridge
    inside   loopback, links, addresses and routes in one send
    inside   sockets for the name service, and the rules that send 127.0.0.11:53 to them

The supervisor has one thread: it enters the namespace to open sockets there, and leaves at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Generator, Sequence

from wherry.kernel import abi, clauses, links, nftables
from wherry.kernel.calls import Kernel
from wherry.kernel.netlink import NETFILTER, Netlink, NetlinkError, Request
from wherry.kernel.processes import wait_readable
from wherry.model.errors import Conflict, NotFound, StartFailed
from wherry.model.wiring import Link, LinkKind, Way, Wiring
from wherry.runtime import child

NAME_SERVER = "127.0.0.11"
_TABLE = "wherry-names"
_CHAIN = "output"
_LO = 1
"""The loopback's index is 1 in every namespace (loopback_net_init)."""
_BACKLOG = 128
_NO_ROUTE = (errno.ESRCH, errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)
"""There is no such route, or nothing of its family."""


class Wirer:
    """Makes and removes containers' links. One thread, one owner: the supervisor's loop."""

    def __init__(self, k: Kernel, parent: int = abi.CLONE_PARENT) -> None:
        """With the default `parent` the caller's parent reaps helpers; with 0 they are in `helpers`."""
        self._k = k
        self._parent = parent
        self.helpers: list[int] = []
        self._route: Netlink | None = None
        self._home = -1

    def close(self) -> None:
        """Close the sockets that are kept."""
        if self._route is not None:
            self._route.close()
            self._route = None
        if self._home >= 0:
            os.close(self._home)
            self._home = -1

    # -- what is asked -----------------------------------------------------------------------

    def wire(self, pid: int, pidfd: int, wiring: Wiring, *, fresh: bool = True) -> tuple[int, ...]:
        """Give the namespace of a process what `wiring` says; return the name service's descriptors.

        These are its (udp, tcp) sockets and the process's pidfd, by which its end is seen. `fresh` is for
        a namespace that nothing runs in yet. Raises StartFailed with the link that could not be made;
        what was made is removed then.
        """
        if not wiring.links and not wiring.name_service:
            return ()
        netns = self._open(pid, pidfd)
        made: list[Link] = []
        try:
            if not fresh:
                self._clear(netns, wiring.links)
            for link in wiring.links:
                self._make(link, netns)
                made.append(link)
            sockets = self._set_up(netns, wiring, fresh=fresh)
            return (*sockets, os.dup(pidfd)) if sockets else ()
        except BaseException:
            for link in made:
                with contextlib.suppress(OSError, StartFailed):
                    self._remove(netns, link)
            raise
        finally:
            os.close(netns)

    def unwire(self, pid: int, pidfd: int, interface: str) -> Callable[[], None]:
        """Take one interface of a running process's namespace out of use. Raises NotFound.

        Its addresses, and with them its routes, are gone at once. What is returned is to be called once, when
        whoever asked has been answered: it has the link itself removed by a process of its own, since the
        kernel waits some 15 ms for that (unregister_netdevice) and keeps all other links' changes waiting.
        """
        netns = self._open(pid, pidfd)
        try:
            with self._inside(netns), Netlink() as inside:
                try:
                    index = socket.if_nametoindex(interface)
                except OSError as error:
                    raise NotFound("interface", interface) from error
                inside.perform([links.delete_address(index, a) for a in _addresses(inside, index)])
        except BaseException:
            os.close(netns)
            raise
        return lambda: self._remove_aside(netns, index)

    def _remove_aside(self, netns: int, index: int) -> None:
        """Remove a link of a namespace, whose descriptor is taken, in a process of its own.

        By index: until that process comes to it, another link may have got the name.
        """
        try:
            pid, pidfd = self._k.clone3(self._parent)
        except OSError:
            os.close(netns)  # without addresses it does nothing until the container ends
            return
        if pid:
            os.close(pidfd)
            os.close(netns)
            if not self._parent:
                self.helpers.append(pid)
            return
        try:
            # Copies of others' sockets and pipes would hold up whoever waits for their end.
            child.close_all_but(self._k, netns)
            self._k.setns(netns, abi.CLONE_NEWNET)
            with Netlink() as inside:
                inside.perform([links.delete_link_at(index)])
        except OSError:
            pass  # gone with its namespace, or by the next link of that name
        finally:
            os._exit(0)

    def set_ways(self, pid: int, pidfd: int, ways: Sequence[tuple[str, Way]]) -> None:
        """Make `ways`, (interface, way) each, the only default routes of a running process's namespace.

        Raises Conflict, NotFound for an interface that is not there, StartFailed.
        """
        netns = self._open(pid, pidfd)
        try:
            with self._inside(netns), Netlink() as inside:
                wanted: set[bool] = set()
                for interface, way in ways:
                    try:
                        index = socket.if_nametoindex(interface)
                    except OSError as error:
                        raise NotFound("interface", interface) from error
                    wanted.add(":" not in way.via)
                    inside.perform([links.add_route(index, way.to, way.via)])
                for four in {True, False} - wanted:
                    try:
                        inside.perform([links.delete_default(four=four)])
                    except NetlinkError as error:
                        if error.errno not in _NO_ROUTE:
                            raise
        except NetlinkError as error:
            raise StartFailed(f"change the way out: {(error.strerror or '').lower()}") from error
        finally:
            os.close(netns)

    def name_sockets(self, pid: int, pidfd: int) -> tuple[int, int, int]:
        """Return new (udp, tcp) sockets for 127.0.0.11 in a running process's namespace, and its pidfd.

        Queries go to them from now on, whoever had the ones before.
        """
        netns = self._open(pid, pidfd)
        try:
            with self._inside(netns), Netlink(NETFILTER) as filter_:
                return (*_serve_names(filter_), os.dup(pidfd))
        finally:
            os.close(netns)

    # -- how it is done ----------------------------------------------------------------------

    def _host(self) -> Netlink:
        if self._route is None:
            self._route = Netlink()
        return self._route

    def _open(self, pid: int, pidfd: int) -> int:
        """Return the network namespace of a process that lives. Raises Conflict."""
        try:
            netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Conflict("the container has just ended") from error
        # A pid is used again; only while the pidfd says that its process lives is it the one that is meant.
        if wait_readable(pidfd, 0) or self._is_home(netns):
            os.close(netns)
            raise Conflict("the container has just ended, or has no network namespace of its own")
        return netns

    def _is_home(self, netns: int) -> bool:
        if self._home < 0:
            self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return os.path.samestat(os.fstat(netns), os.fstat(self._home))

    @contextlib.contextmanager
    def _inside(self, netns: int) -> Generator[None]:
        self._k.setns(netns, abi.CLONE_NEWNET)
        try:
            yield
        finally:
            self._k.setns(self._home, abi.CLONE_NEWNET)

    def _clear(self, netns: int, wanted: Sequence[Link]) -> None:
        """See links gone that were removed a moment ago and whose names are wanted again."""
        with self._inside(netns), Netlink() as inside:
            for link in wanted:
                with contextlib.suppress(OSError):
                    index = socket.if_nametoindex(link.name)
                    if not _addresses(inside, index):
                        inside.perform([links.delete_link(link.name)])

    def _make(self, link: Link, netns: int) -> None:
        host = self._host()
        try:
            parent = socket.if_nametoindex(link.parent)
        except OSError as error:
            raise StartFailed(
                f"network link {link.parent} is gone", hint="wherry network repair makes it again"
            ) from error
        try:
            if link.kind == LinkKind.VETH:
                host.perform(_plan_pair(link, netns, parent))
                return
            request = links.make_child(
                str(link.kind),
                parent=parent,
                inside=link.name,
                netns=netns,
                mode=link.mode,
                mac=link.mac,
                mtu=link.mtu,
            )
            host.perform([request])
        except NetlinkError as error:
            raise _refused(link, error) from error
        except ValueError as error:
            raise StartFailed(f"link {link.name}: {error}") from error

    def _remove(self, netns: int, link: Link) -> None:
        if link.kind == LinkKind.VETH:
            self._host().perform([links.delete_link(link.host_name)])
            return
        with self._inside(netns), Netlink() as inside:
            inside.perform([links.delete_link(link.name)])

    def _set_up(self, netns: int, wiring: Wiring, *, fresh: bool) -> tuple[int, ...]:
        with self._inside(netns):
            with Netlink() as inside:
                requests = [links.set_link("lo", up=True, index=_LO)] if fresh else []
                for link in wiring.links:
                    _write_sysctls(link)
                    requests += plan_inside(link, socket.if_nametoindex(link.name))
                try:
                    inside.perform(requests)
                except NetlinkError as error:
                    text = (error.strerror or "").lower()
                    raise StartFailed(
                        f"configure the network: {text}", step="network", errno=error.errno or 0
                    ) from error
            if not wiring.name_service:
                return ()
            try:
                with Netlink(NETFILTER) as filter_:
                    return _serve_names(filter_)
            except OSError as error:
                text = (error.strerror or str(error)).lower()
                raise StartFailed(
                    f"open the name service: {text}", step="network", errno=error.errno or 0
                ) from error


def _addresses(inside: Netlink, index: int) -> list[str]:
    """Return a link's addresses."""
    found = (links.parse_address(m) for m in inside.dump(links.dump_addresses()))
    return [address.address for address in found if address is not None and address.index == index]


def _plan_pair(link: Link, netns: int, parent: int) -> list[Request]:
    """Return the host's requests for a pair of links. Raises ValueError."""
    return [
        links.make_veth(
            host=link.host_name,
            inside=link.name,
            netns=netns,
            bridge=parent,
            mac=link.mac,
            mtu=link.mtu,
        ),
        links.set_port(link.host_name, alias=link.alias, isolated=link.isolated),
    ]


def plan_inside(link: Link, index: int) -> list[Request]:
    """Return the requests that bring up a link inside, with its addresses and routes."""
    out = [links.set_link(link.name, up=True, index=index)]
    out += [links.add_address(index, address) for address in link.addresses]
    # On-link routes first: the gateways of the others may lie behind them.
    for way in sorted(link.ways, key=lambda way: bool(way.via)):
        four = not way.to.count(":") and ":" not in way.via
        out.append(
            links.add_route(index, way.to, way.via, source=way.source, metric=way.metric, four=four)
        )
    return out


def _write_sysctls(link: Link) -> None:
    """Before the link is up: an IPv6 link-local address would be there otherwise."""
    _set_sysctl(f"net.ipv6.conf.{link.name}.disable_ipv6", "0" if link.ipv6 else "1", missing=True)
    for name, value in link.sysctls:
        try:
            _set_sysctl(name.replace("IFNAME", link.name), value)
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"sysctl {name}={value}: {text}", step="network") from error


def _set_sysctl(name: str, value: str, *, missing: bool = False) -> None:
    """Write a sysctl of the present network namespace; /proc/sys/net shows the reader's own."""
    path = "/proc/sys/" + name.replace(".", "/")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if missing:
            return  # a kernel without IPv6
        raise
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _refused(link: Link, error: NetlinkError) -> StartFailed:
    text = (error.strerror or "").lower()
    what = f"make link {link.name} in {link.parent}"
    hint = ""
    if error.errno == errno.EOPNOTSUPP:
        hint = f"this kernel has no {link.kind} links"
    elif error.errno == errno.EEXIST:
        hint = f"a link of that name is there already, or one called {link.host_name}"
    elif error.errno == errno.EBUSY and link.kind != LinkKind.VETH:
        hint = f"{link.parent} is in use by another kind of link"
    return StartFailed(f"{what}: {text}", step="network", errno=error.errno or 0, hint=hint)


def _serve_names(filter_: Netlink) -> tuple[int, int]:
    """Open the sockets and have queries sent to them. Raises OSError."""
    opened: list[socket.socket] = []
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            end = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            opened.append(end)
            end.bind((NAME_SERVER, 0))
        opened[1].listen(_BACKLOG)
        udp, tcp = (int(end.getsockname()[1]) for end in opened)
        filter_.commit(nftables.batch(plan_names(udp, tcp)))
    except BaseException:
        for end in opened:
            end.close()
        raise
    return opened[0].detach(), opened[1].detach()


def name_rules(udp: int, tcp: int) -> Sequence[nftables.Rule]:
    """Return the rules that send queries to the ports of the name service's sockets.

    So the container's own programs may listen on port 53 of every address.
    """
    to_server = clauses.equals(clauses.DADDR4, socket.inet_aton(NAME_SERVER), NAME_SERVER)
    return [
        nftables.Rule(
            _CHAIN,
            (
                to_server,
                clauses.equals(clauses.L4PROTO, bytes([number]), name),
                clauses.equals(clauses.DPORT, b"\0\x35", "53"),
                clauses.translate_to(NAME_SERVER, port),
            ),
        )
        for number, name, port in ((17, "udp", udp), (6, "tcp", tcp))
    ]


def plan_names(udp: int, tcp: int) -> list[Request]:
    """Return the requests for these rules, in place of the ones before."""
    family = clauses.IPV4
    chain = nftables.Chain(_CHAIN, nftables.OUTPUT, "nat", -100)
    return [
        nftables.new_table(family, _TABLE),
        nftables.new_chain(family, _TABLE, chain),
        nftables.flush_chain(family, _TABLE, _CHAIN),
        *(nftables.new_rule(family, _TABLE, rule) for rule in name_rules(udp, tcp)),
    ]
