"""The sockets that messages go out by. Everything raises OSError; whoever sends tries again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Protocol

from wherry.containers.shipping.options import Destination

CONNECT_SECONDS = 5.0
SEND_SECONDS = 10.0


class Sink(Protocol):
    """Something connected."""

    async def send(self, message: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    def close(self) -> None: ...


async def connect(place: Destination, tls: TlsFiles | None = None) -> Sink:
    """Return a sink connected to `place`. Raises OSError, TimeoutError."""
    async with asyncio.timeout(CONNECT_SECONDS):
        match place.scheme:
            case "udp":
                return await _datagram_to(place)
            case "unixgram":
                return _unix_datagram(place.path)
            case "unix":
                try:
                    return await _stream(socket.AF_UNIX, place.path)
                except ConnectionError:
                    raise
                except OSError:
                    # /dev/log is a datagram socket with every common syslogd.
                    return _unix_datagram(place.path)
            case _:
                sink = await _stream_to(place)
    if place.scheme == "tcp+tls":
        sink = _secured(sink, place, tls or TlsFiles())
    return sink


class TlsFiles:
    """Certificates by path; an empty authority means the system's."""

    def __init__(self, ca: str = "", cert: str = "", key: str = "", *, verify: bool = True) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


async def _stream(family: socket.AddressFamily, address: str | tuple[str, int]) -> StreamSink:
    loop = asyncio.get_running_loop()
    plain = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    plain.setblocking(False)
    try:
        await loop.sock_connect(plain, address)
    except BaseException:
        plain.close()
        raise
    return StreamSink(plain)


async def _resolve(
    place: Destination, kind: socket.SocketKind
) -> list[tuple[int, tuple[str, int]]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(place.host, place.port, type=kind)
    except socket.gaierror as error:
        raise OSError(f"lookup {place.host}: {error.strerror}") from None
    return [(family, (str(address[0]), int(address[1]))) for family, *_, address in found]


async def _stream_to(place: Destination) -> StreamSink:
    failure: OSError = OSError(f"no address for {place.host}")
    for family, address in await _resolve(place, socket.SOCK_STREAM):
        try:
            return await _stream(socket.AddressFamily(family), address)
        except OSError as error:
            failure = error
    raise failure


async def _datagram_to(place: Destination) -> DatagramSink:
    family, address = (await _resolve(place, socket.SOCK_DGRAM))[0]
    datagram = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    datagram.setblocking(False)
    try:
        datagram.connect(address)
    except BaseException:
        datagram.close()
        raise
    return DatagramSink(datagram)


def _unix_datagram(path: str) -> DatagramSink:
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    datagram.setblocking(False)
    try:
        datagram.connect(path)
    except BaseException:
        datagram.close()
        raise
    return DatagramSink(datagram)


def _secured(plain: StreamSink, place: Destination, files: TlsFiles) -> StreamSink:
    """Return a sink whose bytes go over TLS, by a pump in a thread (wherry.tls)."""
    import threading

    from wherry.tls.contexts import UnusableFiles, client_context
    from wherry.tls.pump import Pump, run

    try:
        context = client_context(
            authorities=(files.ca,) if files.ca else (),
            system=not files.ca,
            certificates=((files.cert, files.key),) if files.cert else (),
            verify=files.verify,
        )
    except UnusableFiles as error:
        raise OSError(error.message) from None
    ours, theirs = socket.socketpair()
    pump = Pump(context, theirs, plain.detach(), server_side=False, hostname=place.host)
    threading.Thread(target=run, args=(pump,), name="log-tls", daemon=True).start()
    ours.setblocking(False)
    return StreamSink(ours)


class StreamSink:
    """A connected stream."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def send(self, message: bytes) -> None:
        """Send all of it; raises ConnectionError where the other side has hung up."""
        with contextlib.suppress(BlockingIOError):
            # Nothing is expected, so anything readable is the end.
            if self._socket.recv(1, socket.MSG_PEEK) == b"":
                raise ConnectionResetError("the collector has hung up")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SEND_SECONDS):
            await loop.sock_sendall(self._socket, message)

    async def receive(self) -> bytes:
        """Return some bytes of an answer, none at the end."""
        async with asyncio.timeout(SEND_SECONDS):
            return await asyncio.get_running_loop().sock_recv(self._socket, 4096)

    def detach(self) -> socket.socket:
        """Return the socket, which is the caller's from here on."""
        return self._socket

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class DatagramSink:
    """A connected datagram socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def send(self, message: bytes) -> None:
        """Send one datagram. Over UDP nobody tells whether it arrived."""
        loop = asyncio.get_running_loop()
        if self._socket.family == socket.AF_UNIX:
            async with asyncio.timeout(SEND_SECONDS):
                await loop.sock_sendall(self._socket, message)
            return
        # An ICMP error of an earlier datagram shows here; there is nobody to hear of this one either.
        with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
            self._socket.send(message)

    async def receive(self) -> bytes:
        """Nothing comes back."""
        return b""

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def identity() -> bytes:
    """Return eight random bytes: a GELF message's."""
    return os.urandom(8)
