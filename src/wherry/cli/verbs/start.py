"""`wherry start`."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.cli.start import describe
from wherry.client.engine import segment
from wherry.client.wire import one
from wherry.model.errors import WherryError


def _start(session: Session, options: Options, arguments: list[str]) -> int:
    if options.text("checkpoint") or options.text("checkpoint-dir"):
        raise Failure("checkpoints are not in this version of wherry")
    if options.on("attach") or options.on("interactive"):
        if len(arguments) > 1:
            raise Failure("you cannot start and attach multiple containers at once")
        return _start_attached(session, options, arguments[0])
    failed: list[str] = []
    for name in arguments:
        try:
            session.engine.call("POST", f"/containers/{segment(name)}/start")
            session.line(name)
        except WherryError as error:
            session.error(describe(error))
            failed.append(name)
    if failed:
        session.error(f"Error: failed to start containers: {', '.join(failed)}")
        return 1
    return 0


def _start_attached(session: Session, options: Options, name: str) -> int:
    from wherry.cli.attachment import Attachment
    from wherry.cli.signals import Handlers
    from wherry.cli.verbs.run import exit_status

    facts = session.engine.get(f"/containers/{segment(name)}/json")
    identifier: str = facts["Id"]
    config = facts["Config"]
    attachment = Attachment(
        session,
        identifier,
        tty=config["Tty"],
        stdin=options.on("interactive") and bool(config.get("OpenStdin")),
        keys=session.detach_keys(options),
    )
    removed = bool(one(facts, "HostConfig").get("AutoRemove"))
    with Handlers(session) as handlers:
        if options.on("sig-proxy") and not config["Tty"]:
            handlers.proxy_to(identifier)
        attachment.open()
        waiting = session.another_engine()
        condition = "removed" if removed else "next-exit"
        wait = waiting.open("POST", f"/containers/{identifier}/wait", {"condition": condition})
        try:
            session.engine.call("POST", f"/containers/{identifier}/start")
        except WherryError as error:
            attachment.close()
            raise Failure(f"{describe(error)}\nError: failed to start containers: {name}") from None
        if not attachment.run(handlers):
            return 0
        return exit_status(wait)


START = Command(
    _start,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    (
        Flag("attach", "bool", "Attach STDOUT/STDERR and forward signals", short="a"),
        Flag("checkpoint", "string", "Restore from this checkpoint", hidden=True),
        Flag("checkpoint-dir", "string", "Use a custom checkpoint storage directory", hidden=True),
        Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
        Flag("interactive", "bool", "Attach container's STDIN", short="i"),
        Flag(
            "sig-proxy", "bool", "Proxy received signals to the process", default=True, hidden=True
        ),
    ),
    least=1,
)
