"""Images made and unmade by name: commit, tag, rmi."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.references import target_query
from wherry.cli.session import Session
from wherry.cli.start import describe
from wherry.client.engine import segment
from wherry.client.faults import Unreachable
from wherry.client.http import escape
from wherry.model.errors import NotFound, WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _commit(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"container": arguments[0], "repo": "", "tag": ""}
    query |= {"author": options.text("author"), "comment": options.text("message")}
    if len(arguments) > 1 and arguments[1]:
        query |= target_query(arguments[1])
    if not options.on("pause"):
        query["pause"] = "0"
    path = "/commit"
    changes: list[str] = options.all("change")
    if changes:
        path += "?" + "&".join(f"changes={escape(change)}" for change in changes)
    answer: dict[str, Any] = session.engine.call("POST", path, query)
    session.line(answer["Id"])
    return 0


def _tag(session: Session, _options: Options, arguments: list[str]) -> int:
    try:
        query = target_query(arguments[1])
    except Failure as problem:
        text = f'Error parsing reference: "{arguments[1]}" is not a valid repository/tag'
        raise Failure(f"{text}: {problem.text}") from None
    session.engine.call("POST", f"/images/{segment(arguments[0])}/tag", query)
    return 0


def _remove(session: Session, options: Options, arguments: list[str]) -> int:
    query: dict[str, str] = {}
    if options.on("force"):
        query["force"] = "1"
    if options.on("no-prune"):
        query["noprune"] = "1"
    suffix = ""
    if options.given("platform"):
        from wherry.cli.platforms import as_json

        platforms: list[str] = options.all("platform")
        suffix = "?" + "&".join(f"platforms={escape(as_json(platform))}" for platform in platforms)
    problems: list[str] = []
    fatal = False
    for name in arguments:
        try:
            route = f"/images/{segment(name)}{suffix}"
            answer: list[dict[str, str]] = session.engine.call("DELETE", route, query) or []
        except Unreachable:
            raise
        except WherryError as error:
            fatal = fatal or not isinstance(error, NotFound)
            problems.append(describe(error))
            continue
        for change in answer:
            if change.get("Deleted"):
                session.line(f"Deleted: {change['Deleted']}")
            else:
                session.line(f"Untagged: {change['Untagged']}")
    for problem in problems:
        session.error(problem)
    # With --force a missing image is as good as removed.
    return 1 if problems and (fatal or not options.on("force")) else 0


COMMIT = Command(
    _commit,
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    (
        Flag(
            "author",
            "string",
            'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")',
            short="a",
        ),
        Flag(
            "change",
            "string",
            "Apply Dockerfile instruction to the created image",
            short="c",
            many=True,
        ),
        Flag("message", "string", "Commit message", short="m"),
        Flag("pause", "bool", "Pause container during commit", short="p", default=True),
    ),
    least=1,
    most=2,
)
TAG = Command(
    _tag,
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    least=2,
    most=2,
)
REMOVE = Command(
    _remove,
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    (
        Flag("force", "bool", "Force removal of the image", short="f"),
        Flag("no-prune", "bool", "Do not delete untagged parents"),
        Flag(
            "platform",
            "string",
            "Remove only the given platform variant (os[/arch[/variant]])",
            many=True,
            label="strings",
        ),
    ),
    least=1,
)
