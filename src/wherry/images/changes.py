"""`--change` of import and commit: a Dockerfile's instructions that only change the configuration.

Source: Dockerfile reference (CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
USER, VOLUME, WORKDIR) and Engine API v1.51, `changes` of /images/create and /commit. SHELL is refused:
Docker Engine 28.5 does.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from wherry.model.containers import HealthSpec
from wherry.model.errors import Invalid
from wherry.model.images import ImageConfig
from wherry.model.literals import parse_duration, parse_number
from wherry.model.signals import parse_signal

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_DEFAULT_SHELL = ("/bin/sh", "-c")
_ONE_ARGUMENT = frozenset({"STOPSIGNAL", "USER", "WORKDIR"})
_LEGACY_ENV_REST = re.compile(r"\s+")


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """Return `config` after the instructions in `changes`, each one or several lines. Raises Invalid."""
    lines = [line for text in changes for line in _lines(text)]
    if changes and not lines:
        raise Invalid("file with no instructions")
    for line in lines:
        config = _apply(config, line)
    return config


def parse_interval(text: str | None, name: str) -> int:
    """Return the nanoseconds of a health check's option, 0 where it is not given. Raises Invalid."""
    found = parse_duration(text) if text else 0
    if found and found < 10**6:
        raise Invalid(f'Interval "{name}" cannot be less than 1ms')
    return found


def _lines(text: str) -> list[str]:
    joined = re.sub(r"\\[ \t]*\r?\n", "", text)
    lines = (line.strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _apply(config: ImageConfig, line: str) -> ImageConfig:
    keyword, _, rest = line.partition(" ")
    instruction = _INSTRUCTIONS.get(keyword.upper())
    if instruction is None:
        raise Invalid(f"{keyword.upper()} is not a valid change command")
    rest = rest.strip()
    if not rest:
        count = "exactly" if keyword.upper() in _ONE_ARGUMENT else "at least"
        raise Invalid(f"{keyword.upper()} requires {count} one argument")
    return instruction(config, rest)


def _json_words(text: str) -> tuple[str, ...] | None:
    """Return the words of a JSON array of strings, None where `text` is none."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not isinstance(words, list):
        return None
    items = cast(list[object], words)
    if not all(isinstance(item, str) for item in items):
        return None
    return tuple(str(item) for item in items)


def _command(config: ImageConfig, text: str) -> tuple[str, ...]:
    words = _json_words(text)
    return words if words is not None else (*(config.shell or _DEFAULT_SHELL), text)


def _cmd(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, command=_command(config, text))


def _entrypoint(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, entrypoint=_command(config, text))


def _split(text: str) -> list[str]:
    """Return the words of `text` as a Dockerfile splits them: quotes kept together, quotes and escapes undone."""
    words: list[str] = []
    word = ""
    started = False
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"' and text[position : position + 1] in ('"', "\\"):
                word += text[position]
                position += 1
            else:
                word += char
        elif char in "'\"":
            quote, started = char, True
        elif char == "\\" and position < len(text):
            word += text[position]
            position += 1
            started = True
        elif char.isspace():
            if started:
                words.append(word)
            word, started = "", False
        else:
            word += char
            started = True
    if quote:
        raise Invalid(f"unterminated quote in {text!r}")
    if started:
        words.append(word)
    return words


def _pairs(instruction: str, text: str) -> list[tuple[str, str]]:
    first = _LEGACY_ENV_REST.split(text, maxsplit=1)
    if "=" not in first[0]:
        # ENV NAME the whole rest of the line
        if len(first) < 2:
            raise Invalid(f"{instruction} must have two arguments")
        return [(first[0], first[1])]
    pairs: list[tuple[str, str]] = []
    for word in _split(text):
        name, equals, value = word.partition("=")
        if not equals:
            raise Invalid(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        if not name:
            raise Invalid(f"{instruction} names can not be blank")
        pairs.append((name, value))
    return pairs


def _env(config: ImageConfig, text: str) -> ImageConfig:
    values = {entry.partition("=")[0]: entry for entry in config.env}
    for name, value in _pairs("ENV", text):
        values[name] = f"{name}={value}"
    return replace(config, env=tuple(values.values()))


def _label(config: ImageConfig, text: str) -> ImageConfig:
    labels = dict(config.labels) | dict(_pairs("LABEL", text))
    return replace(config, labels=tuple(sorted(labels.items())))


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    ports = set(config.exposed_ports)
    for word in text.split():
        match = _PORT.fullmatch(word.lower())
        if match is None:
            raise Invalid(f"Invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last <= 65535:
            raise Invalid(f"Invalid containerPort: {word}")
        ports.update(f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1))
    return replace(config, exposed_ports=tuple(sorted(ports)))


def _volume(config: ImageConfig, text: str) -> ImageConfig:
    words = _json_words(text) or tuple(_split(text))
    if not all(word.strip() for word in words):
        raise Invalid("VOLUME specified can not be an empty string")
    return replace(config, volumes=tuple(sorted({*config.volumes, *words})))


def _workdir(config: ImageConfig, text: str) -> ImageConfig:
    path = posixpath.normpath(posixpath.join(config.working_dir or "/", *_split(text)[:1]))
    return replace(config, working_dir="/" + path.lstrip("/"))


def _user(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, user=text)


def _stop_signal(config: ImageConfig, text: str) -> ImageConfig:
    parse_signal(text)
    return replace(config, stop_signal=text)


def _on_build(config: ImageConfig, text: str) -> ImageConfig:
    trigger = text.split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise Invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise Invalid(f"{trigger} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=(*config.on_build, text))


def _health(config: ImageConfig, text: str) -> ImageConfig:
    options: dict[str, str] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        name, _, value = option.removeprefix("--").partition("=")
        options[name] = value
        text = text.strip()
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        return replace(config, health=HealthSpec(test=("NONE",)))
    if kind.upper() != "CMD" or not rest.strip():
        raise Invalid(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    words = _json_words(rest.strip())
    unknown = set(options) - {"interval", "timeout", "start-period", "start-interval", "retries"}
    if unknown:
        raise Invalid(f"Unknown flag: {sorted(unknown)[0]}")
    retries = options.get("retries", "0")
    if (count := parse_number(retries)) is None:
        raise Invalid(f"--retries must be a number, not {retries!r}")
    return replace(
        config,
        health=HealthSpec(
            test=("CMD", *words) if words is not None else ("CMD-SHELL", rest.strip()),
            interval=parse_interval(options.get("interval", ""), "interval"),
            timeout=parse_interval(options.get("timeout", ""), "timeout"),
            start_period=parse_interval(options.get("start-period", ""), "start-period"),
            start_interval=parse_interval(options.get("start-interval", ""), "start-interval"),
            retries=count,
        ),
    )


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
