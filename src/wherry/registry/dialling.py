"""Sockets to registries: TCP, through a proxy where one is set, and TLS where the origin asks for it.

`ssl` is imported by the first TLS connection and not before: it maps 3 MB (docs/decisions/0006).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from wherry.model.errors import Unavailable
from wherry.registry.endpoints import Origin, Proxies, Trust, proxy_credentials
from wherry.registry.messages import BrokenConnection, Connection, tls_reason
from wherry.registry.stopping import Stop

if TYPE_CHECKING:
    import ssl

_CONNECT_SECONDS: Final = 20.0
_HANDSHAKE_SECONDS: Final = 20.0
# Bytes under way are lost when a transfer is cut, and fetched again: this bounds them, to less than
# 1 MiB over three connections (the kernel doubles it and offers half). At 50 ms of distance it still
# carries 5 MB/s a connection.
_RECEIVE_BUFFER: Final = 256 << 10
# OpenSSL's word for a first record that is none: what answers is mostly a server without TLS.
_NO_TLS: Final = "wrong version number"
_import_lock = threading.Lock()


class Unreachable(Unavailable):
    """No connection could be made."""


class Untrusted(Unavailable):
    """The server's certificate is not one that we trust."""


def dial(origin: Origin, trust: Trust, proxies: Proxies, stop: Stop) -> Connection:
    """Return a connection to `origin`. Raises Unreachable, Untrusted, BrokenConnection, Stopped."""
    return Connection(reach(origin, trust, proxies, stop), origin.authority)


def reach(origin: Origin, trust: Trust, proxies: Proxies, stop: Stop) -> socket.socket:
    """Return a socket whose other end is `origin`, or the proxy of HTTP that carries its plain requests.

    Whoever uses it sets its timeout. Raises as `dial`.
    """
    proxy = proxies.choose(origin)
    if not proxy:
        return _secured(_connect(origin, stop), origin, trust, stop)
    through = Origin.of_proxy(proxy)
    sock = _secured(_connect(through, stop), through, Trust(), stop)
    credentials = proxy_credentials(proxy)
    if through.is_socks:
        with stop.waking(lambda: _shut(sock)):
            _pass(sock, origin, through, credentials)
        return _secured(sock, origin, trust, stop)
    if origin.scheme == "http":
        return sock
    with stop.waking(lambda: _shut(sock)):
        _tunnel(sock, origin, through, credentials)
    return _secured(sock, origin, trust, stop)


def proxy_header(origin: Origin, proxies: Proxies) -> str | None:
    """Return what Proxy-Authorization a plain request needs; None where no proxy of HTTP carries it."""
    proxy = proxies.choose(origin) if origin.scheme == "http" else ""
    if not proxy or Origin.of_proxy(proxy).is_socks:
        return None
    return _basic(proxy_credentials(proxy))


def _connect(origin: Origin, stop: Stop) -> socket.socket:
    stop.check()
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unreachable(f"{origin}: lookup of {origin.host}: {reason}") from None
    problem: OSError | None = None
    deadline = time.monotonic() + 2 * _CONNECT_SECONDS
    for family, kind, protocol, _, address in found:
        stop.check()
        sock = socket.socket(family, kind, protocol)
        try:
            with stop.waking(lambda sock=sock: _shut(sock)):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
                sock.settimeout(max(0.1, min(_CONNECT_SECONDS, deadline - time.monotonic())))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
    reason = "timed out" if isinstance(problem, TimeoutError) else None
    reason = reason or (problem and problem.strerror) or "no address"
    # The words of Docker's network library: they are what people look for.
    raise Unreachable(f"{origin}: dial tcp {origin.host}:{origin.port}: connect: {reason}".lower())


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _tunnel(sock: socket.socket, origin: Origin, through: Origin, credentials: str) -> None:
    connection = Connection(sock, through.authority)
    target = f"{origin.host}:{origin.port}"
    if ":" in origin.host:
        target = f"[{origin.host}]:{origin.port}"
    headers = {"Host": target}
    if credentials:
        headers["Proxy-Authorization"] = _basic(credentials)
    connection.send_head("CONNECT", target, headers)
    answer = connection.answer("HEAD")
    if answer.status // 100 != 2:
        sock.close()
        raise Unreachable(
            f"proxy {through.authority} refused {target}: {answer.status} {answer.reason[:80]}"
        )


def _pass(sock: socket.socket, origin: Origin, through: Origin, credentials: str) -> None:
    """Have a proxy of SOCKS connect the socket to `origin`. Raises Unreachable."""
    from wherry.registry import socks

    user, colon, password = credentials.partition(":")
    deadline = time.monotonic() + 2 * _CONNECT_SECONDS

    def receive(size: int) -> bytes:
        data = b""
        while len(data) < size:
            sock.settimeout(max(0.1, deadline - time.monotonic()))
            more = sock.recv(size - len(data))
            if not more:
                raise socks.SocksRefused("it closed the connection")
            data += more
        return data

    try:
        sock.settimeout(_CONNECT_SECONDS)
        login = (user, password) if colon else None
        socks.connect(sock.sendall, receive, origin.host, origin.port, login)
    except (OSError, socks.SocksRefused) as error:
        sock.close()
        reason = error.message if isinstance(error, socks.SocksRefused) else error.strerror
        reason = reason or ("timed out" if isinstance(error, TimeoutError) else str(error))
        raise Unreachable(
            f"proxy {through.authority} refused {origin.host}:{origin.port}: {reason}"
        ) from None
    except BaseException:
        sock.close()
        raise


def _basic(credentials: str) -> str:
    return f"Basic {b64encode(credentials.encode()).decode()}" if credentials else ""


def _secured(sock: socket.socket, origin: Origin, trust: Trust, stop: Stop) -> socket.socket:
    if origin.scheme != "https":
        return sock
    with _import_lock:
        import ssl

    try:
        with stop.waking(lambda: _shut(sock)):
            sock.settimeout(_HANDSHAKE_SECONDS)
            context = _context(trust, _stamps(trust))
            return context.wrap_socket(sock, server_hostname=origin.host)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise Untrusted(
            f"{origin}: tls: failed to verify certificate: {error.verify_message}",
            hint="put the authority's certificate into certs.d/HOST:PORT/ca.crt, or add the host to"
            " insecure-registries",
        ) from None
    except (OSError, ValueError) as error:
        sock.close()
        reason = tls_reason(error) or getattr(error, "strerror", None) or error
        if reason == _NO_TLS:
            raise BrokenConnection(
                f"{origin}: http: server gave HTTP response to HTTPS client",
                hint=f"if it is to be reached without TLS, add {origin.authority} to"
                " insecure-registries",
            ) from None
        raise BrokenConnection(f"{origin}: tls handshake: {reason}") from None
    except BaseException:
        sock.close()
        raise


def _stamps(trust: Trust) -> tuple[int, ...]:
    """Return when each file was changed, so that a new one is read."""
    paths = [*trust.authorities, *(part for pair in trust.certificates for part in pair)]
    return tuple(os.stat(path).st_mtime_ns if os.path.exists(path) else 0 for path in paths)


@lru_cache(maxsize=32)
def _context(trust: Trust, _stamps: tuple[int, ...]) -> ssl.SSLContext:
    from wherry.tls.contexts import client_context

    return client_context(
        authorities=trust.authorities,
        certificates=trust.certificates,
        verify=trust.verify,
        protocols=("http/1.1",),
    )
