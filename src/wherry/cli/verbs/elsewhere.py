"""Verbs whose whole answer is the engine's: it says itself what is not in its version."""

from __future__ import annotations

from wherry.cli.flags import Command, Options
from wherry.cli.session import Session
from wherry.cli.table import align


def _search(session: Session, _options: Options, arguments: list[str]) -> int:
    found = session.engine.get("/images/search", {"term": arguments[0]})
    rows = [(image["name"], image["description"], str(image["star_count"])) for image in found]
    session.line(
        align("\n".join("\t".join(row) for row in (("NAME", "DESCRIPTION", "STARS"), *rows)))
    )
    return 0


SEARCH = Command(_search, "TERM", "Search a registry for images", least=1, most=1)
