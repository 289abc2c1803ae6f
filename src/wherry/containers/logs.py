"""docker logs: what the supervisor wrote, rendered from the files as it is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from urllib.parse import quote_plus as quote

from wherry.containers.live import Lives
from wherry.containers.log_settings import parse_log_config
from wherry.containers.shipping.entries import details_of
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.containers.watching import CHANGES, Watch, wait_changed
from wherry.images.bridge import bytes_from
from wherry.model.containers import Container, LogConfig
from wherry.model.errors import Invalid, Unsupported
from wherry.model.views import LogOptions
from wherry.supervisor.logs.reader import LogReader, LogTail


class Logs:
    """Reads logs."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        folder: Callable[[str], Path],
        log_default: LogConfig,
        watch: Callable[[], Watch],
    ) -> None:
        """`watch()` makes a `Watch`."""
        self._store = store
        self._lives = lives
        self._folder = folder
        self._log_default = log_default
        self._watch = watch

    async def logs(self, ref: str, options: LogOptions) -> tuple[bool, AsyncGenerator[bytes]]:
        """Return whether the stream is raw (a terminal's), and the pieces.

        With `follow` it goes on until the container's process ends. Raises NotFound, Invalid, and
        Unsupported where the log driver keeps nothing.
        """
        container = self._store.resolve(ref)
        if not options.stdout and not options.stderr:
            raise Invalid("Bad parameters: you must choose at least one stream")
        if not parse_log_config(container.spec.log, self._log_default).readable:
            raise Unsupported("configured logging driver does not support reading")
        raw = container.spec.tty
        details = _details(container) if options.details else b""
        reader = LogReader(self._folder(container.id) / "logs", raw=raw, details=details)
        if options.follow and container.state.status in ALIVE:
            return raw, self._follow(container, reader, options)
        return raw, bytes_from(lambda write: _read_all(reader, options, write))

    async def _follow(
        self, container: Container, reader: LogReader, options: LogOptions
    ) -> AsyncGenerator[bytes]:
        ended = self._lives.get(container.id).next_exit()
        directory = self._folder(container.id) / "logs"
        directory.mkdir(mode=0o700, exist_ok=True)
        deadline = options.until
        with self._watch() as watch, _open(reader, options) as log:
            watch.watch(str(directory), CHANGES)
            while True:
                over = ended.done()
                for piece in log.read():
                    yield piece
                    # A container that writes faster than its client reads must not hold up the loop.
                    await asyncio.sleep(0)
                if over or log.ended:
                    for piece in log.read_uncovered():
                        yield piece
                    return
                left = max((deadline - time.time_ns()) / 1e9, 0.001) if deadline else None
                await wait_changed(watch, ended, left)


def _details(container: Container) -> bytes:
    """Return what `--details` puts before each line: the labels, variables and tag that were asked for."""
    found = details_of(container, dict(container.spec.log.options))
    return ",".join(f"{quote(key)}={quote(value)}" for key, value in found).encode() + b" "


def _open(reader: LogReader, options: LogOptions) -> LogTail:
    return reader.open(
        options.since,
        options.until,
        options.tail,
        options.stdout,
        options.stderr,
        options.timestamps,
    )


def _read_all(reader: LogReader, options: LogOptions, write: Callable[[bytes], None]) -> None:
    with _open(reader, options) as log:
        for piece in log.read():
            write(piece)
        for piece in log.read_uncovered():
            write(piece)
