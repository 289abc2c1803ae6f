"""Hosts made of network namespaces: the test's own machines, between which real packets go.

A `Host` is a namespace and nothing else: no process lives in it, it is gone with its descriptor. Sockets
made `inside` stay there, so one thread plays all parts. `Site` is the usual scene: a host with an
uplink, a router's far end, an outsider.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Self

from wherry.kernel.abi import CLONE_NEWNET
from wherry.kernel.linux import LINUX

PATIENCE = 20.0


def new_namespace() -> int:
    """Return a descriptor of a new network namespace, made by a thread that ends at once."""
    made: list[int] = []

    def make() -> None:
        LINUX.unshare(CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class Host:
    """A network namespace with its loopback up."""

    def __init__(self, name: str, netns: int = -1) -> None:
        """`netns` is a descriptor that is taken over; without one a new namespace is made."""
        self.name = name
        self.netns = netns if netns >= 0 else new_namespace()
        if netns < 0:
            self.ip("link", "set", "lo", "up")
            # A new namespace has the machine's settings of the moment: net.core.devconf_inherit_init_net.
            self.sysctl("net.ipv4.ip_forward", "0")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it: links, rules and routes in it die with the last descriptor."""
        if self.netns >= 0:
            os.close(self.netns)
            self.netns = -1

    @property
    def path(self) -> str:
        """A path to the namespace that child processes can open."""
        return f"/proc/{os.getpid()}/fd/{self.netns}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and threads that it makes meanwhile, live in the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            LINUX.setns(self.netns, CLONE_NEWNET)
            yield
        finally:
            LINUX.setns(home, CLONE_NEWNET)
            os.close(home)

    def command(self, *argv: str) -> list[str]:
        """Return the argument vector that runs `argv` in the namespace, in the same process."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(self, *argv: str, check: bool = True, stdin: str = "") -> str:
        """Run a command in the namespace and return what it printed. AssertionError when it fails."""
        done = subprocess.run(
            self.command(*argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def ip(self, *argv: str) -> str:
        """Run ip(8)."""
        return self.run("ip", *argv)

    def nft(self, script: str) -> str:
        """Have nft(8) read a script."""
        return self.run("nft", "-f", "-", stdin=script)

    def sysctl(self, name: str, value: str) -> None:
        """Write a sysctl of the namespace."""
        with self.inside():
            with open(f"/proc/sys/{name.replace('.', '/')}", "w") as file:
                file.write(value)

    def link(self, name: str, other: Host, other_name: str) -> None:
        """Lay a cable to another host."""
        peer = ("peer", "name", other_name, "netns", other.path)
        self.ip("link", "add", name, "type", "veth", *peer)
        self.ip("link", "set", name, "up")
        other.ip("link", "set", other_name, "up")

    def address(self, link: str, *addresses: str) -> None:
        """Give a link addresses, at once of use."""
        for address in addresses:
            self.ip("addr", "add", address, "dev", link, *(("nodad",) if ":" in address else ()))

    # -- sockets -----------------------------------------------------------------------------

    def socket(self, address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket of the address's family in the namespace; every wait on it is bounded."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside():
            made = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.settimeout(PATIENCE)
        return made

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a listening TCP socket."""
        server = self.socket(address)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(16)
        return server

    def bind(self, address: str, port: int) -> socket.socket:
        """Return a bound UDP socket."""
        server = self.socket(address, socket.SOCK_DGRAM)
        server.bind((address, port))
        return server

    def connect(
        self, address: str, port: int, *, source: str = "", seconds: float = PATIENCE
    ) -> socket.socket:
        """Return a TCP connection. Raises OSError: TimeoutError where packets are dropped."""
        client = self.socket(address)
        client.settimeout(seconds)
        try:
            if source:
                client.bind((source, 0))
            client.connect((address, port))
        except BaseException:
            client.close()
            raise
        client.settimeout(PATIENCE)
        return client

    def reaches(self, address: str, port: int, *, seconds: float = 0.4) -> bool:
        """Whether a TCP connection comes about; a refusal is an answer too, and no."""
        try:
            self.connect(address, port, seconds=seconds).close()
        except OSError:
            return False
        return True


def talk(client: socket.socket, server: socket.socket) -> str:
    """Say something on a connection that `server` accepts; return whom the server sees."""
    peer, seen = server.accept()
    with client, peer:
        peer.settimeout(PATIENCE)
        client.sendall(b"ask")
        assert peer.recv(16) == b"ask"
        peer.sendall(b"tell")
        assert client.recv(16) == b"tell"
    return str(seen[0])


def swap(client: socket.socket, server: socket.socket, address: str, port: int) -> str:
    """Send a datagram there and back; return whom the server sees."""
    client.sendto(b"ask", (address, port))
    data, seen = server.recvfrom(16)
    assert data == b"ask"
    server.sendto(b"tell", seen)
    data, back = client.recvfrom(16)
    assert data == b"tell" and back[1] == port
    return str(seen[0])


class Site:
    """A host with an uplink `up0` (192.0.2.2, 2001:db8:1::2), and beyond it an outsider (.1, ::1)."""

    HOST, HOST6 = "192.0.2.2", "2001:db8:1::2"
    OUTSIDE, OUTSIDE6 = "192.0.2.1", "2001:db8:1::1"

    def __init__(self, *, ipv6: bool = True) -> None:
        self.host = Host("host")
        self.outside = Host("outside")
        self.host.link("up0", self.outside, "up0")
        self.host.address("up0", f"{self.HOST}/24", *((f"{self.HOST6}/64",) if ipv6 else ()))
        self.outside.address(
            "up0", f"{self.OUTSIDE}/24", *((f"{self.OUTSIDE6}/64",) if ipv6 else ())
        )
        self.host.ip("route", "add", "default", "via", self.OUTSIDE)
        if ipv6:
            self.host.ip("-6", "route", "add", "default", "via", self.OUTSIDE6)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the scene down."""
        self.host.close()
        self.outside.close()
