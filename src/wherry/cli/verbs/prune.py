"""Removing what is not used: containers, images, everything."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import filters_query
from wherry.cli.session import Session
from wherry.cli.units import human_size
from wherry.client.wire import many
from wherry.model.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_SURE = "Are you sure you want to continue?"


def _agreed(session: Session, options: Options, warning: str) -> bool:
    return options.on("force") or session.confirm(f"{warning}\n{_SURE}")


def _total(session: Session, space: int) -> None:
    session.line(f"Total reclaimed space: {human_size(space)}")


def _post(session: Session, kind: str, conditions: list[tuple[str, str]]) -> Object:
    answer: Object | None = session.engine.call("POST", f"/{kind}/prune", filters_query(conditions))
    return answer or {}


def _list(session: Session, title: str, names: list[str]) -> None:
    if names:
        session.line(title)
        for name in names:
            session.line(name)
        session.line("")


def _containers(session: Session, conditions: list[tuple[str, str]]) -> int:
    answer = _post(session, "containers", conditions)
    _list(session, "Deleted Containers:", many(answer, "ContainersDeleted"))
    return answer.get("SpaceReclaimed") or 0


def _images(session: Session, conditions: list[tuple[str, str]], everything: bool) -> int:
    wanted = [*conditions, ("dangling", "false" if everything else "true")]
    answer = _post(session, "images", wanted)
    lines: list[str] = []
    for change in many(answer, "ImagesDeleted"):
        if change.get("Untagged"):
            lines.append(f"untagged: {change['Untagged']}")
        else:
            lines.append(f"deleted: {change['Deleted']}")
    _list(session, "Deleted Images:", lines)
    return answer.get("SpaceReclaimed") or 0


def _prune_containers(session: Session, options: Options, _arguments: list[str]) -> int:
    if not _agreed(session, options, "WARNING! This will remove all stopped containers."):
        return 1
    _total(session, _containers(session, options.all("filter")))
    return 0


def _prune_images(session: Session, options: Options, _arguments: list[str]) -> int:
    everything = options.on("all")
    what = (
        "images without at least one container associated to them"
        if everything
        else "dangling images"
    )
    if not _agreed(session, options, f"WARNING! This will remove all {what}."):
        return 1
    _total(session, _images(session, options.all("filter"), everything))
    return 0


def _prune_system(session: Session, options: Options, _arguments: list[str]) -> int:
    conditions: list[tuple[str, str]] = options.all("filter")
    everything, volumes = options.on("all"), options.on("volumes")
    images = (
        "images without at least one container associated to them"
        if everything
        else "dangling images"
    )
    parts = ["all stopped containers", "all networks not used by at least one container"]
    parts += ["all anonymous volumes not used by at least one container"] if volumes else []
    parts += [f"all {images}", "unused build cache"]
    warning = "WARNING! This will remove:\n" + "".join(f"  - {part}\n" for part in parts)
    if not _agreed(session, options, warning):
        return 1
    space = _containers(session, conditions)
    networks = _if_there(session, "networks", conditions)
    _list(session, "Deleted Networks:", many(networks, "NetworksDeleted"))
    if volumes:
        answer = _if_there(session, "volumes", conditions)
        _list(session, "Deleted Volumes:", many(answer, "VolumesDeleted"))
        space += answer.get("SpaceReclaimed") or 0
    space += _images(session, conditions, everything)
    build = _if_there(session, "build", conditions)
    _list(session, "Deleted build cache objects:", many(build, "CachesDeleted"))
    space += build.get("SpaceReclaimed") or 0
    _total(session, space)
    return 0


def _if_there(session: Session, kind: str, conditions: list[tuple[str, str]]) -> Object:
    """Prune a kind that this engine may not have: it then holds nothing of it either."""
    try:
        return _post(session, kind, conditions)
    except Unsupported:
        return {}


_FORCE = Flag("force", "bool", "Do not prompt for confirmation", short="f")
_FILTER = Flag(
    "filter",
    "filter",
    'Provide filter values (e.g. "until=<timestamp>")',
    many=True,
    label="filter",
)
PRUNE_CONTAINERS = Command(
    _prune_containers, "[OPTIONS]", "Remove all stopped containers", (_FILTER, _FORCE), most=0
)
PRUNE_IMAGES = Command(
    _prune_images,
    "[OPTIONS]",
    "Remove unused images",
    (
        Flag("all", "bool", "Remove all unused images, not just dangling ones", short="a"),
        _FILTER,
        _FORCE,
    ),
    most=0,
)
PRUNE_SYSTEM = Command(
    _prune_system,
    "[OPTIONS]",
    "Remove unused data",
    (
        Flag("all", "bool", "Remove all unused images not just dangling ones", short="a"),
        _FILTER,
        _FORCE,
        Flag("volumes", "bool", "Prune anonymous volumes"),
    ),
    most=0,
)
