"""Verbs whose whole answer is the engine's: it says itself what is not in its version."""

from __future__ import annotations

from wherry.cli.files import pairs_to_map
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.session import Session
from wherry.cli.table import align
from wherry.cli.units import human_size
from wherry.cli.verbs.lifecycle import for_each
from wherry.client.engine import segment
from wherry.client.wire import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.flags import Run

    Object = dict[str, Any]


def _build(session: Session, _options: Options, _arguments: list[str]) -> int:
    session.engine.open("POST", "/build").read()
    return 0


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


def _create_volume(session: Session, options: Options, arguments: list[str]) -> int:
    body: Object = {"Name": arguments[0] if arguments else "", "Driver": options.text("driver")}
    body["Labels"] = pairs_to_map(options.all("label"))
    body["DriverOpts"] = pairs_to_map(options.all("opt"))
    session.line(session.engine.call("POST", "/volumes/create", None, body)["Name"])
    return 0


def _removing(kind: str) -> Run:
    def run(session: Session, options: Options, arguments: list[str]) -> int:
        query = {"force": "1"} if options.on("force") else {}

        def act(name: str) -> str:
            session.engine.call("DELETE", f"/{kind}/{segment(name)}", query)
            return name

        return for_each(session, arguments, act)

    return run


def _pruning(kind: str, title: str, deleted: str) -> Run:
    def run(session: Session, options: Options, _arguments: list[str]) -> int:
        warning = (
            f"WARNING! This will remove all unused {kind}.\nAre you sure you want to continue?"
        )
        if not options.on("force") and not session.confirm(warning):
            return 1
        answer: Object = session.engine.call("POST", f"/{kind}/prune") or {}
        names = many(answer, deleted)
        if names:
            session.line("\n".join([title, *names, ""]))
        if kind == "volumes":
            session.line(f"Total reclaimed space: {human_size(answer.get('SpaceReclaimed') or 0)}")
        return 0

    return run


def _search(session: Session, _options: Options, arguments: list[str]) -> int:
    found = session.engine.get("/images/search", {"term": arguments[0]})
    rows = [(image["name"], image["description"], str(image["star_count"])) for image in found]
    session.line(
        align("\n".join("\t".join(row) for row in (("NAME", "DESCRIPTION", "STARS"), *rows)))
    )
    return 0


_LIST_FLAGS = (
    Flag("format", "string", "Format output: 'json'"),
    Flag("quiet", "bool", "Only display names or IDs", short="q"),
)
BUILD = Command(
    _build, "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile", interspersed=False
)
VOLUMES = Command(_volumes, "[OPTIONS]", "List volumes", _LIST_FLAGS, most=0)
_FORCE = Flag("force", "bool", "Do it without asking, or although it is in use", short="f")
_DRIVER = Flag("driver", "string", "Driver to manage it", short="d")
_LABEL = Flag("label", "label", "Set metadata", many=True)
CREATE_VOLUME = Command(
    _create_volume,
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    (_DRIVER, _LABEL, Flag("opt", "string", "Set driver specific options", short="o", many=True)),
    most=1,
)
REMOVE_VOLUMES = Command(
    _removing("volumes"),
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    (_FORCE,),
    least=1,
)
PRUNE_VOLUMES = Command(
    _pruning("volumes", "Deleted Volumes:", "VolumesDeleted"),
    "[OPTIONS]",
    "Remove unused local volumes",
    (_FORCE,),
    most=0,
)
SEARCH = Command(_search, "TERM", "Search a registry for images", least=1, most=1)
