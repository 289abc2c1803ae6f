"""How one API's answers look, and how patient it is: what `connection` asks of whoever it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wherry.http.messages import Response
from wherry.model.errors import WherryError


@dataclass(frozen=True, slots=True)
class Style:
    """Times are seconds; None means for ever."""

    fields: str
    """Header lines of every answer, each ended by CR and LF."""
    render_fault: Callable[[str, int], Response]
    """What is answered to what is no HTTP, or not in time: message and status."""
    render_error: Callable[[WherryError], Response]
    """What is answered where a body's first piece raises."""
    idle_seconds: float | None = None
    """How long a connection may wait between two requests."""
    stall_seconds: float | None = None
    """How long a client may leave an answer unread."""
    body_limit: int = 256 << 10
    """Bytes of a request's body that wait to be read before the connection stops reading."""
