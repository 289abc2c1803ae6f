"""`POST /containers/create`: what `run` and `create` send, field for field as Docker's client does."""

from __future__ import annotations

from wherry.cli.create_flags import ALIASES, WINDOWS_ONLY
from wherry.cli.failure import Failure
from wherry.cli.files import pairs_to_map, read_pairs
from wherry.cli.hostconfig import host_config
from wherry.cli.ports import exposed_ports, published_ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.flags import Options

    Object = dict[str, Any]


def create_body(options: Options, image: str, arguments: list[str]) -> Object:
    """Return the request's body. Raises Failure: 125 for what contradicts itself."""
    _fold_aliases(options)
    from wherry.cli.networks import network_config

    volumes: Object = {}
    binds: list[str] = []
    if options.given("volume"):
        from wherry.cli.mounts import split_volumes

        binds, volumes = split_volumes(options.all("volume"))
    exposed, bindings = published_ports(options.all("publish"))
    for port in exposed_ports(options.all("expose")):
        exposed[port] = {}
    mode, endpoints = network_config(options)
    body = _config(options, image, arguments, volumes)
    if exposed:
        body["ExposedPorts"] = exposed
    body["HostConfig"] = host_config(options, binds, bindings, mode)
    body["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return body


def _fold_aliases(options: Options) -> None:
    for name in WINDOWS_ONLY:
        if options.given(name):
            raise Failure(
                f'"--{name}" is only supported on a Docker daemon running on windows, '
                "but the Docker daemon is running on linux"
            )
    for alias, name in ALIASES.items():
        if options.given(alias):
            options.values.setdefault(name, []).extend(options.values.pop(alias))


def _config(options: Options, image: str, arguments: list[str], volumes: Object) -> Object:
    attached: list[str] = options.all("attach")
    interactive = options.on("interactive")
    stdin = "stdin" in attached or interactive
    body: Object = {
        "Hostname": options.text("hostname"),
        "Domainname": options.text("domainname"),
        "User": options.text("user"),
        "AttachStdin": stdin,
        "AttachStdout": not attached or "stdout" in attached,
        "AttachStderr": not attached or "stderr" in attached,
        "Tty": options.on("tty"),
        "OpenStdin": interactive,
        "StdinOnce": interactive and stdin,
        "Env": environment(options),
        "Cmd": arguments or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": options.text("workdir"),
        "Entrypoint": [options.text("entrypoint")] if options.given("entrypoint") else None,
        "OnBuild": None,
        "Labels": _labels(options),
    }
    health = _health(options)
    if health is not None:
        body["Healthcheck"] = health
    if options.text("stop-signal"):
        body["StopSignal"] = options.text("stop-signal")
    if options.given("stop-timeout"):
        body["StopTimeout"] = options.number("stop-timeout")
    return body


def environment(options: Options) -> list[str] | None:
    """Return the Env of `--env-file` and `-e`, the files first, or None. Raises Failure (125)."""
    out: list[str] = []
    for path in options.all("env-file"):
        out += read_pairs(path, from_environment=True)
    by_name: dict[str, str] = {}
    for entry in options.all("env"):
        by_name[entry.partition("=")[0]] = entry
    out += by_name.values()
    return out or None


def _labels(options: Options) -> dict[str, str]:
    pairs: list[str] = []
    for path in options.all("label-file"):
        pairs += read_pairs(path, from_environment=False)
    return pairs_to_map(pairs + options.all("label"))


def _health(options: Options) -> Object | None:
    command = options.text("health-cmd")
    numbers = {
        "Interval": "health-interval",
        "Timeout": "health-timeout",
        "StartPeriod": "health-start-period",
        "StartInterval": "health-start-interval",
        "Retries": "health-retries",
    }
    given = command or any(options.number(flag) for flag in numbers.values())
    if options.on("no-healthcheck"):
        if given:
            raise Failure("--no-healthcheck conflicts with --health-* options", 125)
        return {"Test": ["NONE"]}
    if not given:
        return None
    health: Object = {"Test": ["CMD-SHELL", command]} if command else {}
    for key, flag in numbers.items():
        value = options.number(flag)
        if value < 0:
            raise Failure(f"--{flag} cannot be negative", 125)
        if value:
            health[key] = value
    return health
