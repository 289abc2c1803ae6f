"""`wherry pull` and `wherry push`: asked of the engine, which says what it can do."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.progress import show
from wherry.cli.references import parse_reference, pull_query
from wherry.cli.session import Session
from wherry.client.engine import segment

# No credentials: base64 of an empty JSON object.
_ANONYMOUS = {"X-Registry-Auth": "e30="}


def _pull(session: Session, options: Options, arguments: list[str]) -> int:
    name = arguments[0]
    query = pull_query(name)
    reference = parse_reference(name)
    if options.on("all-tags"):
        del query["tag"]
    elif not reference.tag and not reference.digest and not options.on("quiet"):
        session.line("Using default tag: latest")
    if options.text("platform"):
        query["platform"] = options.text("platform")
    messages = session.engine.events("POST", "/images/create", query, None, _ANONYMOUS)
    show(messages, quiet=options.on("quiet"))
    session.line(str(reference.with_default_tag()))
    return 0


def _push(session: Session, options: Options, arguments: list[str]) -> int:
    reference = parse_reference(arguments[0])
    query: dict[str, str] = {}
    if not options.on("all-tags"):
        if not reference.tag:
            session.line("Using default tag: latest")
        query["tag"] = reference.tag or "latest"
    route = f"/images/{segment(reference.repository)}/push"
    messages = session.engine.events("POST", route, query, None, _ANONYMOUS)
    show(messages, quiet=options.on("quiet"))
    return 0


_TRUST = Flag("disable-content-trust", "bool", "Skip image verification", default=True, hidden=True)
PULL = Command(
    _pull,
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    (
        Flag("all-tags", "bool", "Download all tagged images in the repository", short="a"),
        _TRUST,
        Flag("platform", "string", "Set platform if server is multi-platform capable"),
        Flag("quiet", "bool", "Suppress verbose output", short="q"),
    ),
    least=1,
    most=1,
)
PUSH = Command(
    _push,
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    (
        Flag("all-tags", "bool", "Push all tags of an image to the repository", short="a"),
        _TRUST,
        Flag("platform", "string", "Push only one platform", hidden=True),
        Flag("quiet", "bool", "Suppress verbose output", short="q"),
    ),
    least=1,
    most=1,
)
