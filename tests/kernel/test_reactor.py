"""When the loop does what waits for a quiet moment."""

from __future__ import annotations

import pytest

from wherry.kernel import reactor


def test_soon_is_when_nothing_else_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor, "_IDLE_AFTER", 3600.0)
    done: list[str] = []

    def idle() -> bool:
        done.append("idle")
        return False

    loop = reactor.Reactor(idle)
    loop.later(0, lambda: loop.want_idle(soon=True))
    # Without `soon` the loop would sleep until this one.
    loop.later(30, lambda: done.append("late"))
    original = loop._idle  # pyright: ignore[reportPrivateUsage]

    def idle_and_stop() -> None:
        original()
        loop.stop()

    monkeypatch.setattr(loop, "_idle", idle_and_stop)
    loop.run()
    assert done == ["idle"]
