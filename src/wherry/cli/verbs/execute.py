"""`wherry exec`."""

from __future__ import annotations

import os

from wherry.cli.body import environment
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.client.engine import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


def _exec(session: Session, options: Options, arguments: list[str]) -> int:
    detach, tty = options.on("detach"), options.on("tty")
    stdin = options.on("interactive") and not detach
    try:
        env = environment(options)
    except Failure as failure:
        raise Failure(failure.text) from None
    if stdin and tty and not os.isatty(0):
        raise Failure("the input device is not a TTY")
    body: Object = {
        "User": options.text("user"),
        "Privileged": options.on("privileged"),
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStderr": not detach,
        "AttachStdout": not detach,
        "Detach": detach,
        "DetachKeys": session.detach_keys(options),
        "Env": env,
        "WorkingDir": options.text("workdir"),
        "Cmd": arguments[1:],
    }
    start: Object = {"Detach": detach, "Tty": tty}
    if tty and not detach and os.isatty(1):
        from wherry.cli.terminal import size

        body["ConsoleSize"] = start["ConsoleSize"] = list(size())
    path = f"/containers/{segment(arguments[0])}/exec"
    identifier: str = session.engine.call("POST", path, None, body)["Id"]
    if detach:
        session.engine.call("POST", f"/exec/{identifier}/start", None, start)
        return 0
    if not _attached(session, options, identifier, start, stdin):
        raise Failure("read escape sequence")
    facts: Object = session.engine.get(f"/exec/{identifier}/json")
    return facts.get("ExitCode") or 0


def _attached(
    session: Session, options: Options, identifier: str, start: Object, stdin: bool
) -> bool:
    from wherry.cli.attachment import carry, keep_size
    from wherry.cli.signals import Handlers
    from wherry.cli.terminal import DEFAULT_KEYS, parse_keys

    tty: bool = start["Tty"]
    text = session.detach_keys(options)
    keys = parse_keys(text) if text else DEFAULT_KEYS
    with Handlers(session) as handlers:
        sock, rest, media = session.engine.hijack(f"/exec/{identifier}/start", None, start)
        if tty and os.isatty(1):
            keep_size(handlers, f"/exec/{identifier}/resize")
        return carry(sock, rest, media, tty=tty, stdin=stdin, keys=keys)


EXEC = Command(
    _exec,
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    (
        Flag("detach", "bool", "Detached mode: run command in the background", short="d"),
        Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
        Flag("env", "env", "Set environment variables", short="e", many=True),
        Flag("env-file", "string", "Read in a file of environment variables", many=True),
        Flag("interactive", "bool", "Keep STDIN open even if not attached", short="i"),
        Flag("privileged", "bool", "Give extended privileges to the command"),
        Flag("tty", "bool", "Allocate a pseudo-TTY", short="t"),
        Flag("user", "string", "Username or UID (<name|uid>[:<group|gid>])", short="u"),
        Flag("workdir", "string", "Working directory inside the container", short="w"),
    ),
    least=2,
    interspersed=False,
)
