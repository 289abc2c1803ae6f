"""How a registry is to run: one table of settings, each a flag and a key of a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

from wherry.model.errors import Invalid
from wherry.model.literals import parse_size

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_TRUE: Final = frozenset(("1", "t", "true", "yes"))
_FALSE: Final = frozenset(("0", "f", "false", "no"))


class Kind(Enum):
    """What a value looks like on a command line."""

    TEXT = "string"
    PATH = "file"
    SWITCH = ""
    NUMBER = "number"
    SIZE = "size"
    DURATION = "duration"
    LIST = "address"


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are seconds, sizes bytes; 0 switches off."""

    root: Path = Path("/var/lib/wherry-registry")
    listen: tuple[str, ...] = ("127.0.0.1:5000",)
    htpasswd: Path | None = None
    rights: Path | None = None
    basic: bool = False
    service: str = "wherry-registry"
    public_url: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    metrics_listen: tuple[str, ...] = ()
    read_only: bool = False
    no_delete: bool = False
    share: Path | None = None
    upload_expiry: float = 86400.0
    gc_interval: float = 3600.0
    gc_grace: float = 3600.0
    delete_untagged: float = 0.0
    max_blob: int = 1 << 40
    max_uploads: int = 10_000
    log_level: str = "info"
    until_eof: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: `--name`, and `name` in the file."""

    name: str
    kind: Kind
    help: str

    @property
    def field(self) -> str:
        """The field of Settings that it sets."""
        return self.name.replace("-", "_")


OPTIONS: Final = (
    Option("listen", Kind.LIST, "Address to serve on, HOST:PORT; may be repeated (127.0.0.1:5000)"),
    Option("root", Kind.PATH, "Folder that holds everything (/var/lib/wherry-registry)"),
    Option("htpasswd", Kind.PATH, "File of users and bcrypt hashes, as htpasswd -B writes it"),
    Option("rights", Kind.PATH, "File of what who may do: PATTERN WHO pull,push,delete"),
    Option("basic", Kind.SWITCH, "Ask for passwords with each request, offer no tokens"),
    Option("service", Kind.TEXT, "Name of this registry in its tokens (wherry-registry)"),
    Option("public-url", Kind.TEXT, "Where clients reach it, behind a proxy"),
    Option("tls-cert", Kind.PATH, "Certificate, PEM, with its chain"),
    Option("tls-key", Kind.PATH, "Its key, PEM"),
    Option("tls-client-ca", Kind.PATH, "Clients must show a certificate that this signed"),
    Option("metrics-listen", Kind.LIST, "Address to serve /metrics on, and nothing else"),
    Option("read-only", Kind.SWITCH, "Refuse pushes and deletes"),
    Option("no-delete", Kind.SWITCH, "Refuse deletes"),
    Option("share", Kind.PATH, "An engine's data root, whose blobs are linked, not copied"),
    Option(
        "upload-expiry", Kind.DURATION, "Forget uploads to which nothing came for so long (24h)"
    ),
    Option("gc-interval", Kind.DURATION, "Collect garbage this often; 0 never (1h)"),
    Option("gc-grace", Kind.DURATION, "Never collect what is younger (1h)"),
    Option(
        "delete-untagged", Kind.DURATION, "Remove manifests without a tag after so long; 0 never"
    ),
    Option("max-blob", Kind.SIZE, "Bytes of the largest blob (1t)"),
    Option("max-uploads", Kind.NUMBER, "Unfinished uploads at a time (10000)"),
    Option("log-level", Kind.TEXT, "debug, info, warning, error"),
    Option(
        "until-eof", Kind.SWITCH, "Stop when standard input ends: with the engine that started it"
    ),
)
_BY_NAME: Final = {option.name: option for option in OPTIONS}
_LEVELS: Final = ("debug", "info", "warning", "error")


def parse_settings(words: Sequence[str]) -> Settings:
    """Return the settings of a command line; `--config FILE` is read first, flags win.

    Raises Invalid, naming flag or key.
    """
    flags: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        option = _BY_NAME.get(name)
        if not word.startswith("--") or (option is None and name != "config"):
            raise Invalid(f"unknown flag: {word}", hint="see wherry registry serve --help")
        if option is not None and option.kind is Kind.SWITCH and not equals:
            value = "true"
        elif not equals:
            if not rest:
                raise Invalid(f"flag needs an argument: {word}")
            value = rest.pop(0)
        flags.setdefault(name, []).append(value)
    values = read_file(Path(flags.pop("config")[-1])) if "config" in flags else {}
    for name, texts in flags.items():
        option = _BY_NAME[name]
        chosen: object = tuple(texts) if option.kind is Kind.LIST else texts[-1]
        values[option.field] = _value(option, chosen, f"--{name}")
    return _checked(Settings(**values))


def read_file(path: Path) -> dict[str, Any]:
    """Return field name to value of a TOML file. Raises Invalid, naming the key."""
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"the configuration file {path}: {error}") from None
    values: dict[str, Any] = {}
    for key, value in document.items():
        option = _BY_NAME.get(key)
        if option is None:
            raise Invalid(f"the configuration file {path}: unknown key {key}")
        values[option.field] = _value(option, value, f"{path}: {key}")
    return values


def _checked(settings: Settings) -> Settings:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise Invalid("--tls-cert and --tls-key belong together")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        raise Invalid("--tls-client-ca needs --tls-cert and --tls-key")
    if settings.rights is not None and settings.htpasswd is None:
        raise Invalid("--rights needs --htpasswd: without passwords nobody can be told apart")
    if settings.log_level not in _LEVELS:
        raise Invalid(f"--log-level: {settings.log_level!r} is none of {', '.join(_LEVELS)}")
    if not settings.listen:
        raise Invalid("--listen: no address")
    if '"' in settings.service or not settings.service.isprintable():
        raise Invalid(f"--service: {settings.service!r} cannot stand in a header field")
    return settings


def _value(option: Option, value: object, subject: str) -> object:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    match option.kind:
        case Kind.TEXT:
            return text
        case Kind.PATH:
            return Path(text).absolute()
        case Kind.LIST:
            items: tuple[object, ...] = (value,)
            if isinstance(value, list | tuple):
                items = tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            return tuple(str(item) for item in items)
        case Kind.SWITCH:
            if text.lower() not in _TRUE | _FALSE:
                raise Invalid(f"{subject}: {text!r} is neither true nor false")
            return text.lower() in _TRUE
        case Kind.NUMBER:
            if not text.isdecimal():
                raise Invalid(f"{subject}: {text!r} is no number")
            return int(text)
        case Kind.SIZE:
            return _bytes(text, subject)
        case Kind.DURATION:
            return parse_duration(text, subject)


def _bytes(text: str, subject: str) -> int:
    try:
        return parse_size(text)
    except Invalid:
        hint = "bytes, or with k, m, g or t behind"
        raise Invalid(f"{subject}: {text!r} is no size", hint=hint) from None


def parse_duration(text: str, subject: str) -> float:
    """Return the seconds that `1d12h30m10s` or `90` writes. Raises Invalid."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise Invalid(f"{subject}: {text!r} is no duration", hint="such as 30s, 15m, 24h or 7d")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def render_help() -> str:
    """Return the text of --help."""
    assert {option.field for option in OPTIONS} == {field.name for field in fields(Settings)}
    lines = [
        "Usage:  wherry registry serve [OPTIONS]",
        "",
        "Serve a registry until told to stop. Needs nothing else. SIGHUP reads users, rights and",
        "certificate again.",
        "",
        "Options:",
        f"      {'--config file':<28} TOML file with any of these as keys; flags win",
    ]
    for option in OPTIONS:
        lines.append(f"      {f'--{option.name} {option.kind.value}'.strip():<28} {option.help}")
    return "\n".join(lines)
