"""`wherry pull` and `wherry push`."""

from __future__ import annotations

from wherry.cli.credentials import header_for, server_of
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.platforms import normalise
from wherry.cli.progress import show
from wherry.cli.references import parse_reference, pull_query
from wherry.cli.session import Session
from wherry.client import wire
from wherry.client.engine import segment


def _pull(session: Session, options: Options, arguments: list[str]) -> int:
    name = arguments[0]
    query = pull_query(name)
    reference = parse_reference(name)
    if options.on("all-tags"):
        if reference.tag or reference.digest:
            raise Failure("tag can't be used with --all-tags/-a")
        del query["tag"]
    elif not reference.tag and not reference.digest and not options.on("quiet"):
        session.line("Using default tag: latest")
    if options.text("platform"):
        query["platform"] = normalise(options.text("platform"))
    headers = header_for(session.configuration, server_of(reference))
    messages = session.engine.events("POST", "/images/create", query, None, headers)
    show(messages, quiet=options.on("quiet"))
    session.line(str(reference if options.on("all-tags") else reference.with_default_tag()))
    return 0


def _push(session: Session, options: Options, arguments: list[str]) -> int:
    reference = parse_reference(arguments[0])
    if reference.digest:
        raise Failure("cannot push a digest reference")
    query: dict[str, str] = {}
    if options.on("all-tags"):
        if reference.tag:
            raise Failure("tag can't be used with --all-tags/-a")
    else:
        if not reference.tag and not options.on("quiet"):
            session.line("Using default tag: latest")
        query["tag"] = reference.tag or "latest"
    if options.text("platform"):
        words = normalise(options.text("platform")).split("/")
        names = ("os", "architecture", "variant")
        query["platform"] = wire.encode(dict(zip(names, words, strict=False)))
    route = f"/images/{segment(reference.repository)}/push"
    headers = header_for(session.configuration, server_of(reference))
    messages = session.engine.events("POST", route, query, None, headers)
    show(messages, quiet=options.on("quiet"))
    if options.on("quiet"):
        session.line(str(reference if options.on("all-tags") else reference.with_default_tag()))
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
        Flag("platform", "string", "Push a platform-specific manifest (os[/arch[/variant]])"),
        Flag("quiet", "bool", "Suppress verbose output", short="q"),
    ),
    least=1,
    most=1,
)
