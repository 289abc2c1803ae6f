"""Execs: the bodies of create and start, and inspect's answer."""

from __future__ import annotations

import msgspec

from wherry.api.wire.bodies import Int, Words
from wherry.api.wire.codec import decode, texts
from wherry.api.wire.create import parse_words
from wherry.model.containers import ExecSpec
from wherry.model.errors import Invalid
from wherry.model.views import ExecView


class _Create(msgspec.Struct):
    User: str | None = None
    Privileged: bool | None = None
    Tty: bool | None = None
    ConsoleSize: list[Int] | None = None
    AttachStdin: bool | None = None
    AttachStderr: bool | None = None
    AttachStdout: bool | None = None
    DetachKeys: str | None = None
    Env: list[str] | None = None
    WorkingDir: str | None = None
    Cmd: Words = None


class StartBody(msgspec.Struct):
    """POST /exec/{id}/start."""

    Detach: bool | None = None
    Tty: bool | None = None
    ConsoleSize: list[Int] | None = None


def console_size(size: list[int] | None, *, tty: bool) -> tuple[int, int]:
    """Return rows and columns, (0, 0) where not said. Raises Invalid."""
    if not size:
        return (0, 0)
    if len(size) != 2 or any(not 0 <= number < 65536 for number in size):
        raise Invalid("invalid ConsoleSize: two numbers are expected, height and width")
    if not tty and any(size):
        raise Invalid("console size is only supported when TTY is enabled")
    return (size[0], size[1])


def parse_exec(body: bytes, *, sized: bool = True) -> ExecSpec:
    """Return what POST /containers/{id}/exec asks for; not `sized` passes ConsoleSize over. Raises Invalid."""
    wanted = decode(_Create, body)
    argv = parse_words(wanted.Cmd)
    if not argv:
        raise Invalid("No exec command specified")
    tty = bool(wanted.Tty)
    return ExecSpec(
        argv=argv,
        env=texts(wanted.Env),
        working_dir=wanted.WorkingDir or "",
        user=wanted.User or "",
        tty=tty,
        attach_stdin=bool(wanted.AttachStdin),
        attach_stdout=bool(wanted.AttachStdout),
        attach_stderr=bool(wanted.AttachStderr),
        privileged=bool(wanted.Privileged),
        detach_keys=wanted.DetachKeys or "",
        console_size=console_size(wanted.ConsoleSize if sized else None, tty=tty),
    )


def parse_exec_start(body: bytes) -> StartBody:
    """Return how to start. Raises Invalid."""
    return decode(StartBody, body) if body.strip() else StartBody()


def render_exec(view: ExecView) -> dict[str, object]:
    """Return the answer to GET /exec/{id}/json."""
    spec = view.spec
    process: dict[str, object] = {
        "tty": spec.tty,
        "entrypoint": spec.argv[0],
        "arguments": list(spec.argv[1:]),
        "privileged": spec.privileged,
    }
    if spec.user:
        process["user"] = spec.user
    return {
        "ID": view.id,
        "Running": view.running,
        "ExitCode": view.exit_code,
        "ProcessConfig": process,
        "OpenStdin": spec.attach_stdin,
        "OpenStderr": spec.attach_stderr,
        "OpenStdout": spec.attach_stdout,
        "CanRemove": False,
        "ContainerID": view.container_id,
        "DetachKeys": spec.detach_keys,
        "Pid": view.pid,
    }
