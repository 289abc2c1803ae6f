"""docker top: the host's ps(1), filtered to a container's processes as Docker does."""

from __future__ import annotations

import asyncio
import pwd
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from wherry.containers.events import Recorder, container_event
from wherry.containers.start import parse_map
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import check_running
from wherry.model.containers import Container
from wherry.model.errors import Invalid, Unavailable
from wherry.model.oci import IdMap

DEFAULT_ARGS = "-ef"
# -ef with the users as numbers, and those not cut off.
_FULL = "-e -o uid:12=UID -o pid,ppid,c,stime,tname,time,cmd"
_SECONDS = 20.0


class Groups(Protocol):
    """What is asked of the containers' cgroups."""

    def pids(self, container: Container) -> list[int]: ...


class Top:
    """Lists processes."""

    def __init__(self, *, store: ContainerStore, groups: Groups, events: Recorder) -> None:
        self._store = store
        self._groups = groups
        self._events = events

    async def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]:
        """Return titles and rows. Raises Conflict where the container does not run, Invalid for bad arguments."""
        container = self._store.resolve(ref)
        check_running(container)
        pids = await asyncio.to_thread(self._groups.pids, container)
        found = await self._read(container, ps_args, pids)
        self._events.record(container_event(container, "top"))
        return found

    async def _read(
        self, container: Container, ps_args: str, pids: list[int]
    ) -> tuple[list[str], list[list[str]]]:
        """Ask ps; in its usual form users are named as inside, not by the host's numbers."""
        if ps_args not in ("", DEFAULT_ARGS):
            return await read_processes(ps_args, pids)
        titles, rows = await read_processes(_FULL, pids)
        try:
            maps = parse_map(Path(f"/proc/{container.state.pid}/uid_map").read_text())
        except OSError:
            maps = ()  # it just ended
        return titles, [[_name(row[0], maps), *row[1:]] for row in rows]


def _name(number: str, maps: Iterable[IdMap]) -> str:
    """Return the user's name as ps tells it: this machine's name of the id that it has inside."""
    for line in maps:
        if number.isdecimal() and line.outside <= int(number) < line.outside + line.size:
            inside = line.inside + int(number) - line.outside
            try:
                return pwd.getpwuid(inside).pw_name
            except KeyError:
                return str(inside)
    return number


async def read_processes(ps_args: str, pids: list[int]) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows of ps(1) about `pids`. Raises Invalid for bad arguments, Unavailable.

    It is asked about these alone, for by itself it selects only what has the caller's terminal. Where
    the arguments select already it refuses -q, and they have to do.
    """
    try:
        words = shlex.split(ps_args or DEFAULT_ARGS)
    except ValueError as error:
        raise Invalid(f"ps: {error}") from None
    if any("\0" in word for word in words):
        raise Invalid("ps: an argument holds a zero byte")
    try:
        output = await _run_ps([*words, "-q", ",".join(map(str, pids))])
    except Invalid:
        output = await _run_ps(words)
    return parse_ps(output, pids)


async def _run_ps(words: list[str]) -> str:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError:
        raise Unavailable("ps is not installed here", hint="apt-get install procps") from None
    try:
        out, err = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"ps did not answer within {_SECONDS:.0f} seconds") from None
    if process.returncode:
        line = err.decode(errors="replace").strip().partition("\n")[0]
        # Some versions of ps say "error: " first, some no more than that.
        reason = line.removeprefix("error:").strip()
        raise Invalid(f"ps: error: {reason}" if reason else f"ps: exit status {process.returncode}")
    return out.decode(errors="replace")


def parse_ps(output: str, pids: Iterable[int]) -> tuple[list[str], list[list[str]]]:
    """Return the titles of ps's output and its rows about `pids`; the last column holds the rest of a line.

    Rows without a pid of their own (threads, where ps was asked for them) follow their process.
    Raises Invalid where there is no PID column.
    """
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise Invalid("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = frozenset(pids)
    rows: list[list[str]] = []
    kept = False
    for line in lines[1:]:
        words = line.split(None, len(titles) - 1)
        if len(words) <= column:
            continue
        if words[column] == "-":
            if kept:
                rows.append(words)
            continue
        kept = words[column].isdecimal() and int(words[column]) in wanted
        if kept:
            rows.append(words)
    return titles, rows
