"""`wherry inspect`, of anything, and of containers and images by kind."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.session import Session
from wherry.cli.start import describe
from wherry.client.engine import segment
from wherry.client.faults import Unreachable
from wherry.model.errors import Invalid, NotFound, Unsupported, WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Object = dict[str, Any]
    Find = Callable[[str], Object]

_TYPES = (
    *("config", "container", "image", "network", "node", "plugin", "secret", "service", "task"),
    "volume",
)
_ROUTES = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
    "plugin": "/plugins/{}/json",
}


def _finder(session: Session, kind: str, query: dict[str, str]) -> Find:
    def find(name: str) -> Object:
        route = _ROUTES[kind].format(segment(name))
        return session.engine.get(
            route, query if kind in ("container", "image", "network") else None
        )

    return find


def _find_any(session: Session, query: dict[str, str]) -> Find:
    kinds = ("container", "image", "network", "volume", "plugin")
    finders = [_finder(session, kind, query) for kind in kinds]

    def find(name: str) -> Object:
        for finder in finders:
            try:
                return finder(name)
            except (NotFound, Unsupported, Invalid):
                continue
        raise Failure(f"Error: No such object: {name}")

    return find


def show_found(
    session: Session, names: list[str], find: Find, form: str, *, html: bool = False
) -> int:
    """Print what `find` gives for each name, in the form asked for; return the exit code.

    `html` writes `<` as Go does by default: what the daemon's own JSON is not shown with.
    """
    found: list[Object] = []
    problems: list[str] = []
    for name in names:
        try:
            found.append(find(name))
        except Unreachable:
            raise
        except Failure as failure:
            problems.append(failure.text)
        except WherryError as error:
            problems.append(describe(error))
    if form == "json":
        session.line(dumps(found, html=html))
    elif form:
        _show_template(session, found, form)
    else:
        session.line(_painted(session, dumps(found, indent="    ", html=html)))
    for problem in problems:
        session.error(problem)
    return 1 if problems else 0


def _show_template(session: Session, found: list[Object], form: str) -> None:
    from wherry.cli.template.evaluate import evaluate
    from wherry.cli.template.lexer import TemplateError
    from wherry.cli.template.syntax import parse
    from wherry.cli.template.values import wrap

    try:
        template = parse(form)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error.text}", 64) from None
    for item in found:
        try:
            session.line(evaluate(template, wrap(item)))
        except TemplateError as error:
            session.line("")
            raise Failure(f"template parsing error: {error.text}") from None


def _painted(session: Session, text: str) -> str:
    """The JSON with its keys in colour, on a terminal."""
    style = session.style()
    if not style.on:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        bare = line.lstrip(" ")
        end = bare.find('": ')
        if bare.startswith('"') and end > 0:
            indent = line[: len(line) - len(bare)]
            line = indent + style("36", bare[: end + 1]) + bare[end + 1 :]
        lines.append(line)
    return "\n".join(lines)


def _inspect(session: Session, options: Options, arguments: list[str]) -> int:
    if options.on("plan"):
        return _plan(session, arguments)
    kind = options.text("type")
    if options.given("type") and not kind:
        known = ", ".join(f'"{known}"' for known in _TYPES)
        raise Failure(f"type is empty: must be one of {known}")
    if kind and kind not in _TYPES:
        known = ", ".join(f'"{known}"' for known in _TYPES)
        raise Failure(f'unknown type: "{kind}": must be one of {known}')
    if kind and kind not in _ROUTES:
        raise Failure(f"objects of type {kind} are not in this version of wherry")
    query = {"size": "1"} if options.on("size") else {}
    find = _finder(session, kind, query) if kind else _find_any(session, query)
    return show_found(session, arguments, find, options.text("format"))


def _plan(session: Session, names: list[str]) -> int:
    for name in names:
        path = f"/wherry/containers/{segment(name)}/plan"
        text = session.engine.open("GET", path).read().decode("utf-8", "replace")
        session.write(text if text.endswith("\n") else text + "\n")
    return 0


def _inspect_container(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"size": "1"} if options.on("size") else {}
    return show_found(
        session, arguments, _finder(session, "container", query), options.text("format")
    )


def _inspect_image(session: Session, options: Options, arguments: list[str]) -> int:
    query: dict[str, str] = {}
    if options.text("platform"):
        from wherry.cli.platforms import as_json

        query["platform"] = as_json(options.text("platform"))
    return show_found(session, arguments, _finder(session, "image", query), options.text("format"))


def _inspect_network(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"verbose": "true"} if options.on("verbose") else {}
    return show_found(
        session, arguments, _finder(session, "network", query), options.text("format")
    )


def _inspect_volume(session: Session, options: Options, arguments: list[str]) -> int:
    return show_found(session, arguments, _finder(session, "volume", {}), options.text("format"))


_FORMAT = Flag("format", "string", "Format output: 'json' or a Go template", short="f")
INSPECT = Command(
    _inspect,
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on objects",
    (
        _FORMAT,
        Flag("plan", "bool", "Print the steps that start a container, instead"),
        Flag("size", "bool", "Display total file sizes if the type is container", short="s"),
        Flag("type", "string", "Only inspect objects of the given type"),
    ),
    least=1,
)
INSPECT_CONTAINER = Command(
    _inspect_container,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    (_FORMAT, Flag("size", "bool", "Display total file sizes", short="s")),
    least=1,
)
INSPECT_IMAGE = Command(
    _inspect_image,
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    (_FORMAT, Flag("platform", "string", "Inspect one platform (os[/arch[/variant]])")),
    least=1,
)
INSPECT_NETWORK = Command(
    _inspect_network,
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    (_FORMAT, Flag("verbose", "bool", "Verbose output for diagnostics", short="v")),
    least=1,
)
INSPECT_VOLUME = Command(
    _inspect_volume,
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    (_FORMAT,),
    least=1,
)
