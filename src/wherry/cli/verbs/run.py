"""`wherry run`: create, attach, wait, start, in the order that loses neither output nor exit code."""

from __future__ import annotations

import os
import sys

from wherry.cli.create_flags import CREATE_FLAGS
from wherry.cli.exits import NOT_RUN, run_exit_code
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.cli.verbs.create import create_container, explained, parsed_body
from wherry.client.faults import Unreachable
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.http import Response

    Object = dict[str, Any]


def _run(session: Session, options: Options, arguments: list[str]) -> int:
    body = parsed_body(session, options, arguments)
    detach = options.on("detach")
    _settle_streams(session, options, body, detach)
    try:
        identifier = create_container(session, options, body)
        if detach:
            return _run_detached(session, identifier)
        return _run_attached(session, options, body, identifier)
    except Unreachable as error:
        raise explained(session.path, str(error), NOT_RUN) from None
    except WherryError as error:
        what = f"Error response from daemon: {error}"
        raise explained(session.path, what, run_exit_code(error.message)) from None
    except Failure as failure:
        if failure.text.startswith("wherry: "):
            raise
        raise explained(session.path, failure.text, run_exit_code(failure.text)) from None


def _settle_streams(session: Session, options: Options, body: Object, detach: bool) -> None:
    if detach:
        if options.given("attach"):
            what = "conflicting options: cannot specify both --attach and --detach"
            raise Failure(what)
        body["AttachStdin"] = body["AttachStdout"] = body["AttachStderr"] = False
        body["StdinOnce"] = False
    elif body["AttachStdin"] and body["Tty"] and not os.isatty(0):
        raise Failure("the input device is not a TTY")
    if os.isatty(1):
        from wherry.cli.terminal import size

        body["HostConfig"]["ConsoleSize"] = list(size())


def _run_detached(session: Session, identifier: str) -> int:
    session.engine.call("POST", f"/containers/{identifier}/start")
    session.line(identifier)
    return 0


def _run_attached(session: Session, options: Options, body: Object, identifier: str) -> int:
    from wherry.cli.attachment import Attachment
    from wherry.cli.signals import Handlers

    tty: bool = body["Tty"]
    attachment = Attachment(
        session,
        identifier,
        tty=tty,
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        keys=session.detach_keys(options),
    )
    condition = "removed" if options.on("rm") else "next-exit"
    with Handlers(session) as handlers:
        if options.on("sig-proxy") and not tty:
            handlers.proxy_to(identifier)
        attachment.open()
        waiting = session.another_engine()
        wait = waiting.open("POST", f"/containers/{identifier}/wait", {"condition": condition})
        try:
            session.engine.call("POST", f"/containers/{identifier}/start")
        except WherryError:
            attachment.close()
            if options.on("rm"):
                exit_status(wait)
            raise
        if not attachment.run(handlers):
            return 0
        return exit_status(wait)


def exit_status(wait: Response) -> int:
    """Return the exit code that the answer to `/wait` ends with. Raises Failure (125)."""
    from wherry.client import wire

    answer: Object = wire.decode(wait.read())
    error: Object | None = answer.get("Error")
    if error and error.get("Message"):
        sys.stderr.write(f"Error waiting for container: {error['Message']}\n")
        return NOT_RUN
    return answer["StatusCode"]


RUN = Command(
    _run,
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    (
        Flag(
            "detach",
            "bool",
            "Run in background and print the container's ID",
            short="d",
            section="Common",
        ),
        Flag(
            "sig-proxy",
            "bool",
            "Proxy received signals to the process",
            default=True,
            section="Process",
        ),
        Flag("detach-keys", "string", "Override the key sequence for detaching", section="Process"),
        *CREATE_FLAGS,
    ),
    least=1,
    interspersed=False,
)
