"""Removing what is not used: containers, images, everything."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.pruning import (
    FORCE,
    is_agreed,
    prune,
    prune_filter,
    show_names,
    show_removed,
    show_total,
)
from wherry.cli.session import Session
from wherry.client.wire import many
from wherry.model.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_UNUSED = "images without at least one container associated to them"


def _containers(session: Session, conditions: list[tuple[str, str]]) -> int:
    answer = prune(session, "containers", conditions)
    return show_removed(session, answer, "ContainersDeleted", "Deleted Containers:")


def _images(session: Session, conditions: list[tuple[str, str]], everything: bool) -> int:
    wanted = [*conditions, ("dangling", "false" if everything else "true")]
    answer = prune(session, "images", wanted)
    lines: list[str] = []
    for change in many(answer, "ImagesDeleted"):
        if change.get("Untagged"):
            lines.append(f"untagged: {change['Untagged']}")
        else:
            lines.append(f"deleted: {change['Deleted']}")
    show_names(session, "Deleted Images:", lines)
    return answer.get("SpaceReclaimed") or 0


def _prune_containers(session: Session, options: Options, _arguments: list[str]) -> int:
    if is_agreed(session, options, "WARNING! This will remove all stopped containers."):
        show_total(session, _containers(session, options.all("filter")))
    return 0


def _prune_images(session: Session, options: Options, _arguments: list[str]) -> int:
    everything = options.on("all")
    what = _UNUSED if everything else "dangling images"
    if is_agreed(session, options, f"WARNING! This will remove all {what}."):
        show_total(session, _images(session, options.all("filter"), everything))
    return 0


def _prune_system(session: Session, options: Options, _arguments: list[str]) -> int:
    conditions: list[tuple[str, str]] = options.all("filter")
    everything, volumes = options.on("all"), options.on("volumes")
    if volumes and any(name == "until" for name, _ in conditions):
        raise Failure('ERROR: The "until" filter is not supported with "--volumes"')
    images = _UNUSED if everything else "dangling images"
    parts = ["all stopped containers", "all networks not used by at least one container"]
    parts += ["all anonymous volumes not used by at least one container"] if volumes else []
    parts += [f"all {images}", "all build cache" if everything else "unused build cache"]
    warning = "WARNING! This will remove:\n" + "".join(f"  - {part}\n" for part in parts)
    if conditions:
        pairs = "".join(f"  - {name}={value}\n" for name, value in sorted(conditions))
        warning += f"\n  Items to be pruned will be filtered with:\n{pairs}"
    if not is_agreed(session, options, warning):
        return 0
    space = _containers(session, conditions)
    networks = _if_there(session, "networks", conditions)
    show_removed(session, networks, "NetworksDeleted", "Deleted Networks:")
    if volumes:
        answer = _if_there(session, "volumes", conditions)
        space += show_removed(session, answer, "VolumesDeleted", "Deleted Volumes:")
    space += _images(session, conditions, everything)
    build = _if_there(session, "build", conditions)
    space += show_removed(session, build, "CachesDeleted", "Deleted build cache objects:")
    show_total(session, space)
    return 0


def _if_there(session: Session, kind: str, conditions: list[tuple[str, str]]) -> Object:
    """Prune a kind that this engine may not have: it then holds nothing of it either."""
    try:
        return prune(session, kind, conditions)
    except Unsupported:
        return {}


_FILTER = prune_filter("until=<timestamp>")
PRUNE_CONTAINERS = Command(
    _prune_containers, "[OPTIONS]", "Remove all stopped containers", (_FILTER, FORCE), most=0
)
PRUNE_IMAGES = Command(
    _prune_images,
    "[OPTIONS]",
    "Remove unused images",
    (
        Flag("all", "bool", "Remove all unused images, not just dangling ones", short="a"),
        _FILTER,
        FORCE,
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
        FORCE,
        Flag("volumes", "bool", "Prune anonymous volumes"),
    ),
    most=0,
)
