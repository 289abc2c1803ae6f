"""`wherry search`."""

from __future__ import annotations

from wherry.cli.credentials import HUB, header_for, server_named
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.session import Session
from wherry.cli.table import align
from wherry.client import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_LONGEST = 45


def _search(session: Session, options: Options, arguments: list[str]) -> int:
    term = arguments[0]
    head, slash, _ = term.partition("/")
    server = server_named(head) if slash and ("." in head or ":" in head) else HUB
    query = {"term": term}
    if options.number("limit"):
        query["limit"] = str(options.number("limit"))
    filters: dict[str, list[str]] = {}
    for name, value in options.all("filter"):
        filters.setdefault(name, []).append(value)
    if filters:
        query["filters"] = wire.encode(filters)
    response = session.engine.open(
        "GET", "/images/search", query, None, header_for(session.configuration, server)
    )
    found: list[Object] = wire.decode(response.read())
    style = options.text("format")
    if style == "json":
        for image in found:
            session.line(dumps(_row(image, whole=True)))
        return 0
    rows = [tuple(_row(image, whole=options.on("no-trunc")).values()) for image in found]
    titles = ("NAME", "DESCRIPTION", "STARS", "OFFICIAL")
    session.line(align("\n".join("\t".join(row) for row in (titles, *rows))))
    return 0


def _row(image: Object, *, whole: bool) -> dict[str, str]:
    text = " ".join(str(image.get("description") or "").split())
    if not whole and len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return {
        "Name": image["name"],
        "Description": text,
        "StarCount": str(image.get("star_count") or 0),
        "IsOfficial": "[OK]" if image.get("is_official") else "",
    }


SEARCH = Command(
    _search,
    "[OPTIONS] TERM",
    "Search Docker Hub or a registry for images",
    (
        Flag(
            "filter", "filter", "Filter output based on conditions provided", short="f", many=True
        ),
        Flag("format", "string", "Format output: 'json', 'table'"),
        Flag("limit", "int", "Max number of search results"),
        Flag("no-trunc", "bool", "Don't truncate output"),
    ),
    least=1,
    most=1,
)
