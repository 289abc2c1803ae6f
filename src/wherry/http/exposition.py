"""Metrics as text in the form that Prometheus reads (text format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, float]
"""A suffix and labels (`{a="b"}`, or nothing), and a value."""


def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    """Return the lines of one metric; `kind` is counter, gauge or histogram."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{labels} {value:.15g}" for labels, value in samples]
    return lines


def labelled(**labels: str) -> str:
    """Return `{a="b",c="d"}`, values escaped."""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Histogram:
    """Counts of values up to each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._buckets = [0] * len(self._bounds)
        self._sum = 0.0
        self._count = 0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._sum += value
        self._count += 1
        for at, bound in enumerate(self._bounds):
            if value <= bound:
                self._buckets[at] += 1

    def samples(self, **labels: str) -> list[Sample]:
        """Return the samples of a histogram."""
        found: list[Sample] = [
            (f"_bucket{labelled(**labels, le=f'{bound:g}')}", count)
            for bound, count in zip(self._bounds, self._buckets, strict=True)
        ]
        found.append((f"_bucket{labelled(**labels, le='+Inf')}", self._count))
        plain = labelled(**labels)
        return [*found, (f"_sum{plain}", self._sum), (f"_count{plain}", self._count)]
