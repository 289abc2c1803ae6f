"""`wherry history`."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import FORMAT, Listing
from wherry.cli.moments import ago, rfc3339
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.cli.verbs.containers import ellipsis
from wherry.client.engine import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_KIND = "*image.historyContext"
_HUMAN = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
_EXACT = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
_TITLES = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def _row(layer: Object, human: bool, truncate: bool) -> Row:
    identifier: str = layer["Id"]
    created: int = layer["Created"]
    command: str = layer["CreatedBy"].replace("\t", " ")
    return Row(
        _KIND,
        {
            "ID": lambda: identifier.removeprefix("sha256:")[:12] if truncate else identifier,
            # Images built to be reproducible have no time of making.
            "CreatedSince": lambda: ago(created) if created > 0 else "N/A",
            "CreatedAt": lambda: rfc3339(created),
            "CreatedBy": lambda: ellipsis(command, 45) if truncate else command,
            "Size": lambda: human_size(layer["Size"], 3) if human else str(layer["Size"]),
            "Comment": lambda: layer["Comment"],
        },
    )


def _history(session: Session, options: Options, arguments: list[str]) -> int:
    query: dict[str, str] = {}
    if options.text("platform"):
        from wherry.cli.platforms import as_json

        query["platform"] = as_json(options.text("platform"))
    layers: list[Object] = session.engine.get(f"/images/{segment(arguments[0])}/history", query)
    human, truncate = options.on("human"), not options.on("no-trunc")
    listing = Listing(_KIND, _HUMAN if human else _EXACT, _TITLES)
    rows = [_row(layer, human, truncate) for layer in layers]
    quiet, form = options.on("quiet"), options.text("format")
    session.write(listing.render(rows, form, quiet=quiet, style=session.style()))
    return 0


HISTORY = Command(
    _history,
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    (
        FORMAT,
        Flag(
            "human",
            "bool",
            "Print sizes and dates in human readable format",
            short="H",
            default=True,
        ),
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("platform", "string", "Show history for the given platform (os[/arch[/variant]])"),
        Flag("quiet", "bool", "Only show image IDs", short="q"),
    ),
    least=1,
    most=1,
)
