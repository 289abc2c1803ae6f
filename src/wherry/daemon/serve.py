"""The daemon while it runs: sockets, services, signals.

locks > sockets bound > services built (containers taken back) > listening > READY
SIGTERM, SIGINT: no new clients > answers end > services closed > sockets removed > locks released
SIGHUP: what `options` marks as reloading is read again
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from typing import Protocol

from wherry import __version__
from wherry.api.application import application
from wherry.api.messages import AtOnce, Handler
from wherry.api.server import Server
from wherry.api.services import Services
from wherry.daemon.config import Config
from wherry.daemon.engine import export_proxies
from wherry.daemon.gate import Gate
from wherry.daemon.halt import end_supervisor, stop_containers
from wherry.daemon.listeners import Listener, open_listeners
from wherry.daemon.locks import Locks
from wherry.daemon.log import set_level, set_up_log
from wherry.daemon.metrics import Meters, bind_metrics
from wherry.daemon.notify import notify
from wherry.daemon.options import OPTIONS
from wherry.daemon.settling import Settling, settle
from wherry.model.errors import WherryError

log = logging.getLogger(__name__)

_RELOADED = frozenset(option.name.replace("-", "_") for option in OPTIONS if option.reloads)


class Wired(Protocol):
    """What `wiring.build` gives."""

    @property
    def services(self) -> Services: ...

    def reload(self, config: Config) -> None:
        """Follow `config` in what `options` marks as reloading."""
        ...

    async def close(self) -> None:
        """Let go of everything; containers go on."""
        ...


Build = Callable[[Config], Awaitable[Wired]]


def run(config: Config, reread: Callable[[], Config]) -> int:
    """Serve until told to stop; return the exit code. Raises what keeps the daemon from starting."""
    from wherry.daemon.wiring import build

    set_up_log(config.log_format)
    set_level(config.log_level, debug=config.debug)
    export_proxies(config)
    with Locks() as locks:
        locks.take(config.data_root, config.exec_root, config.pidfile)
        listeners = open_listeners(
            config.hosts, config.exec_root, config.group, secured=config.secured
        )
        try:
            asyncio.run(Daemon(config, reread, build).serve(listeners))
        finally:
            for listener in listeners:
                listener.remove()
    return 0


def _on_signal(
    number: signal.Signals, loop: asyncio.AbstractEventLoop, action: Callable[[], None]
) -> None:
    def heard(_number: int, _frame: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(action)

    # loop.add_signal_handler asks `inspect` what it is given, which is a megabyte.
    signal.signal(number, heard)


class Daemon:
    """One run of the daemon."""

    def __init__(self, config: Config, reread: Callable[[], Config], build: Build) -> None:
        self._config = config
        self._reread = reread
        self._build = build
        self._stop = asyncio.Event()
        self._wired: Wired | None = None

    async def serve(self, listeners: list[Listener]) -> None:
        """Build the services, serve them on `listeners`, and return when a signal says so."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            _on_signal(number, loop, self._stop.set)
        _on_signal(signal.SIGHUP, loop, self._reload)
        self._warn(listeners)
        secured = [one.socket for one in listeners if self._is_secured(one)]
        async with contextlib.AsyncExitStack() as stack:
            # What may keep the daemon from starting comes before anything is made on the host.
            metered = bind_metrics(self._config.metrics_addr)
            for listener in metered:
                stack.callback(listener.socket.close)
            gate = Gate(self._config)
            stack.push_async_callback(gate.close)
            if secured:
                await gate.open(secured)
            wired = await self._build(self._config)
            self._wired = wired
            stack.push_async_callback(wired.close)
            router = application(wired.services)
            handler: Handler = router
            at_once: AtOnce = router.at_once
            if metered:
                meters = Meters(wired.services, metered)
                handler = meters.counting(handler)
                at_once = meters.counting_at_once(at_once)
                await meters.open()
                stack.push_async_callback(meters.close)
            settling = Settling()
            stack.callback(settling.close)
            server = Server(settling.noting(handler), settling.noting_at_once(at_once))
            for listener in listeners:
                if not self._is_secured(listener):
                    await server.listen(listener.socket)
            gate.serve(server.adopt)
            settle()
            # What start-up made stays; the collector need not look at it again.
            gc.freeze()
            for listener in listeners:
                log.info("API listen on %s", listener.host)
            notify("READY=1", f"MAINPID={os.getpid()}")
            log.info("wherryd %s has started, pid %d", __version__, os.getpid())
            await self._stop.wait()
            log.info("stopping")
            notify("STOPPING=1")
            await gate.close()
            await server.close()
            if not self._config.live_restore:
                timeout = self._config.shutdown_timeout
                await stop_containers(wired.services.containers, None if timeout < 0 else timeout)
        if not self._config.live_restore:
            await end_supervisor(self._config)

    def _is_secured(self, listener: Listener) -> bool:
        return self._config.secured and listener.socket.family != socket.AF_UNIX

    def _warn(self, listeners: list[Listener]) -> None:
        for listener in listeners:
            if listener.socket.family == socket.AF_UNIX:
                continue
            if not self._config.secured:
                log.warning(
                    "%s has no TLS: whoever reaches it is root here (see --tlsverify)",
                    listener.host,
                )
            elif not self._config.tlsverify:
                log.warning(
                    "%s asks for no certificate: whoever reaches it is root here (see --tlsverify)",
                    listener.host,
                )

    def _reload(self) -> None:
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            fresh = self._reread()
        except WherryError as error:
            log.error("the configuration stays as it was: %s", error)
        else:
            self._apply(fresh)
        notify("READY=1")

    def _apply(self, fresh: Config) -> None:
        changed = [
            field.name
            for field in fields(Config)
            if getattr(fresh, field.name) != getattr(self._config, field.name)
        ]
        for name in changed:
            if name in _RELOADED:
                self._config = replace(self._config, **{name: getattr(fresh, name)})
            else:
                log.warning("%s changes only when wherryd starts again", name.replace("_", "-"))
        set_level(self._config.log_level, debug=self._config.debug)
        if self._wired is not None:
            self._wired.reload(self._config)
        log.info("configuration reloaded")
