"""Counters, and their text in the form that Prometheus reads (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "wherry_registry_"
BUCKETS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Seconds until an answer begins."""


class Metrics:
    """What one registry counts. `gauges` are asked when someone looks."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By method, route and status."""
        self.received = 0
        self.sent = 0
        self.refused_logins = 0
        self.swept: Counter[str] = Counter()
        """What the collector removed: manifests, links, blobs, bytes; and how often it ran."""
        self.expired = 0
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._seconds = 0.0
        self._buckets = [0] * len(BUCKETS)
        self._count = 0

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer that began after `seconds`."""
        self.requests[method, route, status] += 1
        self._seconds += seconds
        self._count += 1
        for at, bound in enumerate(BUCKETS):
            if seconds <= bound:
                self._buckets[at] += 1

    def render(self) -> str:
        """Return all of it as text."""
        lines: list[str] = []
        lines += _family(
            "requests_total",
            "counter",
            "Requests answered.",
            (
                (f'{{method="{method}",route="{route}",status="{status}"}}', count)
                for (method, route, status), count in sorted(self.requests.items())
            ),
        )
        lines += self._histogram()
        lines += _family(
            "swept_total",
            "counter",
            "What garbage collection removed, and its runs.",
            ((f'{{what="{what}"}}', count) for what, count in sorted(self.swept.items())),
        )
        for name, text, value in (
            ("received_bytes_total", "Bytes of blobs received.", self.received),
            ("sent_bytes_total", "Bytes of blobs and manifests answered.", self.sent),
            (
                "refused_logins_total",
                "Requests with credentials that were wrong.",
                self.refused_logins,
            ),
            ("expired_uploads_total", "Unfinished uploads removed.", self.expired),
        ):
            lines += _family(name, "counter", text, [("", value)])
        for name, (text, ask) in self.gauges.items():
            lines += _family(name, "gauge", text, [("", ask())])
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        samples: list[tuple[str, float]] = [
            (f'_bucket{{le="{bound:g}"}}', count)
            for bound, count in zip(BUCKETS, self._buckets, strict=True)
        ]
        samples += [
            ('_bucket{le="+Inf"}', self._count),
            ("_sum", self._seconds),
            ("_count", self._count),
        ]
        return _family("request_seconds", "histogram", "Seconds until the answer began.", samples)


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    full = _PREFIX + name
    lines = [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
    lines += [f"{full}{labels} {value:.10g}" for labels, value in samples]
    return lines
