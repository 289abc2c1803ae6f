"""Records to what `docker logs` sends: framed or raw, with or without timestamps."""

from __future__ import annotations

from wherry.model.frames import encode
from wherry.model.moments import render_second
from wherry.supervisor.logs.segment import ERR, OUT

_NANO = 1_000_000_000


class Stamp:
    """Renders times as RFC 3339 with nine digits of nanoseconds, in UTC."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def render(self, at: int) -> bytes:
        """Return `2026-11-21T03:54:46.987770339Z` for nanoseconds since the epoch."""
        second, rest = divmod(at, _NANO)
        if second != self._second:
            self._second = second
            try:
                self._text = render_second(second).encode()
            except (OverflowError, OSError, ValueError):
                self._text = b"0000-00-00T00:00:00"  # a damaged index holds any 64 bits
        return self._text + b".%09dZ" % rest


class Renderer:
    """Turns pieces into frames (raw: plain bytes). Knows for each stream whether it is inside a line."""

    def __init__(self, *, raw: bool, timestamps: bool, details: bytes = b"") -> None:
        self._raw = raw
        self._details = details
        self._stamp = Stamp() if timestamps else None
        self._inside: dict[int, bool] = {OUT: False, ERR: False}

    @property
    def stamps(self) -> bool:
        """Whether lines get something before them."""
        return self._stamp is not None or bool(self._details)

    def render(self, stream: int, at: int, data: bytes) -> bytes:
        """Return what is sent for `data`, which came at time `at`."""
        if self.stamps:
            stamp = self._stamp.render(at) + b" " if self._stamp is not None else b""
            stamp += self._details
            head = b"" if self._inside[stream] else stamp
            self._inside[stream] = not data.endswith(b"\n")
            data = head + data[:-1].replace(b"\n", b"\n" + stamp) + data[-1:]
        return data if self._raw else encode(stream, data)

    def render_loss(self, at: int, count: int) -> bytes:
        """Return the line that tells of output that the disk had no room for."""
        end = b"\r\n" if self._raw else b"\n"
        text = b"wherry: %d bytes of output are missing here: the disk was full" % count
        return self.render(OUT if self._raw else ERR, at, text + end)
