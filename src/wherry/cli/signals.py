"""Signals to this program, passed on to the container's; the terminal's size, kept in step."""

from __future__ import annotations

from wherry.cli.terminal import size
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.session import Session
else:
    # `signal` imports `enum`, 3 ms; this is the C module that it wraps.
    import _signal

_PROXIED = (
    *("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "STKFLT", "CONT", "TSTP", "TTIN"),
    *("TTOU", "XCPU", "XFSZ", "VTALRM", "PROF", "IO", "PWR", "SYS"),
)


class Handlers:
    """Signal handlers for the length of a `with` block.

    A handler runs between two steps of whatever blocks, so it speaks to the engine on a connection
    of its own.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._saved: list[tuple[int, Any]] = []

    def __enter__(self) -> Handlers:
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._saved:
            _signal.signal(number, handler)
        self._saved.clear()

    def _on(self, number: int, action: Callable[[], object]) -> None:
        def handler(_number: int, _frame: object) -> None:
            action()

        self._saved.append((number, _signal.getsignal(number)))
        _signal.signal(number, handler)

    def proxy_to(self, container: str) -> None:
        """Send every signal that comes here on to the container's first process."""
        for name in _PROXIED:
            number = getattr(_signal, f"SIG{name}", 0)
            if number:
                self._on(number, lambda name=name: self._kill(container, name))

    def _kill(self, container: str, name: str) -> None:
        engine = self._session.another_engine()
        try:
            engine.call("POST", f"/containers/{container}/kill", {"signal": f"SIG{name}"})
        except WherryError:
            # Docker's client drops it too: the container may not have started, or have ended.
            pass
        finally:
            engine.close()

    def follow_size(self, path: str) -> None:
        """Send the terminal's size to `path` (a resize route) on every change."""
        self._on(_signal.SIGWINCH, lambda: self.resize(path))

    def resize(self, path: str, *, more: int = 0) -> bool:
        """Send the terminal's size, and `more`, to `path`; False when the engine refused."""
        rows, columns = size()
        if not rows and not columns:
            return True
        rows, columns = rows + more, columns + more
        engine = self._session.another_engine()
        try:
            engine.call("POST", path, {"h": str(rows), "w": str(columns)})
        except WherryError:
            return False
        finally:
            engine.close()
        return True
