"""What is to be known of one container: top, port, diff."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Options
from wherry.cli.session import Session
from wherry.client.engine import segment
from wherry.client.wire import one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_KINDS = "CAD"


def _top(session: Session, _options: Options, arguments: list[str]) -> int:
    query = {"ps_args": " ".join(arguments[1:])} if arguments[1:] else {}
    answer: Object = session.engine.get(f"/containers/{segment(arguments[0])}/top", query)
    session.line(_processes([answer["Titles"], *(answer["Processes"] or [])]))
    return 0


def _processes(lines: list[list[str]]) -> str:
    """Docker's client sets these columns at least 20 wide, with a padding of 3."""
    count = max(len(line) for line in lines)
    widths = [
        max(20, *(len(line[i]) + 3 for line in lines if i < len(line) - 1))
        for i in range(count - 1)
    ]
    return "\n".join(
        "".join(cell.ljust(widths[i]) if i < len(line) - 1 else cell for i, cell in enumerate(line))
        for line in lines
    )


def _port(session: Session, _options: Options, arguments: list[str]) -> int:
    answer: Object = session.engine.get(f"/containers/{segment(arguments[0])}/json")
    ports: dict[str, list[dict[str, str]] | None] = one(answer["NetworkSettings"], "Ports")
    if len(arguments) == 1:
        for line in sorted(
            f"{port} -> {_address(binding)}"
            for port, found in ports.items()
            for binding in found or []
        ):
            session.line(line)
        return 0
    port = arguments[1]
    number, _, protocol = port.partition("/")
    if not number.isdecimal() or int(number) > 65535:
        raise Failure(f"Error: invalid port ({port})")
    wanted = f"{number}/{protocol or 'tcp'}"
    found = ports.get(wanted)
    if not found:
        raise Failure(f"Error: No public port '{port}' published for {arguments[0]}")
    for line in sorted(_address(binding) for binding in found):
        session.line(line)
    return 0


def _address(binding: dict[str, str]) -> str:
    host = binding["HostIp"]
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"


def _diff(session: Session, _options: Options, arguments: list[str]) -> int:
    name = arguments[0]
    if not name:
        raise Failure("Container name cannot be empty")
    changes: list[Object] = session.engine.get(f"/containers/{segment(name)}/changes") or []
    style = session.style()
    colours = {"C": "33", "A": "32", "D": "31"}
    for change in changes:
        kind = _KINDS[change["Kind"]]
        session.line(f"{style(colours[kind], kind)} {change['Path']}")
    return 0


TOP = Command(
    _top,
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    least=1,
    interspersed=False,
)
PORT = Command(
    _port,
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    least=1,
    most=2,
)
DIFF = Command(
    _diff,
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    least=1,
    most=1,
)
