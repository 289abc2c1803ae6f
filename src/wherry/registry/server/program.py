"""`wherry-registry`: serves until told to stop. `wherry registry serve` becomes this program.

root locked > registry built > sockets bound > listening, said on standard output
SIGTERM, SIGINT: no new clients > answers end > uploads let go of, kept for the next start
SIGHUP: users, rights and certificate are read again
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from wherry import __version__
from wherry.http.messages import Answer, Handler, Request
from wherry.http.server import Server
from wherry.model.errors import Conflict, Invalid, Unavailable, WherryError
from wherry.registry.server.application import METRICS_PATH, STYLE, metrics_answer
from wherry.registry.server.assembly import Registry, build
from wherry.registry.server.faults import Code, Fault, fault_response
from wherry.registry.server.settings import Settings, parse_settings, render_help
from wherry.tls.contexts import Telling, load_certificate, server_context

log = logging.getLogger(__name__)

_THREADS: Final = 8
_GRACE: Final = 20.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--help" in words or "-h" in words:
        print(render_help())
        return 0
    try:
        settings = parse_settings(words)
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
        )
        with _locked(settings.root):
            asyncio.run(serve(settings))
    except WherryError as error:
        print(f"wherry registry: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"wherry registry: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


@contextlib.contextmanager
def _locked(root: Path) -> Generator[None]:
    """Hold the root for this process. Raises Conflict where another has it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another registry serves {root}") from None
        yield
    finally:
        os.close(fd)


async def serve(settings: Settings) -> None:
    """Serve until a signal says stop. Raises what keeps the registry from starting."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "registry"))
    registry = build(settings)
    tls = _tls(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.until_eof:
        loop.add_reader(sys.stdin.fileno(), lambda: _ended(loop, stop))
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload(registry, settings, tls))
    server = Server(registry.application, STYLE)
    metrics = Server(_metrics_handler(registry), STYLE)
    housekeeping = loop.create_task(registry.keep_house())
    try:
        scheme = "https" if tls is not None else "http"
        for address in settings.listen:
            for listener in open_listeners(address):
                await server.listen(listener, tls)
                _say(f"registry listening on {scheme}://{_shown(listener)}")
        for address in settings.metrics_listen:
            for listener in open_listeners(address):
                await metrics.listen(listener)
                _say(f"metrics on http://{_shown(listener)}{METRICS_PATH}")
        _warn(settings)
        _say("registry ready")
        # What start-up made stays; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        await stop.wait()
        log.info("stopping")
        await asyncio.gather(server.close(_GRACE), metrics.close(1.0))
    finally:
        housekeeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await housekeeping
        registry.close()


def _ended(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


def _reload(registry: Registry, settings: Settings, tls: ssl.SSLContext | None) -> None:
    registry.reload()
    if tls is not None:
        try:
            load_certificate(tls, str(settings.tls_cert), str(settings.tls_key or ""))
        except Invalid as error:
            log.error("the certificate stays as it was: %s", error)
    log.info("reloaded")


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = server_context(
        str(settings.tls_cert), str(settings.tls_key or ""), str(settings.tls_client_ca or "")
    )
    context.sslobject_class = Telling
    return context


def open_listeners(address: str) -> list[socket.socket]:
    """Return sockets bound to `HOST:PORT`, `:PORT` or `[V6]:PORT`; a name may have several addresses.

    Raises Invalid for no address, Unavailable where it cannot be had.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise Invalid(f"--listen: {address!r} is not HOST:PORT")
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise Invalid(f"--listen: {address}: {error.strerror}") from None
    opened: list[socket.socket] = []
    for family, _, _, _, place in found:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A peer that vanished is noticed after a minute, not after two hours.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(place)
        except OSError as error:
            listener.close()
            for other in opened:
                other.close()
            raise Unavailable(f"cannot listen on {address}: {error.strerror}") from None
        opened.append(listener)
    return opened


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _warn(settings: Settings) -> None:
    local = all(address.startswith(("127.", "localhost:", "[::1]")) for address in settings.listen)
    if not local and settings.htpasswd is None:
        log.warning("whoever reaches %s can push: --htpasswd is not set", settings.listen)
    if not local and settings.tls_cert is None and settings.htpasswd is not None:
        log.warning("passwords cross the network in the clear: --tls-cert is not set")


def _metrics_handler(registry: Registry) -> Handler:
    async def answer(request: Request) -> Answer:
        if request.target.partition("?")[0] == METRICS_PATH and request.method == "GET":
            return await metrics_answer(registry.metrics)
        return fault_response(Fault(Code.UNSUPPORTED, "only /metrics is here", status=404))

    return answer


def _say(text: str) -> None:
    print(text, flush=True)
    log.debug("%s, wherry %s", text, __version__)


if __name__ == "__main__":
    sys.exit(main())
