"""What the daemon counts, for Prometheus: `--metrics-addr HOST:PORT`, GET /metrics.

Names are Docker's where it has one (`engine_daemon_…`), so that its dashboards work; `wherry_…` besides.
Nothing is counted where no address is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from wherry import __version__
from wherry.api.messages import Answer, AtOnce, Handler, Request, Response
from wherry.api.server import Server
from wherry.api.services import Services
from wherry.daemon.listeners import Listener, open_tcp, parse_host
from wherry.http.exposition import CONTENT_TYPE, Histogram, family, labelled
from wherry.model.events import Event

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STATES = ("paused", "running", "stopped")


class Counts(Protocol):
    """What is asked of the engine when somebody looks."""

    async def counts(self) -> dict[str, int]: ...


class Metrics:
    """Counters fed by events and by requests."""

    def __init__(self) -> None:
        self._started = time.time()
        self._events: Counter[tuple[str, str]] = Counter()
        self._probes: Counter[str] = Counter()
        self._requests: dict[tuple[str, str], Histogram] = {}
        self._statuses: Counter[tuple[str, int]] = Counter()

    def heard(self, event: Event) -> None:
        """Count an event; `exec_die: …` counts as `exec_die`."""
        action = event.action.partition(":")[0]
        self._events[event.kind, action] += 1
        if action == "health_status":
            self._probes[event.action.partition(": ")[2]] += 1

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; `route` is the path's first word, so that names make no series."""
        self._requests.setdefault((method, route), Histogram(BUCKETS)).observe(seconds)
        self._statuses[method, status] += 1

    def render(self, counts: Mapping[str, int], facts: Mapping[str, float]) -> str:
        """Return all of it as text; `counts` are containers and images, `facts` cpus and memory."""
        info = labelled(version=__version__, os_type="linux", graphdriver="overlay2", commit="")
        containers = [(labelled(state=state), counts.get(state, 0)) for state in _STATES]
        lines = [
            *family("engine_daemon_engine_info", "gauge", "The engine's version.", [(info, 1)]),
            *family(
                "engine_daemon_engine_cpus_cpus", "gauge", "CPUs.", [("", facts.get("cpus", 0))]
            ),
            *family(
                "engine_daemon_engine_memory_bytes",
                "gauge",
                "Memory of the machine.",
                [("", facts.get("memory", 0))],
            ),
            *family(
                "engine_daemon_container_states_containers",
                "gauge",
                "Containers by state.",
                containers,
            ),
            *family("wherry_images", "gauge", "Images.", [("", counts.get("images", 0))]),
            *family(
                "engine_daemon_events_total",
                "counter",
                "Events recorded.",
                [("", sum(self._events.values()))],
            ),
            *family(
                "wherry_events_total",
                "counter",
                "Events by kind and action.",
                (
                    (labelled(kind=kind, action=action), count)
                    for (kind, action), count in sorted(self._events.items())
                ),
            ),
            *family(
                "wherry_health_changes_total",
                "counter",
                "Changes of containers' health.",
                (
                    (labelled(status=status), count)
                    for status, count in sorted(self._probes.items())
                ),
            ),
            *family(
                "wherry_api_answers_total",
                "counter",
                "Answers of the API.",
                (
                    (labelled(method=method, status=str(status)), count)
                    for (method, status), count in sorted(self._statuses.items())
                ),
            ),
            *family(
                "wherry_api_request_seconds",
                "histogram",
                "Seconds until an answer began.",
                (
                    sample
                    for (method, route), histogram in sorted(self._requests.items())
                    for sample in histogram.samples(method=method, route=route)
                ),
            ),
            *self._process(),
        ]
        return "\n".join(lines) + "\n"

    def _process(self) -> list[str]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = [int(word) for word in file.read().split()[:2]]
        size = resource.getpagesize()
        return [
            line
            for name, kind, text, value in (
                (
                    "process_cpu_seconds_total",
                    "counter",
                    "CPU time of wherryd.",
                    usage.ru_utime + usage.ru_stime,
                ),
                ("process_resident_memory_bytes", "gauge", "Resident memory.", pages[1] * size),
                ("process_virtual_memory_bytes", "gauge", "Virtual memory.", pages[0] * size),
                ("process_open_fds", "gauge", "Descriptors.", len(os.listdir("/proc/self/fd"))),
                ("process_start_time_seconds", "gauge", "Start, Unix time.", self._started),
            )
            for line in family(name, kind, text, [("", value)])
        ]


def bind_metrics(address: str) -> list[Listener]:
    """Return sockets bound to `--metrics-addr`, none where it is empty.

    Raises Invalid, Conflict, Unavailable for an address that cannot be had.
    """
    return open_tcp(parse_host(f"tcp://{address.removeprefix('tcp://')}")) if address else []


class Meters:
    """Serves the metrics on an address of their own, and counts what passes."""

    def __init__(self, services: Services, listeners: Sequence[Listener]) -> None:
        """`listeners` are those of `bind_metrics`."""
        self._services = services
        self._listeners = listeners
        self._metrics = Metrics()
        self._server: Server | None = None
        self._listening: asyncio.Task[None] | None = None

    def counting(self, handler: Handler) -> Handler:
        """Return `handler`, with its requests counted."""

        async def count(request: Request) -> Answer:
            began = time.perf_counter()
            answer = await handler(request)
            self._count(request, answer, began)
            return answer

        return count

    def counting_at_once(self, at_once: AtOnce) -> AtOnce:
        """Return `at_once`, with what it answers counted."""

        def count(request: Request) -> Response | None:
            began = time.perf_counter()
            answer = at_once(request)
            if answer is not None:
                self._count(request, answer, began)
            return answer

        return count

    def _count(self, request: Request, answer: Answer, began: float) -> None:
        status = answer.status if isinstance(answer, Response) else 101
        route = request.path.strip("/").partition("/")[0] or "-"
        known = route if status != 404 or route in _ROUTES else "-"
        self._metrics.observe(request.method, known, status, time.perf_counter() - began)

    async def open(self) -> None:
        """Listen."""
        self._server = Server(self._answer)
        for listener in self._listeners:
            await self._server.listen(listener.socket)
        self._listening = asyncio.ensure_future(self._hear())

    async def _hear(self) -> None:
        async for event in self._services.events.subscribe(since=0, until=0, filters={}):
            self._metrics.heard(event)

    async def _answer(self, request: Request) -> Answer:
        if request.target.partition("?")[0] != "/metrics":
            return Response(404, b"metrics are at /metrics\n", "text/plain; charset=utf-8")
        engine = self._services.engine
        facts = engine.facts()
        counts = await engine.counts()
        text = self._metrics.render(counts, {"cpus": facts.cpus, "memory": facts.memory})
        return Response(200, text.encode(), CONTENT_TYPE)

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        if self._server is not None:
            await self._server.close(grace=1.0)


_ROUTES = frozenset(
    "containers images networks volumes exec events info version system _ping build auth commit "
    "distribution plugins session".split()
)
