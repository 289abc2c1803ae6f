"""`wherry info`."""

from __future__ import annotations

from wherry import __version__
from wherry.cli.endpoint import context_name
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.cli.start import describe
from wherry.cli.units import binary_size
from wherry.client.wire import many, one
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


def _info(session: Session, options: Options, _arguments: list[str]) -> int:
    client: Object = {
        "Debug": session.debug,
        "Version": __version__,
        "Context": context_name(session.options) or "default",
        "Plugins": [],
    }
    facts: Object = {}
    problem = ""
    try:
        facts = session.engine.get("/info")
    except WherryError as error:
        problem = describe(error)
    form = options.text("format")
    if form:
        from wherry.cli.listing import show_value

        extra: Object = {"ServerErrors": [problem]} if problem else {}
        session.write(
            show_value({**facts, **extra, "ClientInfo": client}, form, kind="system.dockerInfo")
        )
        return 1 if problem else 0
    style = session.style()
    lines = [style("1", "Client:"), f" Version:    {__version__}", " Context:    default"]
    lines += [f" Debug Mode: {_word(session.debug)}", "", style("1", "Server:")]
    session.line("\n".join(lines))
    if problem:
        session.error(f"ERROR: {problem}\nerrors pretty printing info")
        return 1
    session.line("\n".join(_server(facts)))
    session.line("")
    for warning in many(facts, "Warnings"):
        session.error(warning)
    return 0


def _word(value: object) -> str:
    return "true" if value else "false"


def _server(facts: Object) -> list[str]:
    lines = [f" Containers: {facts['Containers']}"]
    lines += [
        f"  {state}: {facts[f'Containers{state}']}" for state in ("Running", "Paused", "Stopped")
    ]
    lines.append(f" Images: {facts['Images']}")
    lines += _given(facts, ("Server Version", "ServerVersion"), ("Storage Driver", "Driver"))
    lines += [f"  {name}: {value}" for name, value in many(facts, "DriverStatus")]
    lines += _given(
        facts,
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    )
    plugins: dict[str, list[str] | None] = one(facts, "Plugins")
    lines.append(" Plugins:")
    lines += [
        f"  {kind}: {' '.join(plugins.get(kind) or [])}"
        for kind in ("Volume", "Network", "Authorization", "Log")
        if kind in ("Volume", "Network") or plugins.get(kind)
    ]
    if facts.get("CDISpecDirs"):
        lines += [" CDI spec directories:", *(f"  {folder}" for folder in facts["CDISpecDirs"])]
    lines.append(f" Swarm: {one(facts, 'Swarm').get('LocalNodeState', 'inactive')}")
    lines += _runtimes(facts)
    lines += _security(many(facts, "SecurityOptions"))
    lines += _machine(facts)
    return lines


def _given(facts: Object, *pairs: tuple[str, str]) -> list[str]:
    return [f" {title}: {facts[key]}" for title, key in pairs if facts.get(key)]


def _runtimes(facts: Object) -> list[str]:
    names = " ".join(sorted(one(facts, "Runtimes")))
    lines = [f" Runtimes: {names}", f" Default Runtime: {facts.get('DefaultRuntime', '')}"]
    lines.append(f" Init Binary: {facts.get('InitBinary', '')}")
    for title, key in (
        ("containerd", "ContainerdCommit"),
        ("runc", "RuncCommit"),
        ("init", "InitCommit"),
    ):
        lines.append(f" {title} version: {one(facts, key).get('ID', '')}")
    return lines


def _security(options: list[str]) -> list[str]:
    if not options:
        return []
    lines = [" Security Options:"]
    for option in options:
        pairs = [pair.partition("=") for pair in option.split(",")]
        for name, _, value in pairs:
            lines.append(f"  {value}" if name == "name" else f"   {name.capitalize()}: {value}")
    return lines


def _machine(facts: Object) -> list[str]:
    lines = _given(
        facts,
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    )
    lines.append(f" CPUs: {facts.get('NCPU', 0)}")
    lines.append(f" Total Memory: {binary_size(facts.get('MemTotal', 0))}")
    lines += _given(facts, ("Name", "Name"), ("ID", "ID"), ("Docker Root Dir", "DockerRootDir"))
    lines.append(f" Debug Mode: {_word(facts.get('Debug'))}")
    proxies = (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy"))
    lines += _given(facts, *proxies)
    if facts.get("Labels"):
        lines += [" Labels:", *(f"  {label}" for label in facts["Labels"])]
    lines.append(f" Experimental: {_word(facts.get('ExperimentalBuild'))}")
    registry: Object = one(facts, "RegistryConfig")
    insecure = many(registry, "InsecureRegistryCIDRs")
    if insecure:
        lines += [" Insecure Registries:", *(f"  {network}" for network in insecure)]
    lines.append(f" Live Restore Enabled: {_word(facts.get('LiveRestoreEnabled'))}")
    return lines


INFO = Command(
    _info,
    "[OPTIONS]",
    "Display system-wide information",
    (Flag("format", "string", "Format output: 'json' or a Go template", short="f"),),
    most=0,
)
