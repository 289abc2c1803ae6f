"""The daemon's sockets: made, or taken over from systemd."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.model.errors import Conflict, Forbidden, Invalid, Unavailable

FIRST_INHERITED = 3
DEFAULT_PORT = 2375
TLS_PORT = 2376
GROUP = "wherry"
DEFAULT_SOCKET = "/run/wherry.sock"
_LONGEST_PATH = 107


@dataclass(frozen=True, slots=True)
class Host:
    """One `-H`. `place` is a path, a host name, or the name of an inherited socket ("" for all)."""

    scheme: str
    place: str
    port: int = 0

    def __str__(self) -> str:
        if self.scheme == "tcp":
            place = f"[{self.place}]" if ":" in self.place else self.place
            return f"tcp://{place}:{self.port}"
        return f"{self.scheme}://{self.place}"


def parse_host(text: str, *, secured: bool = False) -> Host:
    """Return what `-H` says; `secured` decides the port where none is given. Raises Invalid."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "tcp", text.strip()
    match scheme:
        case "unix":
            path = rest or DEFAULT_SOCKET
            if not path.startswith("/"):
                raise Invalid(f"invalid host {text!r}: the path must be absolute")
            if len(os.fsencode(path)) > _LONGEST_PATH:
                raise Invalid(
                    f"invalid host {text!r}: a socket's path has {_LONGEST_PATH} bytes at most"
                )
            return Host("unix", path)
        case "fd":
            return Host("fd", "" if rest == "*" else rest)
        case "tcp":
            return _parse_tcp(text, rest, TLS_PORT if secured else DEFAULT_PORT)
        case _:
            raise Invalid(f"invalid host {text!r}", hint="unix://PATH, tcp://HOST:PORT or fd://")


def _parse_tcp(text: str, rest: str, default: int) -> Host:
    place, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or port.endswith("]"):
        place, port = rest.rstrip("/"), str(default)
    if not port.isdecimal() or int(port) > 65535:
        raise Invalid(f"invalid host {text!r}: no port", hint="tcp://127.0.0.1:2375")
    place = place.removeprefix("[").removesuffix("]")
    if not place:
        place = "0.0.0.0" if rest.startswith(":") else "127.0.0.1"
    return Host("tcp", place, int(port))


@dataclass(slots=True)
class Listener:
    """A bound socket; `inode` tells whether the file is still ours when it is to be removed."""

    host: Host
    socket: socket.socket
    inode: int = 0

    def remove(self) -> None:
        """Remove the socket's file, unless somebody has put another in its place."""
        if self.host.scheme == "unix" and self.inode:
            try:
                if os.stat(self.host.place).st_ino == self.inode:
                    os.unlink(self.host.place)
            except FileNotFoundError:
                pass


def open_listeners(
    hosts: Sequence[str], exec_root: Path, group: str, *, secured: bool = False
) -> list[Listener]:
    """Bind every host; without any, take what systemd hands over, else the exec-root's socket.

    Raises Invalid, Conflict where somebody answers at an address, Unavailable where it cannot be had.
    On an error nothing stays open.
    """
    inherited = take_inherited()
    if not hosts:
        hosts = ("fd://",) if inherited else (f"unix://{exec_root}.sock",)
    opened: list[Listener] = []
    try:
        for host in [parse_host(text, secured=secured) for text in hosts]:
            match host.scheme:
                case "unix":
                    opened.append(_open_unix(host, group))
                case "tcp":
                    opened.extend(open_tcp(host))
                case _:
                    opened.extend(_choose(host, inherited))
    except BaseException:
        for listener in opened:
            listener.socket.close()
            listener.remove()
        raise
    return opened


def _group_id(group: str) -> int | None:
    if group.isdecimal():
        return int(group)
    name = group or GROUP
    with (
        contextlib.suppress(OSError),
        open("/etc/group", encoding="utf-8", errors="replace") as lines,
    ):
        for line in lines:
            fields = line.split(":")
            if fields[0] == name and len(fields) > 2 and fields[2].isdecimal():
                return int(fields[2])
    if not group:
        return None
    # A group that is not in the file may be known elsewhere; asking loads the name services' libraries.
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Invalid(f"group {group} not found") from None


def _open_unix(host: Host, group: str) -> Listener:
    path = host.place
    gid = _group_id(group)
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _clear_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        if gid is not None:
            os.chown(path, -1, gid)
        os.chmod(path, 0o660)
        return Listener(host, listener, os.stat(path).st_ino)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"{host} is in use") from None
        raise Unavailable(f"cannot listen on {host}: {error.strerror}") from None


def _clear_stale(path: str) -> None:
    """Remove a socket that nobody serves. Raises Conflict where somebody does, or it is no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"cannot listen on unix://{path}: a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # somebody's queue is full
        except FileNotFoundError:
            return
    raise Conflict(
        f"cannot listen on unix://{path}: another process does", hint="choose another -H, or end it"
    )


def open_tcp(host: Host) -> list[Listener]:
    """Bind a TCP address, each of its families. Raises Conflict, Forbidden, Unavailable."""
    try:
        found = socket.getaddrinfo(
            host.place, host.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise Unavailable(f"cannot listen on {host}: {error.strerror}") from None
    opened: list[Listener] = []
    try:
        for family, kind, protocol, _, address in found:
            listener = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            opened.append(Listener(host, listener))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _look_for_peers(listener)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
    except OSError as error:
        for listener in opened:
            listener.socket.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"{host} is in use") from None
        if error.errno == errno.EACCES:
            raise Forbidden(f"may not listen on {host}") from None
        raise Unavailable(f"cannot listen on {host}: {error.strerror}") from None
    return opened


def _look_for_peers(listener: socket.socket) -> None:
    """Have the kernel end connections whose peer has vanished: after a minute, not after two hours or never.

    What is accepted inherits it (tcp(7)). No TCP_USER_TIMEOUT: that ends a peer too that lives and reads
    nothing for a while, as a pager does in front of `docker logs`.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def take_inherited() -> dict[str, list[socket.socket]]:
    """Return the sockets that systemd hands over, by name and by number. Source: sd_listen_fds(3).

    The variables are removed, so that no child takes them for its own.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    pid = os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or pid != str(os.getpid()):
        return {}
    found: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        fd = FIRST_INHERITED + index
        try:
            os.set_inheritable(fd, False)
            taken = socket.socket(fileno=fd)
        except OSError as error:
            raise Invalid(f"inherited descriptor {fd} is no socket: {error.strerror}") from None
        found.setdefault(str(fd), []).append(taken)
        if index < len(names) and names[index]:
            found.setdefault(names[index], []).append(taken)
    return found


def _choose(host: Host, inherited: dict[str, list[socket.socket]]) -> list[Listener]:
    if host.place:
        chosen = inherited.get(host.place, [])
    else:
        chosen = [taken for name, group in inherited.items() if name.isdecimal() for taken in group]
    if not chosen:
        raise Invalid(
            f"no sockets found via socket activation for {host}",
            hint="make sure the service was started by systemd",
        )
    return [Listener(host, taken) for taken in chosen]
