"""`--log-opt` of the drivers that send elsewhere, checked and resolved. Messages are Docker's. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from wherry.containers.shipping.gelf import COMPRESSIONS
from wherry.containers.shipping.syslog import FORMATS, facility_number
from wherry.model.errors import Invalid
from wherry.model.literals import parse_bool, parse_duration, parse_size

DRIVERS = ("syslog", "gelf", "fluentd", "journald")
DEFAULT_TAG = "{{.ID}}"
_COMMON = frozenset(
    "labels labels-regex env env-regex tag mode max-buffer-size cache-disabled cache-max-size "
    "cache-max-file cache-compress".split()
)
_OWN: dict[str, frozenset[str]] = {
    "syslog": frozenset(
        "syslog-address syslog-facility syslog-format syslog-tls-ca-cert syslog-tls-cert "
        "syslog-tls-key syslog-tls-skip-verify".split()
    ),
    "gelf": frozenset(
        "gelf-address gelf-compression-type gelf-compression-level gelf-tcp-max-reconnect "
        "gelf-tcp-reconnect-delay".split()
    ),
    "fluentd": frozenset(
        "fluentd-address fluentd-async fluentd-async-reconnect-interval "
        "fluentd-buffer-limit fluentd-retry-wait fluentd-max-retries fluentd-request-ack "
        "fluentd-sub-second-precision fluentd-write-timeout".split()
    ),
    "journald": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where messages go: `scheme` is udp, tcp, tcp+tls, unix or unixgram."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def check(driver: str, options: dict[str, str]) -> None:
    """Raise Invalid for an option that `driver` does not have, or a value that it does not take."""
    for name in options:
        if name not in _OWN[driver] and name not in _COMMON:
            quote = '"' if driver == "gelf" else "'"
            raise Invalid(f"unknown log opt {quote}{name}{quote} for {driver} log driver")
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(options.get(name, ""))
        except re.error as error:
            raise Invalid(f"invalid log opt {name}: {error}") from None
    match driver:
        case "syslog":
            _check_syslog(options)
        case "gelf":
            _check_gelf(options)
        case "fluentd":
            _check_fluentd(options)
        case _:
            return


def destination(driver: str, options: dict[str, str]) -> Destination:
    """Return where `driver` sends to; the options have been checked."""
    match driver:
        case "syslog":
            return _syslog_address(options.get("syslog-address", ""))
        case "gelf":
            return _gelf_address(options.get("gelf-address", ""))
        case "fluentd":
            return _fluentd_address(options.get("fluentd-address", ""))
        case _:
            from wherry.containers.shipping.journald import SOCKET

            return Destination("unixgram", path=SOCKET)


def truth(options: dict[str, str], name: str) -> bool:
    """Return a boolean option's value, False where it is not given. Raises Invalid."""
    text = options.get(name, "")
    try:
        return parse_bool(text) if text else False
    except Invalid as error:
        if name.startswith("cache-"):
            raise Invalid(f"invalid value for option {name}: {text}") from None
        raise Invalid(error.message) from None


def seconds(options: dict[str, str], name: str, default: float) -> float:
    """Return a duration in seconds. Raises Invalid."""
    text = options.get(name, "")
    return parse_duration(text) / 1e9 if text else default


def number(options: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    """Return a whole number between bounds. Raises Invalid."""
    text = options.get(name, "")
    if not text:
        return default
    try:
        found = int(text)
    except ValueError:
        found = least - 1
    if not least <= found <= most:
        if name.startswith("gelf-tcp-"):
            raise Invalid(f'"{name}" must be a positive integer')
        if name.startswith("fluentd-"):
            raise Invalid(f'strconv.ParseUint: parsing "{text}": invalid syntax')
        raise Invalid(f'unknown value "{text}" for log opt "{name}" for gelf log driver')
    return found


def _check_syslog(options: dict[str, str]) -> None:
    _syslog_address(options.get("syslog-address", ""))
    if facility_number(options.get("syslog-facility", "daemon")) is None:
        raise Invalid("invalid syslog facility")
    if options.get("syslog-format", "") not in FORMATS:
        raise Invalid("Invalid syslog format")


def _syslog_address(text: str) -> Destination:
    if not text:
        return Destination("unixgram", path="/dev/log")
    scheme, _, rest = text.partition("://")
    if not rest:
        raise Invalid("unsupported scheme: ''")
    if scheme in ("unix", "unixgram"):
        return Destination(scheme, path=rest)
    if scheme not in ("udp", "tcp", "tcp+tls"):
        raise Invalid(f"unsupported scheme: '{scheme}'")
    host, port = _place(text, rest, 6514 if scheme == "tcp+tls" else 514)
    return Destination(scheme, host, port)


def _check_gelf(options: dict[str, str]) -> None:
    place = _gelf_address(options.get("gelf-address", ""))
    compression = options.get("gelf-compression-type", "gzip")
    if place.scheme == "tcp" and (
        "gelf-compression-type" in options or "gelf-compression-level" in options
    ):
        raise Invalid("compression is only supported on UDP")  # fmt: skip
    for name in ("gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"):
        if place.scheme == "udp" and name in options:
            raise Invalid(f'"{name}" is only valid for TCP')
    if compression not in COMPRESSIONS:
        raise Invalid(
            f'unknown value "{compression}" for log opt "gelf-compression-type" for gelf log driver'
        )
    number(options, "gelf-compression-level", 1, -1, 9)
    number(options, "gelf-tcp-max-reconnect", 3, 0, 1 << 31)
    number(options, "gelf-tcp-reconnect-delay", 1, 0, 1 << 31)


def _gelf_address(text: str) -> Destination:
    if not text:
        raise Invalid("gelf-address is a required parameter")
    scheme, _, rest = text.partition("://")
    if scheme not in ("udp", "tcp"):
        raise Invalid("gelf: endpoint needs to be TCP or UDP")
    host, port = _place(text, rest, 0)
    if not port:
        raise Invalid("gelf: please provide gelf-address as proto://host:port")
    return Destination(scheme, host, port)


def _check_fluentd(options: dict[str, str]) -> None:
    _fluentd_address(options.get("fluentd-address", ""))
    seconds(options, "fluentd-retry-wait", 0)
    _check_durations(options)
    if limit := options.get("fluentd-buffer-limit"):
        parse_size(limit)
    for name in ("fluentd-async", "fluentd-sub-second-precision", "fluentd-request-ack"):
        truth(options, name)
    number(options, "fluentd-max-retries", 1 << 30, 0, 1 << 31)


def _check_durations(options: dict[str, str]) -> None:
    name = "fluentd-write-timeout"
    try:
        timeout = seconds(options, name, 0)
    except Invalid as error:
        raise Invalid(
            f"invalid value for {name}: value must be a duration: {error.message}"
        ) from None
    if timeout < 0:
        raise Invalid(f"invalid value for {name}: value must be a duration that is non-negative")
    name = "fluentd-async-reconnect-interval"
    if options.get(name) and not 0.1 <= seconds(options, name, 0) <= 10:
        raise Invalid(
            f'invalid value for {name}: value ("{options[name]}") must be between 100ms and 10s'
        )


def _fluentd_address(text: str) -> Destination:
    text = text or "127.0.0.1:24224"
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "unix":
        if not rest:
            raise Invalid(f"invalid fluentd-address ({text}): path is empty")
        return Destination("unix", path=rest)
    if "/" in rest:
        raise Invalid(f"invalid fluentd-address ({text}): should not contain a path element")
    if scheme not in ("tcp", "tls"):
        raise Invalid(f"invalid fluentd-address ({text}): unsupported scheme: '{scheme}'")
    host, port = _place(text, rest, 24224)
    return Destination("tcp+tls" if scheme == "tls" else "tcp", host, port)


def _place(text: str, rest: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"invalid address {text!r}: {error}") from None
    if not host or parts.path:
        raise Invalid(f"invalid address {text!r}", hint="tcp://HOST:PORT")
    return host, default if port is None else port
