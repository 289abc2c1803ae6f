"""`wherry events`."""

from __future__ import annotations

import sys

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.listing import filter_flag, filters_query
from wherry.cli.moments import query_time, rfc3339_nano
from wherry.cli.session import Session
from wherry.client.wire import one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Object = dict[str, Any]


def _line(event: Object) -> str:
    """An event as `time type action id (name=value, …)`."""
    nano: int = event.get("timeNano") or event.get("time", 0) * 10**9
    actor: Object = one(event, "Actor")
    text = f"{rfc3339_nano(nano)} {event['Type']} {event['Action']} {actor.get('ID', '')}"
    attributes: dict[str, str] = one(actor, "Attributes")
    if attributes:
        pairs = ", ".join(f"{name}={attributes[name]}" for name in sorted(attributes))
        text += f" ({pairs})"
    return text


def _renderer(form: str) -> Callable[[Object], str]:
    if not form:
        return _line
    if form == "json":
        return lambda event: dumps(event)
    from wherry.cli.template.evaluate import evaluate
    from wherry.cli.template.lexer import TemplateError
    from wherry.cli.template.syntax import parse
    from wherry.cli.template.values import wrap

    try:
        template = parse(form)
    except TemplateError as error:
        raise Failure(f"Error parsing format: {error.text}", 64) from None

    def render(event: Object) -> str:
        value = wrap(event)
        value.setdefault("Actor", {})
        # Go's names of three members that the API calls otherwise, and leaves out where they are empty.
        older = {"ID": event.get("id", ""), "Status": event.get("status", "")}
        return evaluate(template, {**older, "From": event.get("from", ""), **value})

    return render


def _events(session: Session, options: Options, _arguments: list[str]) -> int:
    query = filters_query(options.all("filter"))
    for flag in ("since", "until"):
        if options.text(flag):
            query[flag] = query_time(options.text(flag))
    render = _renderer(options.text("format"))
    for event in session.engine.events("GET", "/events", query):
        session.line(render(event))
        sys.stdout.flush()
    return 0


EVENTS = Command(
    _events,
    "[OPTIONS]",
    "Get real time events from the server",
    (
        filter_flag(),
        Flag("format", "string", "Format output: 'json' or a Go template"),
        Flag("since", "string", "Show all events created since timestamp"),
        Flag("until", "string", "Stream events until this timestamp"),
    ),
    most=0,
)
