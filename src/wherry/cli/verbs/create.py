"""`wherry create`, and the making of a container that `run` shares."""

from __future__ import annotations

import os

from wherry.cli.body import create_body
from wherry.cli.create_flags import CREATE_FLAGS
from wherry.cli.exits import NOT_RUN
from wherry.cli.failure import Failure
from wherry.cli.files import reason
from wherry.cli.flags import Command, Options
from wherry.cli.session import Session
from wherry.client.wire import many
from wherry.model.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_USUAL = "abcdefghijklmnopqrstuvwxyz0123456789/:.-"
_PULLS = ("always", "missing", "never")


def explained(path: str, text: str, code: int) -> Failure:
    """Return a failure of `run` or `create` in their own form."""
    return Failure(f"wherry: {text}\n\nRun 'wherry {path} --help' for more information", code)


def parsed_body(session: Session, options: Options, arguments: list[str]) -> Object:
    """Return the create request's body. Raises Failure (125) with the way to the help."""
    try:
        body = create_body(options, arguments[0], arguments[1:])
    except Failure as failure:
        if failure.code != NOT_RUN:
            raise
        raise explained(session.path, failure.text, NOT_RUN) from None
    pull = options.text("pull")
    if pull not in _PULLS:
        what = f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"'
        raise explained(session.path, what, NOT_RUN)
    _warn_of_local_dns(session, body)
    given: list[str] = body["Env"] or []
    known = {entry.partition("=")[0] for entry in given}
    proxies = session.configuration.proxies(str(session.engine.address))
    more = [f"{name}={value}" for name, value in proxies.items() if name not in known]
    body["Env"] = [*more, *given] or None
    return body


def _warn_of_local_dns(session: Session, body: Object) -> None:
    for server in body["HostConfig"]["Dns"]:
        if server == "::1" or server.startswith("127."):
            session.error(f"WARNING: Localhost DNS ({server}) may fail in containers.")


def create_container(session: Session, options: Options, body: Object) -> str:
    """Create the container, pulling its image when `--pull` says so, and return its id."""
    from_file = options.text("cidfile")
    descriptor = _open_id_file(from_file) if from_file else -1
    identifier = ""
    try:
        identifier = _create(session, options, body)
        if descriptor >= 0:
            os.write(descriptor, identifier.encode())
    finally:
        if descriptor >= 0:
            os.close(descriptor)
            if not identifier:
                os.unlink(from_file)
    return identifier


def _open_id_file(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise Failure(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as error:
        raise Failure(f"failed to create the container ID file: {reason(error)}") from None


def _create(session: Session, options: Options, body: Object) -> str:
    query: dict[str, str] = {}
    if options.text("name"):
        query["name"] = options.text("name")
    platform = options.text("platform")
    if platform:
        from wherry.cli.platforms import normalise

        query["platform"] = platform = normalise(platform)
    image: str = body["Image"]
    _check_reference(image)
    auths: Object = {}
    if options.on("use-api-socket"):
        from wherry.cli.apisocket import give_socket

        auths = give_socket(session, body)
    pull = options.text("pull")
    if pull == "always":
        _pull(session, image, platform, options.on("quiet"))
    try:
        answer: Object = session.engine.call("POST", "/containers/create", query, body)
    except NotFound as error:
        if pull != "missing" or "o such image" not in error.message:
            raise
        if not options.on("quiet"):
            session.error(f"Unable to find image '{_with_tag(image)}' locally")
        _pull(session, image, platform, options.on("quiet"))
        answer = session.engine.call("POST", "/containers/create", query, body)
    for warning in many(answer, "Warnings"):
        session.error(f"WARNING: {warning}")
    if auths:
        from wherry.cli.apisocket import send_credentials

        send_credentials(session, answer["Id"], auths)
    return answer["Id"]


def _check_reference(image: str) -> None:
    """Raise Failure for what is no image's name, in Docker's words. Usual names cost no import."""
    if (
        any(letter not in _USUAL for letter in image)
        or any(twice in image for twice in ("::", "//", ".."))
        or image.rpartition("/")[2].count(":") > 1
    ):
        from wherry.cli.references import parse_reference

        parse_reference(image)


def _with_tag(image: str) -> str:
    tagged = "@" in image or ":" in image.rpartition("/")[2]
    return image if tagged else f"{image}:latest"


def _pull(session: Session, image: str, platform: str, quiet: bool) -> None:
    from wherry.cli.credentials import header_for, server_of
    from wherry.cli.progress import show
    from wherry.cli.references import parse_reference, pull_query

    query = pull_query(image)
    headers = header_for(session.configuration, server_of(parse_reference(image)))
    if platform:
        query["platform"] = platform
    # Standard output is the container's: progress goes to standard error.
    messages = session.engine.events("POST", "/images/create", query, None, headers)
    show(messages, descriptor=2, quiet=quiet)


def _run(session: Session, options: Options, arguments: list[str]) -> int:
    body = parsed_body(session, options, arguments)
    session.line(create_container(session, options, body))
    return 0


CREATE = Command(
    _run,
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    CREATE_FLAGS,
    least=1,
    interspersed=False,
)
