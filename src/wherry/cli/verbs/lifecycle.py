"""The verbs that change a container's state: stop, kill, restart, pause, rename, rm, wait."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.cli.start import describe
from wherry.client.engine import segment
from wherry.client.faults import Unreachable
from wherry.model.errors import NotFound, WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CONTAINERS = "CONTAINER [CONTAINER...]"


def for_each(session: Session, names: list[str], act: Callable[[str], str]) -> int:
    """Do `act` to each name, print what it returns, go on after a refusal; 1 when any failed."""
    code = 0
    for name in names:
        try:
            session.line(act(name))
        except Unreachable:
            raise
        except WherryError as error:
            session.error(describe(error))
            code = 1
    return code


def _posting(session: Session, verb: str, query: dict[str, str]) -> Callable[[str], str]:
    def act(name: str) -> str:
        session.engine.call("POST", f"/containers/{segment(name)}/{verb}", query)
        return name

    return act


def _stop(session: Session, options: Options, arguments: list[str]) -> int:
    return for_each(session, arguments, _posting(session, "stop", _stop_query(options)))


def _restart(session: Session, options: Options, arguments: list[str]) -> int:
    return for_each(session, arguments, _posting(session, "restart", _stop_query(options)))


def _stop_query(options: Options) -> dict[str, str]:
    query: dict[str, str] = {}
    if options.text("signal"):
        query["signal"] = options.text("signal")
    for flag in ("timeout", "time"):
        if options.given(flag):
            query["t"] = str(options.number(flag))
    return query


def _kill(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"signal": options.text("signal")} if options.text("signal") else {}
    return for_each(session, arguments, _posting(session, "kill", query))


def _pause(session: Session, _options: Options, arguments: list[str]) -> int:
    return for_each(session, arguments, _posting(session, "pause", {}))


def _unpause(session: Session, _options: Options, arguments: list[str]) -> int:
    return for_each(session, arguments, _posting(session, "unpause", {}))


def _rename(session: Session, _options: Options, arguments: list[str]) -> int:
    old, new = (name.strip() for name in arguments)
    if not old or not new:
        raise Failure("Error: Neither old nor new names may be empty")
    try:
        session.engine.call("POST", f"/containers/{segment(old)}/rename", {"name": new})
    except WherryError as error:
        raise Failure(f"{describe(error)}\nError: failed to rename container named {old}") from None
    return 0


def _remove(session: Session, options: Options, arguments: list[str]) -> int:
    names = {"v": "volumes", "link": "link", "force": "force"}
    query = {name: "1" for name, flag in names.items() if options.on(flag)}
    missing: list[str] = []

    def act(name: str) -> str:
        bare = name.strip("/")
        if not bare:
            raise Failure("Container name cannot be empty")
        try:
            session.engine.call("DELETE", f"/containers/{segment(bare)}", query)
        except NotFound as error:
            if not options.on("force"):
                raise
            # With --force a container that is not there is as good as removed.
            session.error(describe(error))
            missing.append(name)
        return name

    code = 0
    for name in arguments:
        try:
            done = act(name)
        except Unreachable:
            raise
        except WherryError as error:
            session.error(describe(error))
            code = 1
        else:
            if done not in missing:
                session.line(done)
    return code


def _wait(session: Session, _options: Options, arguments: list[str]) -> int:
    def act(name: str) -> str:
        answer = session.engine.call("POST", f"/containers/{segment(name)}/wait")
        return str(answer["StatusCode"])

    return for_each(session, arguments, act)


_SIGNAL = Flag("signal", "string", "Signal to send to the container", short="s")
_STOP_FLAGS = (
    _SIGNAL,
    Flag("timeout", "int", "Seconds to wait before killing the container", short="t"),
    Flag("time", "int", "Seconds to wait before killing the container", hidden=True),
)
STOP = Command(
    _stop, f"[OPTIONS] {_CONTAINERS}", "Stop one or more running containers", _STOP_FLAGS, least=1
)
RESTART = Command(
    _restart, f"[OPTIONS] {_CONTAINERS}", "Restart one or more containers", _STOP_FLAGS, least=1
)
KILL = Command(
    _kill, f"[OPTIONS] {_CONTAINERS}", "Kill one or more running containers", (_SIGNAL,), least=1
)
PAUSE = Command(_pause, _CONTAINERS, "Pause all processes within one or more containers", least=1)
UNPAUSE = Command(
    _unpause, _CONTAINERS, "Unpause all processes within one or more containers", least=1
)
RENAME = Command(_rename, "CONTAINER NEW_NAME", "Rename a container", least=2, most=2)
REMOVE = Command(
    _remove,
    f"[OPTIONS] {_CONTAINERS}",
    "Remove one or more containers",
    (
        Flag("force", "bool", "Force the removal of a running container (uses SIGKILL)", short="f"),
        Flag("link", "bool", "Remove the specified link", short="l"),
        Flag(
            "volumes", "bool", "Remove anonymous volumes associated with the container", short="v"
        ),
    ),
    least=1,
)
WAIT = Command(
    _wait,
    _CONTAINERS,
    "Block until one or more containers stop, then print their exit codes",
    least=1,
)
