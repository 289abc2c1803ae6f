"""What wherryd asks of the supervisor and is told by it, as frozen facts with their wire forms.

A wire form is a JSON object; bytes travel as base64. Everything is checked when read: a message of the
wrong shape raises Invalid, and whoever sent it loses its connection.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from wherry.model import errors, oci
from wherry.model.errors import Invalid, WherryError
from wherry.model.wiring import Way, Wiring
from wherry.runtime import wire as codec
from wherry.runtime.plan import Plan

Wire = dict[str, Any]

NO_LOG = "none"
DRIVERS = ("json-file", "local", NO_LOG)
DETACH_DEFAULT = b"\x10\x11"
"""ctrl-p, ctrl-q."""


class Fields:
    """Checked access to a decoded JSON object."""

    def __init__(self, wire: object) -> None:
        if not isinstance(wire, dict):
            raise Invalid(f"malformed message: {str(wire)[:80]!r} is not an object")
        self.wire: Wire = wire

    def _get(self, name: str, kind: type) -> Any:
        value = self.wire.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Invalid(f"malformed message: {name} is {value!r:.80}")
        return value

    def text(self, name: str) -> str:
        """Return the string called `name`."""
        return self._get(name, str)

    def key(self, name: str) -> str:
        """Return a name that may become a file name and a word of the keeper's protocol."""
        text = self.text(name)
        if not text or len(text) > 128 or not text.replace("-", "").replace("_", "").isalnum():
            raise Invalid(f"malformed message: {name} is {text[:80]!r}")
        return text

    def number(self, name: str) -> int:
        """Return the integer called `name`."""
        return self._get(name, int)

    def flag(self, name: str) -> bool:
        """Return the boolean called `name`."""
        return self._get(name, bool)

    def data(self, name: str) -> bytes:
        """Return the bytes called `name`."""
        try:
            return binascii.a2b_base64(self.text(name))
        except ValueError as error:
            raise Invalid(f"malformed message: {name} is not base64") from error

    def table(self, name: str) -> Wire:
        """Return the object called `name`."""
        return self._get(name, dict)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the list of strings called `name`."""
        values = self._get(name, list)
        if not all(isinstance(value, str) for value in values):
            raise Invalid(f"malformed message: {name} is {values!r:.80}")
        return tuple(values)


def pack(data: bytes) -> str:
    """Return base64 text of `data`."""
    return binascii.b2a_base64(data, newline=False).decode()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where output goes: `directory` is the container's logs folder; sizes in bytes, 0 for no cap."""

    driver: str
    directory: str
    max_size: int = 10 << 20
    max_files: int = 10

    def to_wire(self) -> Wire:
        """Return the wire form."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_wire(cls, wire: object) -> LogSettings:
        """Return the settings; raise Invalid."""
        f = Fields(wire)
        driver = f.text("driver")
        if driver not in DRIVERS:
            raise Invalid(f"unknown log driver: {driver!r}")
        sizes = max(0, f.number("max_size")), max(1, f.number("max_files"))
        return cls(driver, f.text("directory"), *sizes)


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the process of container `id`; rows and columns 0 leave the terminal's size alone.

    `wiring` is what its network namespace gets before that, `held` names the volumes whose mounts are
    sent along, in order.
    """

    id: str
    plan: Plan
    tty: bool
    open_stdin: bool
    stdin_once: bool
    log: LogSettings
    rows: int = 0
    columns: int = 0
    wiring: Wiring = Wiring()
    joins: tuple[tuple[str, int], ...] = ()
    """The containers whose namespaces the plan names by pid: a pid alone may be another's by now."""
    held: tuple[str, ...] = ()
    keep_root: bool = False
    """Whether the answer is to bear a descriptor of the root's mount."""

    def to_wire(self) -> Wire:
        """Return the wire form."""
        wire: Wire = {f.name: getattr(self, f.name) for f in fields(self)}
        return wire | {
            "plan": self.plan.to_wire(),
            "log": self.log.to_wire(),
            "wiring": codec.encode(self.wiring),
            "joins": dict(self.joins),
        }

    @classmethod
    def from_wire(cls, wire: object) -> Launch:
        """Return the request; raise Invalid."""
        f = Fields(wire)
        return cls(
            id=f.key("id"),
            plan=Plan.from_wire(f.table("plan")),
            tty=f.flag("tty"),
            open_stdin=f.flag("open_stdin"),
            stdin_once=f.flag("stdin_once"),
            log=LogSettings.from_wire(f.table("log")),
            rows=f.number("rows"),
            columns=f.number("columns"),
            wiring=wiring_from_wire(f.table("wiring")),
            joins=_joins(f),
            held=f.texts("held") if "held" in f.wire else (),
            keep_root=f.wire.get("keep_root") is True,
        )


def _joins(f: Fields) -> tuple[tuple[str, int], ...]:
    table = Fields(f.table("joins")) if "joins" in f.wire else None
    return () if table is None else tuple((key, table.number(key)) for key in table.wire)


def wiring_from_wire(wire: Wire) -> Wiring:
    """Return the wiring; raise Invalid."""
    wiring = codec.decode(wire)
    if not isinstance(wiring, Wiring):
        raise Invalid(f"malformed message: wiring is {wiring!r:.80}")
    return wiring


def ways_to_wire(ways: Sequence[tuple[str, Way]]) -> Wire:
    """Return the wire form of default routes, (interface, way) each."""
    return {"ways": [[interface, way.to, way.via] for interface, way in ways]}


def ways_from_wire(wire: Wire) -> list[tuple[str, Way]]:
    """Return the default routes; raise Invalid."""
    found: list[tuple[str, Way]] = []
    for item in wire.get("ways") or ():
        match item:
            case [str(interface), str(to), str(via)]:
                found.append((interface, Way(to, via)))
            case _:
                raise Invalid(f"malformed message: a way is {item!r:.80}")
    return found


@dataclass(frozen=True, slots=True)
class ExecLaunch:
    """Start `process` inside a running container; the flags say which streams the client has."""

    exec_id: str
    container_id: str
    process: oci.Process
    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool
    rows: int = 0
    columns: int = 0
    detach_keys: bytes = DETACH_DEFAULT

    def to_wire(self) -> Wire:
        """Return the wire form."""
        wire: Wire = {f.name: getattr(self, f.name) for f in fields(self)}
        process = codec.encode(self.process)
        return wire | {"process": process, "detach_keys": pack(self.detach_keys)}

    @classmethod
    def from_wire(cls, wire: object) -> ExecLaunch:
        """Return the request; raise Invalid."""
        f = Fields(wire)
        process = codec.decode(f.table("process"))
        if not isinstance(process, oci.Process):
            raise Invalid(f"malformed message: process is {process!r:.80}")
        return cls(
            exec_id=f.key("exec_id"),
            container_id=f.key("container_id"),
            process=process,
            tty=f.flag("tty"),
            stdin=f.flag("stdin"),
            stdout=f.flag("stdout"),
            stderr=f.flag("stderr"),
            rows=f.number("rows"),
            columns=f.number("columns"),
            detach_keys=f.data("detach_keys"),
        )


@dataclass(frozen=True, slots=True)
class Attachment:
    """What an attached client wants: `logs` replays what is kept, `stream` goes on live."""

    stdin: bool
    stdout: bool
    stderr: bool
    logs: bool = False
    stream: bool = True
    multiplexed: bool = True
    detach_keys: bytes = DETACH_DEFAULT
    """Empty: no detach keys."""

    def to_wire(self) -> Wire:
        """Return the wire form."""
        wire: Wire = {f.name: getattr(self, f.name) for f in fields(self)}
        return wire | {"detach_keys": pack(self.detach_keys)}

    @classmethod
    def from_wire(cls, wire: object) -> Attachment:
        """Return the request; raise Invalid."""
        f = Fields(wire)
        names = ("stdin", "stdout", "stderr", "logs", "stream", "multiplexed")
        return cls(*map(f.flag, names), detach_keys=f.data("detach_keys"))


@dataclass(frozen=True, slots=True)
class Started:
    """A process runs: its pid on the host, and when it was started (ns since the epoch).

    `descriptors` are the name service's (udp, tcp, pidfd) where the wiring wanted one, `root` is the root's
    mount where that was asked for, else -1; whoever has the answer owns them.
    """

    pid: int
    started_at: int
    descriptors: tuple[int, ...] = ()
    root: int = -1

    @classmethod
    def from_wire(cls, wire: object, descriptors: tuple[int, ...] = ()) -> Started:
        """Return the answer; raise Invalid."""
        f = Fields(wire)
        root = -1
        if f.wire.get("root") is True and descriptors:
            *others, root = descriptors
            descriptors = tuple(others)
        return cls(f.number("pid"), f.number("started_at"), descriptors, root)


@dataclass(frozen=True, slots=True)
class Exit:
    """A process has ended: Docker's code (128+n for a signal), nanoseconds since the epoch."""

    key: str
    code: int
    at: int
    oom_killed: bool
    reason: str = ""
    """Why it was killed, where the engine did it."""

    def to_wire(self) -> Wire:
        """Return the wire form."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_wire(cls, wire: object) -> Exit:
        """Return the event; raise Invalid."""
        f = Fields(wire)
        reason = f.text("reason") if "reason" in f.wire else ""
        return cls(f.text("key"), f.number("code"), f.number("at"), f.flag("oom_killed"), reason)


@dataclass(frozen=True, slots=True)
class Survivor:
    """A process that the supervisor has: running, or exited and not forgotten.

    `container_id` is empty for a container's own process, else the container that an exec runs in.
    """

    key: str
    pid: int
    started_at: int
    container_id: str
    exit: Exit | None

    def to_wire(self) -> Wire:
        """Return the wire form."""
        wire: Wire = {f.name: getattr(self, f.name) for f in fields(self)}
        return wire | {"exit": self.exit.to_wire() if self.exit else None}

    @classmethod
    def from_wire(cls, wire: object) -> Survivor:
        """Return the fact; raise Invalid."""
        f = Fields(wire)
        outcome = f.wire.get("exit")
        return cls(
            f.text("key"),
            f.number("pid"),
            f.number("started_at"),
            f.text("container_id"),
            None if outcome is None else Exit.from_wire(outcome),
        )


_EXTRA = ("exit_code", "step", "errno", "noun", "name")
_BY_NAME = {kind.__name__: kind for kind in errors.KINDS}


def error_to_wire(error: WherryError) -> Wire:
    """Return the wire form of an error."""
    wire: Wire = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    return wire | {name: getattr(error, name) for name in _EXTRA if hasattr(error, name)}


def error_from_wire(wire: object) -> WherryError:
    """Return the error that was raised over there; Internal for a kind that is not known here."""
    f = Fields(wire)
    kind = _BY_NAME.get(f.text("kind"), errors.Internal)
    if kind is errors.NotFound:
        return errors.NotFound(f.text("noun"), f.text("name"), hint=f.text("hint"))
    extra = {name: f.wire[name] for name in ("exit_code", "step", "errno") if name in f.wire}
    return kind(f.text("message"), hint=f.text("hint"), **extra)
