"""Texts of an engine without what differs from one day, one machine or one call to the next."""

from __future__ import annotations

import re

_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
_ZONE = r"(?: ?(?:Z|[+-]\d\d:?\d\d))?(?: [A-Z]{3,4}\b)?"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"

_TIMES = [
    # RFC 3339, and Go's own.
    (rf"\b\d{{4}}-\d\d-\d\d(?:[T ]{_CLOCK}{_ZONE})?(?: m=[+-][\d.]+)?", "TIME"),
    # HTTP's: Sun, 22 Nov 2026 00:35:17 GMT.
    (rf"\b{_WEEKDAY}\d\d? {_MONTH} \d{{4}}(?: {_CLOCK}{_ZONE})?", "TIME"),
    # ls and tar, of this half year and of others; date and syslog: Sun Nov  1 00:35:17 UTC 2026.
    (rf"\b{_WEEKDAY}{_MONTH} +\d\d?(?: +(?:{_CLOCK}{_ZONE}(?: \d{{4}})?|\d{{4}}))\b", "TIME"),
    (rf"(?<![\w:.]){_CLOCK}(?![\w:])", "CLOCK"),
    (
        r"\b(?:Less than a second|About an? (?:minute|hour)"
        r"|\d+ (?:second|minute|hour|day|week|month|year)s?)\b",
        "AGE",
    ),
]
_MACHINE = [
    # How many processors and memory nodes it has.
    (r"to [\d.]+, as there are only \d+ CPUs available", "to ALL, as there are only ALL CPUs"),
    (r"available: \d+(?:[-,]\d+)*", "available: ALL"),
    (r"/sys/fs/cgroup/cpu,cpuacct/", "/sys/fs/cgroup/cpu/"),
]
_MADE = [
    (r"\bsha256:[0-9a-f]{12,64}\b", "DIGEST"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "SHORT"),
]
# A filter's values are a set to Docker: it names them in any order.
_VALUES = re.compile(r"(?<=invalid filter ')(\w+)=\[([^\]]*)\]")
_VARYING = [(re.compile(pattern), word) for pattern, word in (*_MADE, *_TIMES, *_MACHINE)]


def plain(text: str) -> str:
    """Return the text with words for times, spans of time, digests, ids, and the machine's size."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return _VALUES.sub(lambda found: f"{found[1]}=[{' '.join(sorted(found[2].split()))}]", text)
