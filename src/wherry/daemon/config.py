"""One Config out of flags and daemon.json, under Docker's names. Pure but for reading that file."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

import msgspec

from wherry.daemon.arguments import Arguments, parse_switch
from wherry.daemon.options import BY_KEY, OPTIONS, Kind, Option
from wherry.daemon.refused import REFUSED_KEYS
from wherry.model.containers import Pairs, Ulimit
from wherry.model.errors import Invalid, Unsupported
from wherry.model.literals import parse_size
from wherry.model.networks import Driver
from wherry.model.urls import is_web

DEFAULT_FILE = Path("/etc/wherry/daemon.json")
LOG_DRIVERS = ("json-file", "local", "none", "syslog", "gelf", "fluentd", "journald")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")

Pools = tuple[tuple[str, int], ...]
Grouped = tuple[tuple[str, Pairs], ...]
Value = str | bool | int | tuple[str, ...] | Pairs | Pools | Grouped | tuple[Ulimit, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """How this daemon is to run. Sizes are bytes, `shutdown_timeout` seconds."""

    data_root: Path = Path("/var/lib/wherry")
    exec_root: Path = Path("/run/wherry")
    hosts: tuple[str, ...] = ()
    """Empty: the sockets that systemd hands over, else the exec-root's path with `.sock` behind it."""
    pidfile: Path = Path("/run/wherry/wherryd.pid")
    group: str = ""
    """Empty: the group called `wherry` where there is one."""
    log_level: str = "info"
    log_format: str = "text"
    metrics_addr: str = ""
    log_driver: str = "json-file"
    log_options: Pairs = ()
    debug: bool = False
    bridge: str = ""
    bip: str = ""
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = "/etc/wherry/ca.pem"
    tlscert: str = "/etc/wherry/cert.pem"
    tlskey: str = "/etc/wherry/key.pem"
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    icc: bool = True
    mtu: int = 0
    ip: str = ""
    ipv6: bool | None = None
    """None: where the host has it."""
    default_address_pools: tuple[tuple[str, int], ...] = ()
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    iptables: bool = True
    ip6tables: bool = True
    ip_forward: bool = True
    ip_forward_no_drop: bool = False
    ip_masq: bool = True
    allow_direct_routing: bool = False
    default_network_opts: Grouped = ()
    """By driver."""
    firewall_backend: str = ""
    firewall_allow_forward: bool = True
    live_restore: bool = True
    shutdown_timeout: int = 15
    default_shm_size: int = 64 << 20
    default_ulimits: tuple[Ulimit, ...] = ()
    labels: tuple[str, ...] = ()
    userns_remap: str = ""
    cgroup_parent: str = ""
    init: bool = False
    init_path: str = ""
    """Empty: the first that is found."""
    default_ipc_mode: str = ""
    default_cgroupns_mode: str = ""
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    """Empty: the built-in one."""
    experimental: bool = False
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_hosts: tuple[str, ...] = ()
    """Empty: /etc/wherry/certs.d and /etc/docker/certs.d."""
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    proxies: Pairs = ()
    config_file: Path | None = None
    """The file that was read."""

    @property
    def secured(self) -> bool:
        """Whether TCP sockets speak TLS. As with Docker, `tls` may be said to be off and verify wins."""
        return self.tls or self.tlsverify


# Option name to the field it sets, where they differ by more than dashes.
_FIELDS = {"log-opts": "log_options"}
_PATHS = frozenset(("data_root", "exec_root", "pidfile"))


def load_config(arguments: Arguments, *, default_file: Path = DEFAULT_FILE) -> Config:
    """Return the configuration that flags and file make together.

    Raises Invalid for an unknown key, a wrong value, or what both say; Unsupported for what Docker has
    and this version has not.
    """
    flags = {
        option.name: _from_texts(option, arguments.values[option.name])
        for option in OPTIONS
        if option.key and option.name in arguments.values
    }
    named = arguments.last("config-file")
    path = Path(named) if named else default_file
    document = _read(path, required=named is not None)
    file = parse_document(document or {}, path)
    both = sorted(flags.keys() & file.keys())
    if both:
        said = ", ".join(
            f"{n}: (from flag: {_show(flags[n])}, from file: {_show(file[n])})" for n in both
        )
        raise Invalid(
            f"unable to configure wherryd with file {path}: the following directives are specified"
            f" both as a flag and in the configuration file: {said}"
        )
    return _build(flags | file, path if document is not None else None)


def _show(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{' '.join('='.join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)}]"
    return str(value)


def _read(path: Path, *, required: bool) -> Mapping[str, object] | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if required:
            raise Invalid(f"the configuration file {path} does not exist") from None
        return None
    except OSError as error:
        raise Invalid(f"the configuration file {path} cannot be read: {error.strerror}") from None
    if not text.strip():
        return {}
    try:
        document = cast(object, msgspec.json.decode(text))
    except msgspec.DecodeError as error:
        raise Invalid(f"the configuration file {path} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise Invalid(f"the configuration file {path} holds no JSON object")
    return cast(dict[str, object], document)


def parse_document(document: Mapping[str, object], path: Path) -> dict[str, Value]:
    """Return option name to value of a daemon.json. Raises as `load_config`."""
    found: dict[str, Value] = {}
    for key, value in document.items():
        option = BY_KEY.get(key)
        if option is not None:
            found[option.name] = _from_json(option, value, path)
        elif key in REFUSED_KEYS:
            REFUSED_KEYS[key].check(f"{key} in {path}", value)
        elif key == "host-gateway-ip" and isinstance(value, str):
            # The older name, of one address.
            found["host-gateway-ips"] = (value,) if value else ()
        else:
            raise Invalid(
                f"the following directives don't match any configuration option: {key} (in {path})"
            )
    return found


def _from_texts(option: Option, texts: list[str]) -> Value:
    name = f"--{option.flag}"
    match option.kind:
        case Kind.TEXT:
            return texts[-1]
        case Kind.SWITCH:
            return parse_switch(texts[-1], name)
        case Kind.NUMBER:
            return _number(texts[-1], name)
        case Kind.SIZE:
            return _bytes(texts[-1], name)
        case Kind.LIST:
            return tuple(texts)
        case Kind.PAIRS:
            return tuple(sorted(_pair(text, name) for text in texts))
        case Kind.ULIMITS:
            return tuple(parse_ulimit(text) for text in texts)
        case Kind.POOLS:
            return tuple(_pool(text, name) for text in texts)
        case Kind.PAIRS_BY:
            return _grouped(_pair_by(text, name) for text in texts)


def _from_json(option: Option, value: object, path: Path) -> Value:
    name = f"{option.key} in {path}"
    match option.kind, value:
        case Kind.TEXT, str():
            return value
        case Kind.SWITCH, bool():
            return value
        case ((Kind.NUMBER | Kind.SIZE), int()) if not isinstance(value, bool):
            return value
        case Kind.SIZE, str():
            return _bytes(value, name)
        case Kind.LIST, list() if all(isinstance(v, str) for v in cast(list[object], value)):
            return tuple(cast(list[str], value))
        case Kind.PAIRS, dict() if all(
            isinstance(v, str) for v in cast(dict[str, object], value).values()
        ):
            return tuple(sorted(cast(dict[str, str], value).items()))
        case Kind.PAIRS_BY, dict() if all(
            _is_pairs(v) for v in cast(dict[str, object], value).values()
        ):
            some = cast(dict[str, dict[str, str]], value).items()
            return _grouped((key, pair) for key, pairs in some for pair in pairs.items())
        case Kind.POOLS, list():
            return tuple(_pool_entry(entry, name) for entry in cast(list[object], value))
        case Kind.ULIMITS, dict():
            entries = cast(dict[str, object], value).items()
            return tuple(_ulimit_entry(key, entry, name) for key, entry in entries)
        case _:
            raise Invalid(f"invalid value for {name}: expected {option.kind.value}")


def _ulimit_entry(key: str, entry: object, name: str) -> Ulimit:
    if isinstance(entry, dict):
        fields_ = cast(dict[str, object], entry)
        soft, hard = fields_.get("Soft"), fields_.get("Hard")
        if isinstance(soft, int) and isinstance(hard, int):
            return Ulimit(str(fields_.get("Name") or key), soft, hard)
    raise Invalid(f'invalid value for {name}: {key} needs "Soft" and "Hard"')


def _pool_entry(entry: object, name: str) -> tuple[str, int]:
    if isinstance(entry, dict):
        fields_ = cast(dict[str, object], entry)
        base, size = fields_.get("base"), fields_.get("size")
        if isinstance(base, str) and isinstance(size, int):
            return check_pool(base, size, name)
    raise Invalid(f'invalid value for {name}: each entry needs "base" and "size"')


def _pool(text: str, name: str) -> tuple[str, int]:
    words: dict[str, str] = {}
    for word in text.split(","):
        key, _, value = word.partition("=")
        words[key] = value
    size = words.get("size", "")
    if set(words) != {"base", "size"} or not size.isdecimal():
        raise Invalid(f"invalid value for {name}: {text!r}", hint="base=10.0.0.0/8,size=24")
    return check_pool(words["base"], int(size), name)


def check_pool(base: str, size: int, name: str) -> tuple[str, int]:
    """Return the pool, its base in canonical form. Raises Invalid."""
    try:
        network = ipaddress.ip_network(base, strict=False)
    except ValueError:
        raise Invalid(f"invalid value for {name}: {base!r} is not a prefix") from None
    if not network.prefixlen <= size <= network.max_prefixlen:
        raise Invalid(
            f"invalid value for {name}: the size {size} of the networks does not fit {base}"
        )
    return str(network), size


def _number(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid(f"invalid value for {name}: {text!r} is not a number") from None


def _pair(text: str, name: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Invalid(f"invalid value for {name}: {text!r} is not key=value")
    return key, value


def _bytes(text: str, name: str) -> int:
    try:
        return parse_size(text)
    except Invalid:
        raise Invalid(f"invalid value for {name}: {text!r} is not a size") from None


def _is_pairs(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, str) for v in cast(dict[str, object], value).values()
    )


def _pair_by(text: str, name: str) -> tuple[str, tuple[str, str]]:
    group, equals, rest = text.partition("=")
    if not group or not equals:
        raise Invalid(f"invalid value for {name}: {text!r} is not group=key=value")
    return group, _pair(rest, name)


def _grouped(pairs: Iterable[tuple[str, tuple[str, str]]]) -> Grouped:
    found: dict[str, dict[str, str]] = {}
    for group, (key, value) in pairs:
        found.setdefault(group, {})[key] = value
    return tuple((group, tuple(sorted(some.items()))) for group, some in sorted(found.items()))


def parse_ulimit(text: str) -> Ulimit:
    """Return `nofile=1024:2048`. Raises Invalid."""
    name, equals, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    try:
        if not name or not equals:
            raise ValueError
        return Ulimit(name, int(soft), int(hard) if colon else int(soft))
    except ValueError:
        raise Invalid(f"invalid ulimit {text!r}", hint="name=soft:hard") from None


def _build(values: Mapping[str, Value], path: Path | None) -> Config:
    names = {field.name for field in fields(Config)}
    settings: dict[str, object] = {"config_file": path}
    for option_name, value in values.items():
        name = _FIELDS.get(option_name, option_name.replace("-", "_"))
        if name in names:
            settings[name] = Path(str(value)).absolute() if name in _PATHS else value
    if "pidfile" not in settings and "exec_root" in settings:
        settings["pidfile"] = cast(Path, settings["exec_root"]) / "wherryd.pid"
    config = Config(**settings)  # pyright: ignore[reportArgumentType]
    for check in _CHECKS:
        check(config, values)
    return config


def _check_level(config: Config, _: Mapping[str, Value]) -> None:
    if config.log_format not in ("text", "json"):
        raise Invalid(f"invalid log format: {config.log_format}", hint="text or json")
    if config.log_level not in LOG_LEVELS:
        raise Invalid(
            f"invalid logging level: {config.log_level}", hint=f"one of {', '.join(LOG_LEVELS)}"
        )


def _check_driver(config: Config, values: Mapping[str, Value]) -> None:
    if config.log_driver not in LOG_DRIVERS:
        raise Unsupported(
            f"log driver {config.log_driver} is not in this version of wherry",
            hint="json-file, local and none are",
        )
    if values.get("storage-driver", "") not in ("", "overlay2", "overlay"):
        raise Unsupported(
            f"storage driver {values['storage-driver']} is not in this version of wherry"
        )


def _check_userns(config: Config, _: Mapping[str, Value]) -> None:
    if config.userns_remap not in ("", "default", "host"):
        raise Unsupported(
            f"userns-remap {config.userns_remap}: wherry gives each container ids of its own",
            hint="leave it out, or say host: then none has",
        )


def _check_network(config: Config, _: Mapping[str, Value]) -> None:
    if config.bip and config.bridge:
        raise Invalid(
            "You specified --bridge & --bip, mutually exclusive options. Please specify only one"
        )


def _check_firewall(config: Config, said: Mapping[str, Value]) -> None:
    if config.firewall_backend == "iptables":
        raise Unsupported(
            "firewall-backend iptables: wherry speaks to nf_tables alone",
            hint="leave it out, or say nftables; iptables-nft shows and keeps its own rules beside",
        )
    if config.firewall_backend not in ("", "nftables"):
        raise Invalid(
            f'invalid firewall-backend "{config.firewall_backend}"', hint="nftables is the only one"
        )
    if config.iptables and not config.ip6tables:
        raise Unsupported(
            "ip6tables=false without iptables=false: one table serves both families",
            hint="leave it out; IPv6 is given to no network by --ipv6=false",
        )
    for driver, _pairs in config.default_network_opts:
        if driver not in tuple(map(str, Driver)):
            raise Invalid(f"invalid default-network-opts: there is no driver {driver}")


def _check_addresses(config: Config, _: Mapping[str, Value]) -> None:
    for name, text in (
        ("bip", config.bip),
        ("bip6", config.bip6),
        ("fixed-cidr", config.fixed_cidr),
        ("fixed-cidr-v6", config.fixed_cidr_v6),
    ):
        try:
            if text:
                ipaddress.ip_interface(text)
                if "/" not in text:
                    raise ValueError
        except ValueError:
            raise Invalid(f"invalid {name}: {text!r}", hint="172.30.0.1/16") from None
    gateways = config.default_gateway, config.default_gateway_v6, config.ip
    hosts = tuple(text for text in config.host_gateway_ips)
    for text in (*gateways, *config.dns, *hosts):
        try:
            if text:
                ipaddress.ip_address(text)
        except ValueError:
            raise Invalid(f"{text!r} is not an IP address") from None
    if not 0 <= config.mtu <= 65535:
        raise Invalid(f"invalid default MTU: {config.mtu}")


def _check_transfers(config: Config, _: Mapping[str, Value]) -> None:
    for name in ("max_concurrent_downloads", "max_concurrent_uploads", "max_download_attempts"):
        number: int = getattr(config, name)
        if number < 1:
            raise Invalid(f"invalid {name.replace('_', ' ')}: {number}", hint="at least 1")
    for name, _value in config.proxies:
        if name not in ("http-proxy", "https-proxy", "no-proxy"):
            raise Invalid(f"unknown key in proxies: {name}")
    for mirror in config.registry_mirrors:
        if not is_web(mirror) or "@" in mirror or "?" in mirror:
            raise Invalid(f"invalid mirror: {mirror!r}", hint="https://HOST[:PORT]")


def _check_containers(config: Config, _: Mapping[str, Value]) -> None:
    for name, value, known in (
        ("default-ipc-mode", config.default_ipc_mode, ("private", "shareable")),
        ("default-cgroupns-mode", config.default_cgroupns_mode, ("private", "host")),
    ):
        if value and value not in known:
            raise Invalid(f'invalid {name}: "{value}"', hint=" or ".join(known))


def _check_labels(config: Config, _: Mapping[str, Value]) -> None:
    for label in config.labels:
        if not label.partition("=")[1] or label.startswith("="):
            raise Invalid(f"bad attribute format: {label}", hint="key=value")
    if config.shutdown_timeout < -1:
        raise Invalid("shutdown-timeout cannot be negative", hint="-1 waits for ever")
    if config.default_shm_size <= 0:
        raise Invalid("default-shm-size must be positive")


_CHECKS: tuple[Callable[[Config, Mapping[str, Value]], None], ...] = (
    _check_level,
    _check_driver,
    _check_userns,
    _check_network,
    _check_firewall,
    _check_addresses,
    _check_transfers,
    _check_containers,
    _check_labels,
)
