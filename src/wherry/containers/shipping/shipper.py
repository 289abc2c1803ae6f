"""Following containers' logs and sending what they hold, from the place reached last.

    start event > a task: files > entries > messages > collector; the place is kept once a second
    die event   > the task sends the rest and ends
    wherryd starts > tasks for what runs, and for what ended with lines unsent

A collector that cannot be reached is tried again, with growing pauses, for as long as the container is
there. At most a second's lines are sent twice after a kill -9, none is lost while the files hold it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from wherry.containers.live import Lives, Tasks
from wherry.containers.log_settings import in_force, unready
from wherry.containers.shipping import fluentd, gelf, journald, options, syslog
from wherry.containers.shipping.entries import Cutter, Entry, Origin, origin_of
from wherry.containers.shipping.sinks import Sink, TlsFiles, connect, identity
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE
from wherry.containers.watching import CHANGES, Watch, wait_changed
from wherry.model.containers import Container, LogConfig
from wherry.model.events import Event
from wherry.supervisor.logs.reader import LogTail
from wherry.supervisor.logs.segment import ERR, OUT

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_KEEP_SECONDS = 1.0
_LONGEST_ANSWER = 64 << 10
DRAIN_SECONDS = 5.0
"""For the rest of a container's lines before it is removed."""
_PLACE = "shipped"


class Shipping:
    """One task for each container whose driver sends elsewhere. `heard` is called with every event."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        lives: Lives,
        tasks: Tasks,
        folder: Callable[[str], Path],
        log_default: LogConfig,
        watch: Callable[[], Watch],
    ) -> None:
        self._store = store
        self._lives = lives
        self._owner = tasks
        self._folder = folder
        self._log_default = log_default
        self._watch = watch
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}

    def heard(self, event: Event) -> None:
        """Begin at a start, and tell the task of an end."""
        if event.kind != "container":
            return
        if event.action == "start":
            self._begin(event.actor)
        elif event.action == "die" and (ended := self._ends.get(event.actor)):
            _end(ended)

    def open(self) -> None:
        """Go on where an earlier daemon was."""
        for container in self._store:
            if self._wants(container) is not None:
                self._begin(container.id)

    def close(self) -> None:
        """Stop; the next daemon goes on from the places kept."""
        for task in tuple(self._tasks.values()):
            task.cancel()

    async def check(self, container: Container) -> None:
        """Before a start: raise StartFailed, as Docker, where the collector cannot be reached."""
        wanted = self._wants(container)
        if wanted is None:
            return
        driver, chosen = wanted
        place = options.destination(driver, chosen)
        if driver == "journald" and not os.path.exists(place.path):
            raise unready("journald is not enabled on this host")
        if driver == "fluentd" and options.truth(chosen, "fluentd-async"):
            return
        try:
            (await connect(place, _tls(chosen))).close()
        except (OSError, TimeoutError) as error:
            where = f"dial {place.scheme} {place}"
            number = error.errno
            text = (os.strerror(number) if number else str(error) or "i/o timeout").lower()
            prefix = f"gelf: cannot connect to GELF endpoint: {place} " if driver == "gelf" else ""
            raise unready(f"{prefix}{where}: connect: {text}") from error

    async def drain(self, container_id: str) -> None:
        """Wait, for a while, until all lines of a container that has ended are sent."""
        task = self._tasks.get(container_id)
        if task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), DRAIN_SECONDS)
            task.cancel()

    def _wants(self, container: Container) -> tuple[str, dict[str, str]] | None:
        wanted = in_force(container.spec.log, self._log_default)
        return wanted if wanted[0] in options.DRIVERS else None

    def _begin(self, container_id: str) -> None:
        container = self._store.find(container_id)
        if container is None or (wanted := self._wants(container)) is None:
            return
        before = self._tasks.get(container_id)
        ended = self._ends[container_id] = asyncio.get_running_loop().create_future()
        if container.state.status not in ALIVE:
            _end(ended)
        task = self._owner.spawn(self._ship(container, *wanted, ended, before))
        self._tasks[container_id] = task
        task.add_done_callback(lambda _: self._ended(container_id, task))

    def _ended(self, container_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(container_id) is task:
            del self._tasks[container_id], self._ends[container_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the logs of %s are not sent any more: %s", container_id, error)

    async def _ship(
        self,
        container: Container,
        driver: str,
        chosen: dict[str, str],
        ended: asyncio.Future[None],
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            await asyncio.wait((before,))
        folder = self._folder(container.id)
        logs = folder / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        origin = origin_of(container, chosen, options.DEFAULT_TAG)
        sender = Sender(driver, chosen, origin, container.state.pid)
        place = Place(folder / _PLACE)
        collector = _Collector()
        streams = frozenset({OUT} if container.spec.tty else {OUT, ERR})
        tail = LogTail(str(logs), streams, collector, 0)
        try:
            with tail, self._watch() as watch:
                watch.watch(str(logs), CHANGES)
                tail.place(place.time, -1)
                while True:
                    over = ended.done()
                    await self._send(collector.through(tail.read()), sender, place)
                    if over:
                        await self._send(collector.through(tail.read_uncovered()), sender, place)
                        await self._send([collector.cutter.finish()], sender, place)
                        return
                    await wait_changed(watch, ended)
        finally:
            place.keep()
            sender.close()

    async def _send(self, batches: Iterable[list[Entry]], sender: Sender, place: Place) -> None:
        for batch in batches:
            for entry in place.unsent(batch):
                await sender.send(entry)
                place.sent(entry)
            place.keep_now_and_then()
            await asyncio.sleep(0)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


class _Collector:
    """Stands where a renderer does, and keeps what it is given as entries."""

    stamps = True

    def __init__(self) -> None:
        self.cutter = Cutter()
        self._entries: list[Entry] = []

    def render(self, stream: int, at: int, data: bytes) -> bytes:
        self._entries += self.cutter.feed(stream, at, data)
        return data

    def render_loss(self, at: int, count: int) -> bytes:
        text = b"wherry: %d bytes of output are missing here: the disk was full\n" % count
        return self.render(ERR, at, text)

    def through(self, pieces: Iterable[bytes]) -> Iterator[list[Entry]]:
        """Yield the entries of each piece."""
        for _ in pieces:
            found, self._entries = self._entries, []
            yield found


class Place:
    """How far a container's log was sent: the time of the last line, and how many lines of that time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.time, self._count = 0, 0
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_bytes())
            self.time, self._count = int(found["time"]), int(found["count"])
        self._skip = self._count
        self._kept = (self.time, self._count)
        self._at = 0.0

    def unsent(self, entries: list[Entry]) -> list[Entry]:
        """Return `entries` without those that were sent before."""
        if not self._skip:
            return entries
        out: list[Entry] = []
        for entry in entries:
            if self._skip and entry.time <= self._kept[0]:
                self._skip -= entry.time == self._kept[0]
                continue
            out.append(entry)
        return out

    def sent(self, entry: Entry) -> None:
        """`entry` is with the collector."""
        if entry.time == self.time:
            self._count += 1
        else:
            self.time, self._count = entry.time, 1

    def keep_now_and_then(self) -> None:
        """Keep the place, at most once a second."""
        now = asyncio.get_running_loop().time()
        if now - self._at >= _KEEP_SECONDS:
            self._at = now
            self.keep()

    def keep(self) -> None:
        """Write the place down. No fsync: after a crash of the machine some lines are sent again.

        So they are where there is no room to write, and the container may be gone: sending goes on.
        """
        if (self.time, self._count) == self._kept:
            return
        temporary = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps({"time": self.time, "count": self._count}))
            temporary.replace(self._path)
            self._kept = (self.time, self._count)


class Sender:
    """Entries to one collector, for ever if need be."""

    def __init__(self, driver: str, chosen: dict[str, str], origin: Origin, pid: int) -> None:
        self._driver = driver
        self._options = chosen
        self._origin = origin
        self._place = options.destination(driver, chosen)
        self._sink: Sink | None = None
        self._ordinal = 0
        self._hostname = os.uname().nodename
        self._style = syslog.Style(
            syslog.facility_number(chosen.get("syslog-facility", "daemon")) or 0,
            chosen.get("syslog-format", ""),
            self._hostname,
            pid or os.getpid(),
            counted=self._place.scheme == "tcp+tls"
            and chosen.get("syslog-format", "").startswith("rfc5424"),
        )
        self._acknowledged = options.truth(chosen, "fluentd-request-ack")

    async def send(self, entry: Entry) -> None:
        """Send one entry; tries again until it has gone out."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._send(entry)
                return
            except (OSError, TimeoutError) as error:
                self.close()
                if pause == _FIRST_PAUSE:
                    log.warning("%s: logs wait: %s: %s", self._origin.name, self._place, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _send(self, entry: Entry) -> None:
        if self._sink is None:
            self._sink = await connect(self._place, _tls(self._options))
        match self._driver:
            case "syslog":
                await self._sink.send(syslog.render(entry, self._origin, self._style))
            case "gelf":
                await self._send_gelf(self._sink, entry)
            case "fluentd":
                await self._send_fluentd(self._sink, entry)
            case _:
                self._ordinal += 1
                await self._sink.send(journald.render(entry, self._origin, self._ordinal))

    async def _send_gelf(self, sink: Sink, entry: Entry) -> None:
        message = gelf.render(entry, self._origin, self._hostname)
        if self._place.scheme == "tcp":
            await sink.send(message + b"\0")
            return
        level = options.number(self._options, "gelf-compression-level", 1, -1, 9)
        kind = self._options.get("gelf-compression-type", "gzip")
        for datagram in gelf.chunks(gelf.compress(message, kind, level), identity()):
            await sink.send(datagram)

    async def _send_fluentd(self, sink: Sink, entry: Entry) -> None:
        precise = options.truth(self._options, "fluentd-sub-second-precision")
        chunk = identity().hex() if self._acknowledged else ""
        await sink.send(fluentd.render(entry, self._origin, sub_second=precise, chunk=chunk))
        if not chunk:
            return
        answer = b""
        while (named := fluentd.acknowledged(answer)) is None:
            if not (more := await sink.receive()):
                raise ConnectionResetError("no acknowledgement came")
            answer += more
            if len(answer) > _LONGEST_ANSWER:
                raise ConnectionResetError("what came is no acknowledgement")
        if named != chunk:
            raise ConnectionResetError(f"another chunk was acknowledged: {named}")

    def close(self) -> None:
        """Let go of the connection."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


def _tls(chosen: dict[str, str]) -> TlsFiles:
    return TlsFiles(
        chosen.get("syslog-tls-ca-cert", ""),
        chosen.get("syslog-tls-cert", ""),
        chosen.get("syslog-tls-key", ""),
        verify=not chosen.get("syslog-tls-skip-verify"),
    )
