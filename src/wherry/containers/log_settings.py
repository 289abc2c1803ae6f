"""`--log-driver` and `--log-opt` read. Pure but for `check_place`, which looks for a socket.

docker-run(1), "Logging drivers"; messages of Docker Engine 28.5.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from wherry.containers.shipping import options as shipping
from wherry.containers.shipping.entries import check_tag
from wherry.model.containers import LogConfig, Pairs
from wherry.model.errors import Invalid, StartFailed
from wherry.model.literals import parse_bool, parse_number, parse_size

KEPT_HERE = ("json-file", "local", "none")
DRIVERS = (*KEPT_HERE, *shipping.DRIVERS)
_CACHE_SIZE, _CACHE_FILES = 20 << 20, 5
"""Docker's "dual logging": what is kept here of logs that are sent elsewhere."""
DEFAULT_SIZE = 10 << 20
DEFAULT_FILES = 10
_KNOWN = frozenset(
    "max-size max-file compress labels labels-regex env env-regex tag mode max-buffer-size".split()
)
_LOCAL = frozenset("max-size max-file compress mode max-buffer-size".split())


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """What is kept of a container's output: `max_size` bytes in each of `max_files` files; size 0 is no cap."""

    driver: str
    max_size: int = DEFAULT_SIZE
    max_files: int = DEFAULT_FILES
    readable: bool = True
    """Whether `docker logs` may read it."""


def in_force(config: LogConfig, default: LogConfig) -> tuple[str, dict[str, str]]:
    """Return the driver that counts, and its options: the daemon's are for its own driver alone."""
    driver = config.driver or default.driver or DRIVERS[0]
    inherited = default.options if config.driver in ("", default.driver) else ()
    return driver, dict(inherited) | dict(config.options)


def parse_log_config(config: LogConfig, default: LogConfig) -> LogPolicy:
    """Return the policy that `config` asks for; an empty driver takes the daemon's `default`.

    Raises Invalid for what is malformed.
    """
    driver, options = in_force(config, default)
    if driver not in DRIVERS:
        raise Invalid(
            f'error looking up logging plugin {driver}: plugin "{driver}" not found',
            hint=f"the drivers are {', '.join(DRIVERS)}",
        )
    _check_mode(options)
    check_tag(options.get("tag", ""))
    if driver in shipping.DRIVERS:
        shipping.check(driver, options)
        size = _size_of(options, "cache-max-size", _CACHE_SIZE)
        files = _count_of(options, "cache-max-file", _CACHE_FILES)
        return LogPolicy("local", size, files, not shipping.truth(options, "cache-disabled"))
    _check_options(driver, options)
    if driver == "none":
        return LogPolicy(driver, readable=False)
    if driver == "local" and options.get("max-size") == "-1":
        raise Invalid("invalid value for max-size: -1: invalid size: '-1'")
    size = _size_of(options, "max-size", DEFAULT_SIZE)
    files = _count_of(options, "max-file", DEFAULT_FILES)
    if "max-size" in options and not options.get("max-file"):
        # Docker's: a size without a number is one file, started anew when full.
        files = 1 if driver == "json-file" else 5
    return LogPolicy(driver, size, files)


def check_ready(config: LogConfig, default: LogConfig) -> None:
    """Raise StartFailed for options that no container starts with, though it may be made with them."""
    driver, options = in_force(config, default)
    given = options.get("compress", "")
    if driver == "local":
        one = parse_log_config(config, default).max_files == 1
        if one and (not given or parse_bool(given)):
            raise unready("compression cannot be enabled when max file count is 1")
    elif driver == "json-file" and given and parse_bool(given):
        one = int(options.get("max-file") or 1) < 2
        if one or not options.get("max-size") or options["max-size"] == "-1":
            raise unready(
                "compress cannot be true when max-file is less than 2 or max-size is not set"
            )


def check_place(config: LogConfig, default: LogConfig) -> None:
    """Raise Invalid where the socket that logs are to go to is not on this machine."""
    driver, options = in_force(config, default)
    if driver != "syslog" or not options.get("syslog-address"):
        return
    place = shipping.destination("syslog", options)
    if place.path and not os.path.exists(place.path):
        raise Invalid(f"stat {place.path}: no such file or directory")


def unready(text: str) -> StartFailed:
    """Return the failure of a start whose logs have nowhere to go."""
    return StartFailed(
        f"failed to create task for container: failed to initialize logging driver: {text}"
    )


def _size_of(options: dict[str, str], name: str, default: int) -> int:
    """Return bytes, 0 for no cap (-1)."""
    text = options.get(name)
    if not text:
        return default
    size = 0 if text == "-1" else _bytes(text, name)
    if size == 0 and text != "-1":
        raise Invalid(f"{name} must be a positive number")
    return size


def _count_of(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name)
    if not text:
        return default
    if not (count := parse_number(text)):
        raise Invalid(f"{name} must be a number of 1 or more: {text!r}")
    return count


def _check_mode(options: dict[str, str]) -> None:
    mode = options.get("mode", "blocking")
    if mode not in ("", "blocking", "non-blocking"):
        raise Invalid(f"logger: logging mode not supported: {mode}")
    if buffer := options.get("max-buffer-size"):
        if mode != "non-blocking":
            raise Invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        _bytes(buffer, "max-buffer-size")


def _check_options(driver: str, options: dict[str, str]) -> None:
    known = _LOCAL if driver == "local" else _KNOWN
    for name, value in options.items():
        if driver == "none":
            raise Invalid(f"unknown log opt '{name}' for none log driver")
        if name not in known:
            where = "log driver local" if driver == "local" else f"{driver} log driver"
            raise Invalid(f"unknown log opt '{name}' for {where}")
        if name == "compress":
            # Files that are full stay as they are: max-size and max-file bound them either way.
            if value:
                parse_bool(value)
        elif name.endswith("-regex"):
            try:
                re.compile(value)
            except re.error as error:
                raise Invalid(f"invalid log opt {name}: {error}") from None


def _bytes(text: str, name: str) -> int:
    try:
        return parse_size(text)
    except Invalid:
        if name == "max-buffer-size":
            raise Invalid(f"error parsing option {name}: invalid size: '{text}'") from None
        raise Invalid(f"invalid size for {name}: '{text}'") from None


def shown(config: LogConfig, default: LogConfig) -> LogConfig:
    """Return the configuration as inspect shows it: the driver in force, and the options given."""
    driver = config.driver or default.driver or DRIVERS[0]
    options: Pairs = config.options
    if driver == default.driver and not options:
        options = default.options
    return LogConfig(driver, options)
