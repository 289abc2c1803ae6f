"""The entries of repeatable flags: labels, devices, limits, hosts, one parser a kind.

As in `figures`: text in, value out, ValueError with the words of Docker's client.
"""

from __future__ import annotations

import os

from wherry.cli.figures import integer, size, unsigned64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
    *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)
_SYSCTLS = (
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem"),
    *("kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
)


def stream(text: str) -> str:
    """Return `stdin`, `stdout` or `stderr`."""
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def environment(text: str) -> str:
    """Return `NAME=value`, the value taken from here when only the name is given and it is set."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if equals or name not in os.environ:
        return text
    return f"{name}={os.environ[name]}"


def label(text: str) -> str:
    """Return `name=value` unchanged."""
    name = text.partition("=")[0]
    if not name:
        raise ValueError(f"invalid label '{text}': empty name")
    if any(c.isspace() for c in name):
        raise ValueError(f"label '{name}' contains whitespaces")
    return text


def ulimit(text: str) -> dict[str, Any]:
    """Return the Engine API's Ulimit from `name=soft[:hard]`."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _LIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    words = limits.split(":")
    if len(words) > 2:
        raise ValueError(
            f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        )
    soft = integer(words[0])
    hard = soft
    if len(words) == 2:
        hard = integer(words[1])
        if hard >= 0 and soft > hard:
            raise ValueError(
                f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )
        if soft == -1 and hard != -1:
            raise ValueError(
                "ulimit soft limit must be less than or equal to hard limit: "
                f"soft: -1 (unlimited), hard: {hard}"
            )
    return {"Name": name, "Hard": hard, "Soft": soft}


def sysctl(text: str) -> tuple[str, str]:
    """Return (name, value) of a kernel setting that belongs to a namespace."""
    name, equals, value = text.partition("=")
    known = name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))
    if not equals or not known:
        raise ValueError(f"sysctl '{text}' is not allowed")
    return name, value


def link(text: str) -> str:
    """Return `name[:alias]` unchanged."""
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host(text: str) -> str:
    """Return `name:address` from `name:address`, `name=address` or `name=[v6]`."""
    name, equals, address = text.partition("=")
    if not equals:
        name, equals, address = text.partition(":")
    if not equals or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address == "host-gateway":
        return f"{name}:{address}"
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if not _is_address(bare):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{bare}"


def address(text: str) -> str:
    """Return an IP address."""
    if not _is_address(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def domain(text: str) -> str:
    """Return a DNS search domain without its final dot; `.` alone stays."""
    bare = text.strip(" ")
    if bare == ".":
        return bare
    labels = bare.removesuffix(".").split(".")
    for part in labels:
        letters = part.replace("-", "")
        if (
            not letters.isalnum()
            or not part.isascii()
            or part.startswith("-")
            or part.endswith("-")
        ):
            raise ValueError(f"{text} is not a valid domain")
    if len(bare) > 255 or not any(c.isalpha() for c in bare):
        raise ValueError(f"{text} is not a valid domain")
    return ".".join(labels)


def _device_value(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not path or not colon or not value:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def device_weight(text: str) -> dict[str, Any]:
    """Return the Engine API's WeightDevice from `/dev/x:weight`."""
    path, value = _device_value(text)
    weight = int(value) if value.isascii() and value.isdecimal() else -1
    if weight != 0 and not 10 <= weight <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": weight}


def byte_rate(text: str) -> dict[str, Any]:
    """Return the Engine API's ThrottleDevice from `/dev/x:1mb` (bytes a second)."""
    path, value = _device_value(text)
    try:
        return {"Path": path, "Rate": size(value)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]."
            " Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def operation_rate(text: str) -> dict[str, Any]:
    """Return the Engine API's ThrottleDevice from `/dev/x:100` (operations a second)."""
    path, value = _device_value(text)
    try:
        return {"Path": path, "Rate": unsigned64(value)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>."
            " Number must be a positive integer"
        ) from None


def device_rule(text: str) -> str:
    """Return a device cgroup rule, `c 1:3 rwm`, unchanged."""
    words = text.split(" ")
    if len(words) == 3 and words[0] in ("a", "b", "c"):
        numbers = words[1].split(":")
        right = 0 < len(words[2]) <= 3 and not words[2].strip("rwm")
        if right and len(numbers) == 2 and all(n == "*" or n.isdecimal() for n in numbers):
            return text
    raise ValueError(f"invalid device cgroup format '{text}'")


def condition(text: str) -> tuple[str, str]:
    """Return a filter's (name, value)."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), value.strip()


def _mount(text: str) -> Any:
    from wherry.cli.mounts import parse_mount

    return parse_mount(text)


def _network(text: str) -> Any:
    from wherry.cli.networks import parse_attachment

    return parse_attachment(text)


def _gpus(text: str) -> Any:
    from wherry.cli.gpus import parse_gpus

    return parse_gpus(text)


PARSERS: dict[str, Callable[[str], Any]] = {
    "stream": stream,
    "env": environment,
    "label": label,
    "ulimit": ulimit,
    "sysctl": sysctl,
    "link": link,
    "host": host,
    "address": address,
    "domain": domain,
    "device-weight": device_weight,
    "byte-rate": byte_rate,
    "operation-rate": operation_rate,
    "device-rule": device_rule,
    "filter": condition,
    "mount": _mount,
    "network": _network,
    "gpus": _gpus,
}
