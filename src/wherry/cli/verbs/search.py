"""`wherry search`."""

from __future__ import annotations

from wherry.cli.credentials import HUB, header_for, server_named
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import Listing, filters_query
from wherry.cli.session import Session
from wherry.cli.template.values import Row
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
    if options.number("limit") > 0:
        query["limit"] = str(options.number("limit"))
    query |= filters_query(options.all("filter"))
    response = session.engine.open(
        "GET", "/images/search", query, None, header_for(session.configuration, server)
    )
    found: list[Object] = wire.decode(response.read())
    form = options.text("format")
    rows = [_row(image, whole=options.on("no-trunc"), json=form == "json") for image in found]
    session.write(_LISTING.render(rows, form, style=session.style()))
    return 0


def _row(image: Object, *, whole: bool, json: bool) -> Row:
    text = " ".join(str(image.get("description") or "").split("\n")).replace("\r", " ")
    if not whole and len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    official = bool(image.get("is_official"))
    return Row(
        _LISTING.kind,
        {
            "Description": lambda: text,
            "IsOfficial": lambda: str(official).lower() if json else "[OK]" if official else "",
            "Name": lambda: image["name"],
            "StarCount": lambda: str(image.get("star_count") or 0),
        },
    )


_LISTING = Listing(
    "*registry.searchContext",
    "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    {
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "StarCount": "STARS",
        "IsOfficial": "OFFICIAL",
    },
)

SEARCH = Command(
    _search,
    "[OPTIONS] TERM",
    "Search Docker Hub or a registry for images",
    (
        Flag(
            "filter", "filter", "Filter output based on conditions provided", short="f", many=True
        ),
        Flag("format", "string", "Format output: 'table', 'json', or a Go template"),
        Flag("limit", "int", "Max number of search results"),
        Flag("no-trunc", "bool", "Don't truncate output"),
    ),
    least=1,
    most=1,
)
