"""`wherry stats`: one stream for each container, one redraw a second."""

from __future__ import annotations

import select
import sys
import time

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import FORMAT, Listing
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import binary_size, human_size
from wherry.client import wire
from wherry.client.engine import segment
from wherry.client.wire import many, one
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_KIND = "*container.statsContext"
_COLUMNS = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
_TITLES = {
    "ID": "CONTAINER ID",
    "Container": "CONTAINER",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_EVERY = 1.0
_NONE = "--"


class _Sample:
    """The figures of one container, worked out of the API's counters."""

    def __init__(self, container: str, facts: Object) -> None:
        self.container = container
        self.identifier: str = facts.get("id") or ""
        self.name: str = (facts.get("name") or "").removeprefix("/")
        self.known = bool(self.identifier)
        self.cpu = _cpu_percent(facts)
        memory: Object = one(facts, "memory_stats")
        self.limit: int = memory.get("limit") or 0
        self.memory = _memory_used(memory)
        networks: dict[str, Object] = one(facts, "networks")
        self.received = sum(network["rx_bytes"] for network in networks.values())
        self.sent = sum(network["tx_bytes"] for network in networks.values())
        entries: list[Object] = one(facts, "blkio_stats").get("io_service_bytes_recursive") or []
        self.read = sum(entry["value"] for entry in entries if entry["op"].lower() == "read")
        self.written = sum(entry["value"] for entry in entries if entry["op"].lower() == "write")
        self.pids: int = one(facts, "pids_stats").get("current") or 0

    def row(self, truncate: bool) -> Row:
        """Return the figures as a row of the listing."""
        percent = self.memory / self.limit * 100 if self.limit else 0.0
        shown = self.identifier[:12] if truncate else self.identifier
        fields = {
            "ID": shown,
            "Container": self.container,
            "Name": self.name,
            "CPUPerc": f"{self.cpu:.2f}%",
            "MemUsage": f"{binary_size(self.memory)} / {binary_size(self.limit)}",
            "MemPerc": f"{percent:.2f}%",
            "NetIO": f"{human_size(self.received, 3)} / {human_size(self.sent, 3)}",
            "BlockIO": f"{human_size(self.read, 3)} / {human_size(self.written, 3)}",
            "PIDs": str(self.pids),
        }
        if not self.known:
            fields = dict.fromkeys(fields, _NONE) | {"Container": self.container}
            fields |= {"MemUsage": "-- / --"}
        return Row(_KIND, {name: lambda value=value: value for name, value in fields.items()})


def _cpu_percent(facts: Object) -> float:
    """CPU used since the sample before, in percent of one CPU."""
    now: Object = one(facts, "cpu_stats")
    before: Object = one(facts, "precpu_stats")
    used_now: Object = one(now, "cpu_usage")
    used_before: Object = one(before, "cpu_usage")
    used = (used_now.get("total_usage") or 0) - (used_before.get("total_usage") or 0)
    passed = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    cpus = now.get("online_cpus") or len(many(used_now, "percpu_usage")) or 1
    return used / passed * cpus * 100 if used > 0 and passed > 0 else 0.0


def _memory_used(memory: Object) -> int:
    """Memory without the page cache that can be dropped (cgroup v1, then v2)."""
    usage: int = memory.get("usage") or 0
    stats: dict[str, int] = one(memory, "stats")
    for key in ("total_inactive_file", "inactive_file"):
        inactive = stats.get(key, 0)
        if key in stats and inactive < usage:
            return usage - inactive
    return usage


def _names(session: Session, options: Options, arguments: list[str]) -> list[str]:
    if arguments:
        return arguments
    query = {"all": "1"} if options.on("all") else {}
    found: list[Object] = session.engine.get("/containers/json", query)
    return [facts["Id"][:12] for facts in found]


def _once(session: Session, options: Options, arguments: list[str], listing: Listing) -> int:
    samples: list[_Sample] = []
    problems: list[WherryError] = []
    for name in _names(session, options, arguments):
        try:
            facts = session.engine.get(f"/containers/{segment(name)}/stats", {"stream": "0"})
        except WherryError as error:
            problems.append(error)
            continue
        samples.append(_Sample(name, facts))
    if problems and not samples:
        raise problems[0]
    rows = [sample.row(not options.on("no-trunc")) for sample in samples]
    session.write(listing.render(rows, session.listing_form(options, "statsFormat")))
    return 1 if problems else 0


class _Feed:
    """The stream of one container's samples."""

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        path = f"/containers/{segment(name)}/stats"
        response = session.another_engine().open("GET", path, {"stream": "1"})
        self._response = response
        self._lines = response.lines()
        self.sample: _Sample | None = None

    def fileno(self) -> int:
        return self._response.fileno()

    def take(self) -> bool:
        """Read the next sample; False when the container has gone."""
        line = next(self._lines, None)
        if line is None:
            return False
        self.sample = _Sample(self.name, wire.decode(line))
        return True


def _stats(session: Session, options: Options, arguments: list[str]) -> int:
    listing = Listing(_KIND, _COLUMNS, _TITLES)
    if options.on("no-stream"):
        return _once(session, options, arguments, listing)
    feeds: dict[str, _Feed] = {}
    gone: set[str] = set()
    next_draw = time.monotonic()
    while True:
        for name in _names(session, options, arguments):
            if name not in feeds and name not in gone:
                feeds[name] = _Feed(session, name)
        next_draw += _EVERY
        _collect(feeds, gone, next_draw)
        if arguments and not feeds:
            return 0
        _draw(session, options, listing, feeds)


def _collect(feeds: dict[str, _Feed], gone: set[str], until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        if not feeds:
            time.sleep(left)
            return
        ready, _, _ = select.select(list(feeds.values()), [], [], left)
        for feed in ready:
            if not feed.take():
                gone.add(feed.name)
                del feeds[feed.name]


def _draw(session: Session, options: Options, listing: Listing, feeds: dict[str, _Feed]) -> None:
    samples = [feed.sample or _Sample(feed.name, {}) for feed in feeds.values()]
    rows = [sample.row(not options.on("no-trunc")) for sample in samples]
    form = session.listing_form(options, "statsFormat")
    text = listing.render(rows, form, style=session.style())
    if form in ("", "table"):
        # Home, then each line with what was there before cleared, then what lies below.
        text = "\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[J"
    session.write(text)
    sys.stdout.flush()


STATS = Command(
    _stats,
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    (
        Flag("all", "bool", "Show all containers (default shows just running)", short="a"),
        FORMAT,
        Flag("no-stream", "bool", "Disable streaming stats and only pull the first result"),
        Flag("no-trunc", "bool", "Do not truncate output"),
    ),
)
