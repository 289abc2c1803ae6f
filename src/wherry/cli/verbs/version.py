"""`wherry version`."""

from __future__ import annotations

import os
import sys

from wherry import __version__
from wherry.cli.endpoint import context_name
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.client.engine import API_VERSION, api_version
from wherry.client.wire import many, one
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def _client(session: Session) -> Object:
    machine = os.uname().machine
    return {
        "Version": __version__,
        "ApiVersion": api_version(),
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": sys.version.split(" ", 1)[0],
        "Os": "linux",
        "Arch": _MACHINES.get(machine, machine),
        "Context": context_name(session.options) or "default",
    }


def _version(session: Session, options: Options, _arguments: list[str]) -> int:
    client = _client(session)
    server: Object | None = None
    problem: WherryError | None = None
    try:
        server = session.engine.get("/version")
    except WherryError as error:
        problem = error
    form = options.text("format")
    if form:
        from wherry.cli.listing import show_value

        parts: Object = {"Client": client, "Server": server}
        if form != "json":
            parts = {name: _named(part) for name, part in parts.items()}
        session.write(show_value(parts, form, kind="system.versionInfo", name="version"))
    else:
        session.write(_text(session, client, server))
    if problem is not None:
        raise problem
    return 0


def _named(part: Object | None) -> Object | None:
    """Return `part` with the name that templates know beside the one that JSON has: docker's own
    templates read a Go field, `APIVersion`, whose JSON name is `ApiVersion`."""
    return part and {**part, "APIVersion": part.get("ApiVersion", "")}


def _text(session: Session, client: Object, server: Object | None) -> str:
    style = session.style()
    spoken = client["ApiVersion"]
    if spoken != API_VERSION:
        spoken = f"{spoken} (downgraded from {API_VERSION})"
    lines = [style("1", "Client:")]
    lines += _pairs(
        1,
        18,
        ("Version", client["Version"]),
        ("API version", spoken),
        ("Python version", client["PythonVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
        ("Context", client["Context"]),
    )
    if server is not None:
        platform = one(server, "Platform").get("Name") or ""
        lines += ["", style("1", f"Server: {platform}".rstrip())]
        for component in many(server, "Components"):
            lines += _component(component)
    return "\n".join(lines) + "\n"


def _component(component: Object) -> list[str]:
    details: dict[str, str] = one(component, "Details")
    lines = [f" {component['Name']}:"]
    pairs = [("Version", component["Version"])]
    if component["Name"] == "Engine":
        least = details.get("MinAPIVersion", "")
        pairs.append(("API version", f"{details.get('ApiVersion', '')} (minimum version {least})"))
        names = {
            "GoVersion": "Go version",
            "PythonVersion": "Python version",
            "GitCommit": "Git commit",
            "BuildTime": "Built",
        }
        pairs += [(title, details[key]) for key, title in names.items() if details.get(key)]
        pairs.append(("OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"))
        pairs.append(("Experimental", details.get("Experimental", "false")))
    else:
        pairs += [(key, details[key]) for key in sorted(details) if details[key]]
    return lines + _pairs(2, 17, *pairs)


def _pairs(indent: int, width: int, *pairs: tuple[str, str]) -> list[str]:
    return [f"{' ' * indent}{name + ':':<{width}} {value}" for name, value in pairs]


VERSION = Command(
    _version,
    "[OPTIONS]",
    "Show the wherry version information",
    (Flag("format", "string", "Format output: 'json' or a Go template", short="f"),),
    most=0,
)
