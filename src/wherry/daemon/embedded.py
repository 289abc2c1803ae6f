"""The registry that the daemon keeps: a process of its own, started on request and with every daemon.

What it was asked for is written down in `<data-root>/registry.json` before it is started. Its standard
input is a pipe from the daemon: when that ends, however it ends, the registry stops too. A process
and not a part of the daemon, so that pushes of gigabytes do not slow the API down, nor grow it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import Final

import msgspec

from wherry.kernel.durable import sweep_temporaries, write_file
from wherry.model.errors import Conflict, Unavailable, WherryError
from wherry.model.views import RegistryStatus

log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 1.0
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 30.0
_SAID: Final = b"registry listening on "
_READY: Final = b"registry ready\n"


class EmbeddedRegistry:
    """Satisfies `api.services.Registry`."""

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root
        self._record = data_root / "registry.json"
        self._arguments: tuple[str, ...] = ()
        self._root = data_root / "registry"
        self._process: asyncio.subprocess.Process | None = None
        self._addresses: tuple[str, ...] = ()
        self._keeper: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Start it where it was asked for in an earlier life. What goes wrong is logged."""
        sweep_temporaries(self._record.parent)
        try:
            wanted = msgspec.json.decode(self._record.read_bytes(), type=list[str])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.error("%s: %s: the registry is not started", self._record, error)
            return
        try:
            await self._run(tuple(wanted))
        except WherryError as error:
            log.error("the registry is not started: %s", error)

    def status(self) -> RegistryStatus:
        """Return whether it runs, and where."""
        process = self._process
        if process is None or process.returncode is not None:
            return RegistryStatus(running=False, root=str(self._root))
        return RegistryStatus(True, str(self._root), self._addresses, process.pid)

    async def start(self, arguments: tuple[str, ...]) -> RegistryStatus:
        """Start it with these flags, now and whenever the daemon starts.

        Raises Conflict where it runs with others, Invalid for a flag, Unavailable.
        """
        async with self._lock:
            if self.status().running:
                if arguments == self._arguments:
                    return self.status()
                raise Conflict(
                    "the registry runs already, with other flags", hint="wherry registry stop"
                )
            await self._end()
            await self._run(arguments)
            try:
                write_file(self._record, msgspec.json.encode(arguments))
            except BaseException:
                # It would be gone with this daemon, and so it is not acknowledged.
                await self._end()
                raise
            return self.status()

    async def stop(self) -> bool:
        """Stop it for good; return False where it did not run."""
        async with self._lock:
            running = self.status().running or self._record.exists()
            self._record.unlink(missing_ok=True)
            await self._end()
            return running

    async def close(self) -> None:
        """End it with the daemon; the next one starts it again."""
        async with self._lock:
            await self._end()

    async def _run(self, arguments: tuple[str, ...]) -> None:
        # Here, since most daemons never get this far.
        from wherry.registry.server.settings import parse_settings

        defaults = ("--root", str(self._data_root / "registry"), "--share", str(self._data_root))
        self._root = parse_settings((*defaults, *arguments)).root
        self._arguments = arguments
        await self._launch()
        self._keeper = asyncio.create_task(self._keep())

    async def _launch(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "wherry.registry.server.program"),
            *("--root", str(self._root), "--share", str(self._data_root)),
            *self._arguments,
            "--until-eof",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._process = process
        assert process.stdout is not None and process.stderr is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                addresses: list[str] = []
                while (said := await process.stdout.readline()) and said != _READY:
                    if said.startswith(_SAID):
                        addresses.append(said.removeprefix(_SAID).decode().strip())
                if said != _READY:
                    complaint = (await process.stderr.read()).decode(errors="replace").strip()
                    await process.wait()
                    last = complaint.rpartition("\n")[2].removeprefix("wherry registry: ")
                    raise Unavailable(f"the registry did not start: {last}")
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Unavailable("the registry did not start in time") from None
        self._addresses = tuple(addresses)

    async def _keep(self) -> None:
        """Pass on what it says, and start it again when it dies by itself."""
        while True:
            process = self._process
            assert process is not None and process.stdout is not None
            assert process.stderr is not None
            await asyncio.gather(_echo(process.stdout), _echo(process.stderr))
            code = await process.wait()
            log.error("the registry ended with %s", code)
            while True:
                await asyncio.sleep(_PAUSE_SECONDS)
                try:
                    await self._launch()
                except (WherryError, OSError) as error:
                    log.error("the registry was not started again: %s", error)
                else:
                    break

    async def _end(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _echo(stream: asyncio.StreamReader) -> None:
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue  # longer than a StreamReader holds: what comes behind it is worth reading
        if not line:
            return
        log.info("registry: %s", line.decode(errors="replace").rstrip())
