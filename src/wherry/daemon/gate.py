"""The gate to TCP with TLS: starts `wherry.tls.terminator`, and serves the connections it hands over.

wherryd > terminator with the listening sockets and the certificates' paths
terminator r > ready; c + descriptor > a client that shook hands, who waits until wherryd serves
wherryd closes > the terminator ends; the terminator dies > another is started
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence

from wherry.daemon.config import Config
from wherry.kernel.rights import passed
from wherry.model.errors import Unavailable

log = logging.getLogger(__name__)

_START_SECONDS = 20.0
_PAUSE_SECONDS = 1.0
"""Before a terminator that died is started again."""
_MOST = 64

Adopt = Callable[[socket.socket], Awaitable[None]]


class Gate:
    """At most one terminator, kept running."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._keeper: asyncio.Task[None] | None = None
        self._adopting: set[asyncio.Future[None]] = set()
        self._adopt: asyncio.Future[Adopt] = asyncio.get_running_loop().create_future()

    def serve(self, adopt: Adopt) -> None:
        """Hand over the clients, those that have come already and those to come."""
        self._adopt.set_result(adopt)

    async def open(self, listeners: Sequence[socket.socket]) -> None:
        """Take clients in, for `serve`. Raises Unavailable where the certificates cannot be used."""
        for listener in listeners:
            listener.listen(_MOST)
        self._check_files()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.ensure_future(self._keep(listeners, ready))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await ready
        except TimeoutError:
            raise Unavailable("the TLS terminator does not get ready") from None

    async def close(self) -> None:
        """End the terminator, and every connection through it."""
        if self._keeper is not None:
            self._keeper.cancel()
            if not self._adopt.done():
                self._adopt.cancel()
            await asyncio.gather(self._keeper, *self._adopting, return_exceptions=True)
            self._keeper = None

    def _check_files(self) -> None:
        config = self._config
        wanted = [("tlscert", config.tlscert), ("tlskey", config.tlskey)]
        if config.tlsverify:
            wanted.append(("tlscacert", config.tlscacert))
        for name, path in wanted:
            if not os.access(path, os.R_OK):
                raise Unavailable(f"--{name}: {path} cannot be read", hint="see docs/remote.md")

    async def _keep(self, listeners: Sequence[socket.socket], ready: asyncio.Future[None]) -> None:
        while True:
            code = await self._run(listeners, ready)
            if not ready.done():
                ready.set_exception(
                    Unavailable(f"the TLS terminator ended with {code}: see the line above")
                )
                return
            log.error("the TLS terminator ended with %s; its connections are cut", code)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _run(self, listeners: Sequence[socket.socket], ready: asyncio.Future[None]) -> int:
        config = self._config
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        descriptors = [listener.fileno() for listener in listeners]
        with ours:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", "-c", _PROGRAM, str(_PACKAGE_ROOT)),
                    *(str(theirs.fileno()), config.tlscert, config.tlskey, config.tlscacert),
                    *("1" if config.tlsverify else "0", *map(str, descriptors)),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *descriptors),
                )
            loop = asyncio.get_running_loop()
            loop.add_reader(ours.fileno(), self._take, ours, ready)
            try:
                return await process.wait()
            except asyncio.CancelledError:
                loop.remove_reader(ours.fileno())
                ours.shutdown(socket.SHUT_RDWR)
                await process.wait()
                raise
            finally:
                loop.remove_reader(ours.fileno())

    def _take(self, control: socket.socket, ready: asyncio.Future[None]) -> None:
        try:
            data, ancillary, _, _ = control.recvmsg(16, socket.CMSG_SPACE(4))
        except (BlockingIOError, ConnectionResetError):
            return
        if data == b"r" and not ready.done():
            ready.set_result(None)
        elif not data:
            asyncio.get_running_loop().remove_reader(control.fileno())
        for fd in passed(ancillary):
            os.set_inheritable(fd, False)
            connected = socket.socket(fileno=fd)
            connected.setblocking(False)
            future = asyncio.ensure_future(self._hand_over(connected))
            self._adopting.add(future)
            future.add_done_callback(self._adopting.discard)

    async def _hand_over(self, connected: socket.socket) -> None:
        try:
            adopt = await asyncio.shield(self._adopt)
        except asyncio.CancelledError:
            connected.close()
            raise
        with contextlib.suppress(OSError):
            await adopt(connected)


_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# -I -S: no site packages, no environment: 25 ms less, and nothing of the caller's can get in.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from wherry.tls.terminator import main; sys.exit(main(sys.argv[1:]))"
)
