"""Starting wherryd for a command that found none."""

from __future__ import annotations

import os
import sys
import time

from wherry.cli.failure import Failure
from wherry.client.engine import Engine
from wherry.client.faults import Unreachable
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.address import Address

DEADLINE = 60.0
_LOG_NAME = "wherryd.log"


def _find(name: str) -> str:
    """Return the path of a program: beside this one, beside the interpreter, on PATH, or empty."""
    places = [os.path.dirname(os.path.abspath(sys.argv[0])), os.path.dirname(sys.executable)]
    for place in [*places, *os.environ.get("PATH", "").split(":")]:
        path = os.path.join(place or ".", name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def find_program(name: str) -> str:
    """Return the path of a program of wherry's. Raises Failure."""
    path = _find(name)
    if not path:
        raise Failure(f"{name} was found neither beside wherry nor on PATH")
    return path


def find_daemon() -> str:
    """Return the path of wherryd. Raises Failure."""
    path = _find("wherryd")
    if not path:
        raise Failure(
            "the engine is not running, and wherryd was found neither beside wherry nor on PATH\n"
            "Start it by hand, or name another engine with -H or WHERRY_HOST."
        )
    return path


def start_daemon(address: Address) -> None:
    """Start wherryd, detached, and return when it answers at `address`. Raises Failure."""
    program = find_daemon()
    # Beside the socket: /run/wherry.sock has its engine's folder in /run/wherry.
    directory = address.path.removesuffix(".sock")
    os.makedirs(directory, mode=0o711, exist_ok=True)
    log = os.path.join(directory, _LOG_NAME)
    before = os.path.getsize(log) if os.path.exists(log) else 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    child = os.posix_spawn(
        program,
        [program, "-H", str(address)],
        {k: v for k, v in os.environ.items() if k not in ("DOCKER_HOST", "WHERRY_HOST")},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    _wait(Engine(address), child, program, log, before)


def _wait(engine: Engine, child: int, program: str, log: str, before: int) -> None:
    end = time.monotonic() + DEADLINE
    pause = 0.005
    ended = False
    while True:
        try:
            engine.ping()
        except Unreachable:
            pass
        except WherryError as error:
            raise Failure(f"{program} answers, but not as an engine: {error}") from None
        else:
            engine.close()
            return
        if not ended and os.waitpid(child, os.WNOHANG)[0] == child:
            # Another command may have been first: its wherryd gets a moment to answer.
            ended = True
            end = min(end, time.monotonic() + 1.0)
        if time.monotonic() > end:
            break
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    what = "ended at once" if ended else f"did not answer within {DEADLINE:.0f} s"
    raise Failure(
        f"started {program}, but it {what} at {engine.address}\n{_tail(log, before)}"
        f"Its log is {log}; run {program} by hand to see why."
    )


def _tail(log: str, start: int) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(start)
            lines = file.read(1 << 16).decode("utf-8", "replace").splitlines()[-5:]
    except OSError:
        return ""
    return "".join(f"  {line}\n" for line in lines)
