"""`wherry attach`."""

from __future__ import annotations

import os

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.client.engine import segment


def _attach(session: Session, options: Options, arguments: list[str]) -> int:
    from wherry.cli.attachment import Attachment
    from wherry.cli.signals import Handlers
    from wherry.cli.verbs.run import exit_status

    name = segment(arguments[0])
    facts = session.engine.get(f"/containers/{name}/json")
    state, config = facts["State"], facts["Config"]
    if not state.get("Running"):
        raise Failure("You cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Failure("cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise Failure("cannot attach to a restarting container, wait until it is running")
    stdin = not options.on("no-stdin") and bool(config.get("OpenStdin"))
    if stdin and config["Tty"] and not os.isatty(0):
        raise Failure("the input device is not a TTY")
    identifier: str = facts["Id"]
    attachment = Attachment(
        session, identifier, tty=config["Tty"], stdin=stdin, keys=session.detach_keys(options)
    )
    with Handlers(session) as handlers:
        if options.on("sig-proxy") and not config["Tty"]:
            handlers.proxy_to(identifier)
        wait = session.another_engine().open("POST", f"/containers/{identifier}/wait")
        attachment.open()
        if config["Tty"] and os.isatty(1):
            # A size that does not change makes no program draw itself anew: send another first.
            handlers.resize(f"/containers/{identifier}/resize", more=1)
        if not attachment.run(handlers):
            raise Failure("read escape sequence")
        return exit_status(wait)


ATTACH = Command(
    _attach,
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    (
        Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
        Flag("no-stdin", "bool", "Do not attach STDIN"),
        Flag("sig-proxy", "bool", "Proxy all received signals to the process", default=True),
    ),
    least=1,
    most=1,
)
