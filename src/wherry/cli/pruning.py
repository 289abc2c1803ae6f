"""What the verbs called prune share: the question, the request, the words of the answer."""

from __future__ import annotations

from wherry.cli.flags import Flag, Options
from wherry.cli.listing import filters_query
from wherry.cli.session import Session
from wherry.cli.units import human_size
from wherry.client.wire import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

FORCE = Flag("force", "bool", "Do not prompt for confirmation", short="f")


def prune_filter(example: str) -> Flag:
    """Return `--filter` of a prune, whose help has an example."""
    text = f'Provide filter values (e.g. "{example}")'
    return Flag("filter", "filter", text, many=True, label="filter")


def is_agreed(session: Session, options: Options, warning: str) -> bool:
    """Ask, unless `--force` is given. Who declines has not failed: the exit code is 0."""
    question = f"{warning}\nAre you sure you want to continue?"
    return options.on("force") or session.confirm(question)


def prune(session: Session, kind: str, conditions: list[tuple[str, str]]) -> Object:
    """Remove what is not used of one kind (`volumes`, `build`); return the engine's answer."""
    query = filters_query(with_configured(session, conditions))
    answer: Object | None = session.engine.call("POST", f"/{kind}/prune", query)
    return answer or {}


def with_configured(session: Session, conditions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the conditions, and those of the configuration that they do not contradict."""
    opposite = {"label": "label!", "label!": "label"}
    more = [
        (name, value)
        for name, value in session.configuration.prune_filters()
        if (opposite.get(name, ""), value) not in conditions and (name, value) not in conditions
    ]
    return [*conditions, *more]


def show_removed(session: Session, answer: Object, key: str, title: str) -> int:
    """Print the names at `key` of an answer under a title; return the bytes that were freed."""
    show_names(session, title, many(answer, key))
    return answer.get("SpaceReclaimed") or 0


def show_names(session: Session, title: str, names: list[str]) -> None:
    """Print names under a title; nothing where there are none."""
    if names:
        session.line("\n".join([title, *names, ""]))


def show_total(session: Session, space: int) -> None:
    """Print how many bytes were freed."""
    session.line(f"Total reclaimed space: {human_size(space)}")
