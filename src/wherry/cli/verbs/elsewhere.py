"""Verbs whose whole answer is the engine's: it says itself what is not in its version."""

from __future__ import annotations

from wherry.cli.flags import Command, Options
from wherry.cli.session import Session


def _build(session: Session, _options: Options, _arguments: list[str]) -> int:
    session.engine.open("POST", "/build").read()
    return 0


BUILD = Command(
    _build, "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile", interspersed=False
)
