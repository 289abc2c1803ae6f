"""Verbs whose whole answer is the engine's: it says itself what is not in its version."""

from __future__ import annotations

from wherry.cli.files import pairs_to_map
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.session import Session
from wherry.cli.table import align
from wherry.cli.verbs.lifecycle import for_each
from wherry.client.engine import segment
from wherry.client.wire import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.flags import Run

    Object = dict[str, Any]


def _networks(session: Session, options: Options, _arguments: list[str]) -> int:
    found = sorted(session.engine.get("/networks"), key=lambda network: network["Name"])
    rows = [(n["Id"][:12], n["Name"], n["Driver"], n["Scope"]) for n in found]
    return _show(session, options, ("NETWORK ID", "NAME", "DRIVER", "SCOPE"), rows, found)


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


def _create_network(session: Session, options: Options, arguments: list[str]) -> int:
    body: Object = {"Name": arguments[0], "Driver": options.text("driver")}
    body["Labels"] = pairs_to_map(options.all("label"))
    session.line(session.engine.call("POST", "/networks/create", None, body)["Id"])
    return 0


def _connect(session: Session, _options: Options, arguments: list[str]) -> int:
    path = f"/networks/{segment(arguments[0])}/connect"
    session.engine.call("POST", path, None, {"Container": arguments[1]})
    return 0


def _disconnect(session: Session, options: Options, arguments: list[str]) -> int:
    path = f"/networks/{segment(arguments[0])}/disconnect"
    body = {"Container": arguments[1], "Force": options.on("force")}
    session.engine.call("POST", path, None, body)
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
NETWORKS = Command(_networks, "[OPTIONS]", "List networks", _LIST_FLAGS, most=0)
_FORCE = Flag("force", "bool", "Do it without asking, or although it is in use", short="f")
_DRIVER = Flag("driver", "string", "Driver to manage it", short="d")
_LABEL = Flag("label", "label", "Set metadata", many=True)
CREATE_NETWORK = Command(
    _create_network, "[OPTIONS] NETWORK", "Create a network", (_DRIVER, _LABEL), least=1, most=1
)
CONNECT = Command(
    _connect, "NETWORK CONTAINER", "Connect a container to a network", least=2, most=2
)
DISCONNECT = Command(
    _disconnect,
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    (_FORCE,),
    least=2,
    most=2,
)
REMOVE_NETWORKS = Command(
    _removing("networks"),
    "[OPTIONS] NETWORK [NETWORK...]",
    "Remove one or more networks",
    (_FORCE,),
    least=1,
)
PRUNE_NETWORKS = Command(
    _pruning("networks", "Deleted Networks:", "NetworksDeleted"),
    "[OPTIONS]",
    "Remove all unused networks",
    (_FORCE,),
    most=0,
)
SEARCH = Command(_search, "TERM", "Search a registry for images", least=1, most=1)
