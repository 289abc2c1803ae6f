"""Verbs whose whole answer is the engine's: it says itself what is not in its version."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.session import Session
from wherry.cli.table import align
from wherry.client.wire import many


def _build(session: Session, _options: Options, _arguments: list[str]) -> int:
    session.engine.open("POST", "/build").read()
    return 0


def _networks(session: Session, options: Options, _arguments: list[str]) -> int:
    found = sorted(session.engine.get("/networks"), key=lambda network: network["Name"])
    rows = [(n["Id"][:12], n["Name"], n["Driver"], n["Scope"]) for n in found]
    return _show(session, options, ("NETWORK ID", "NAME", "DRIVER", "SCOPE"), rows, found)


def _volumes(session: Session, options: Options, _arguments: list[str]) -> int:
    found = many(session.engine.get("/volumes"), "Volumes")
    rows = [(v["Driver"], v["Name"]) for v in found]
    return _show(session, options, ("DRIVER", "VOLUME NAME"), rows, found)


def _show(
    session: Session,
    options: Options,
    titles: tuple[str, ...],
    rows: list[tuple[str, ...]],
    found: list[object],
) -> int:
    if options.text("format") == "json":
        for item in found:
            session.line(dumps(item))
    elif options.on("quiet"):
        for row in rows:
            session.line(row[titles.index("NETWORK ID") if "NETWORK ID" in titles else 1])
    else:
        session.line(align("\n".join("\t".join(row) for row in (titles, *rows))))
    return 0


_LIST_FLAGS = (
    Flag("format", "string", "Format output: 'json'"),
    Flag("quiet", "bool", "Only display names or IDs", short="q"),
)
BUILD = Command(
    _build, "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile", interspersed=False
)
NETWORKS = Command(_networks, "[OPTIONS]", "List networks", _LIST_FLAGS, most=0)
VOLUMES = Command(_volumes, "[OPTIONS]", "List volumes", _LIST_FLAGS, most=0)
