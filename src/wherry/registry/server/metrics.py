"""Counters, and their text in the form that Prometheus reads (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from wherry.http.exposition import CONTENT_TYPE, Histogram, family, labelled

__all__ = ["BUCKETS", "CONTENT_TYPE", "Metrics"]
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
        self._seconds = Histogram(BUCKETS)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer that began after `seconds`."""
        self.requests[method, route, status] += 1
        self._seconds.observe(seconds)

    def render(self) -> str:
        """Return all of it as text."""
        lines: list[str] = []
        lines += family(
            _PREFIX + "requests_total",
            "counter",
            "Requests answered.",
            (
                (labelled(method=method, route=route, status=str(status)), count)
                for (method, route, status), count in sorted(self.requests.items())
            ),
        )
        text = "Seconds until the answer began."
        lines += family(_PREFIX + "request_seconds", "histogram", text, self._seconds.samples())
        lines += family(
            _PREFIX + "swept_total",
            "counter",
            "What garbage collection removed, and its runs.",
            ((labelled(what=what), count) for what, count in sorted(self.swept.items())),
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
            lines += family(_PREFIX + name, "counter", text, [("", value)])
        for name, (text, ask) in self.gauges.items():
            lines += family(_PREFIX + name, "gauge", text, [("", ask())])
        return "\n".join(lines) + "\n"
