"""Instructions that change the image's configuration: instruction, expansion, configuration to configuration.

Each also gives the history's text, as BuildKit writes it (asked: Docker Engine 28.5).
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import replace

from wherry.build.dockerfile.syntax import Form, Instruction
from wherry.build.dockerfile.words import Expansion
from wherry.images.changes import parse_interval
from wherry.model.containers import HealthSpec
from wherry.model.errors import Invalid
from wherry.model.images import ImageConfig
from wherry.model.literals import parse_number, render_duration
from wherry.model.signals import parse_signal

DEFAULT_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([a-zA-Z]+))?")


def words_of(instruction: Instruction, expansion: Expansion) -> list[str]:
    """Return the arguments of a list, expanded: in the shell form what a variable brings is split."""
    if instruction.form is Form.EXEC:
        return [expansion.word(word) for word in instruction.arguments]
    return [piece for word in instruction.arguments for piece in expansion.words(word)]


def with_env(config: ImageConfig, name: str, value: str) -> ImageConfig:
    """Return `config` with one variable set, in its old place where it had one."""
    found = {entry.partition("=")[0]: entry for entry in config.env}
    found[name] = f"{name}={value}"
    return replace(config, env=tuple(found.values()))


def go_list(words: tuple[str, ...] | list[str]) -> str:
    """Return `["a" "b"]`, Go's %q of a list."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def configure(
    config: ImageConfig, instruction: Instruction, expansion: Expansion
) -> tuple[ImageConfig, str]:
    """Return the configuration after `instruction`, and the history's text. Raises Invalid, WordError."""
    match instruction.keyword:
        case "ENV":
            return _env(config, instruction, expansion)
        case "LABEL":
            pairs = pairs_of(instruction, expansion)
            labels = dict(config.labels) | dict(pairs)
            text = " ".join(f"{name}={value}" for name, value in pairs)
            return replace(config, labels=tuple(sorted(labels.items()))), f"LABEL {text}"
        case "CMD":
            argv = command_of(config, instruction)
            return replace(config, command=argv), f"CMD {go_list(argv)}"
        case "ENTRYPOINT":
            argv = command_of(config, instruction)
            return replace(config, entrypoint=argv), f"ENTRYPOINT {go_list(argv)}"
        case "EXPOSE":
            return _expose(config, words_of(instruction, expansion))
        case "VOLUME":
            volumes = words_of(instruction, expansion)
            if not all(volume.strip() for volume in volumes):
                raise Invalid("VOLUME specified can not be an empty string")
            known = tuple(sorted({*config.volumes, *volumes}))
            return replace(config, volumes=known), f"VOLUME [{' '.join(volumes)}]"
        case "USER":
            user = expansion.word(instruction.arguments[0])
            return replace(config, user=user), f"USER {user}"
        case "STOPSIGNAL":
            signal = expansion.word(instruction.arguments[0])
            parse_signal(signal)
            return replace(config, stop_signal=signal), f"STOPSIGNAL {signal}"
        case "SHELL":
            shell = instruction.arguments
            return replace(config, shell=shell), f"SHELL [{' '.join(shell)}]"
        case "HEALTHCHECK":
            return _health(config, instruction)
        case "ONBUILD":
            text = instruction.arguments[0]
            return replace(config, on_build=(*config.on_build, text)), f"ONBUILD {text}"
        case _:
            raise Invalid(f"unknown instruction: {instruction.keyword}")


def command_of(config: ImageConfig, instruction: Instruction) -> tuple[str, ...]:
    """Return the argument list of CMD, ENTRYPOINT, RUN: the shell's where it is the shell form."""
    if instruction.form is Form.EXEC:
        return instruction.arguments
    return (*(config.shell or DEFAULT_SHELL), instruction.arguments[0])


def work_dir(config: ImageConfig, path: str) -> str:
    """Return the absolute directory that WORKDIR `path` means. Raises Invalid for an empty one."""
    if not path:
        raise Invalid("WORKDIR requires exactly one argument: it is empty")
    joined = posixpath.normpath(posixpath.join(config.working_dir or "/", path))
    return "/" + joined.lstrip("/")


def pairs_of(instruction: Instruction, expansion: Expansion) -> list[tuple[str, str]]:
    """Return the names and values that ENV or LABEL sets, variables resolved. Raises Invalid, WordError."""
    words = instruction.arguments
    return [
        (expansion.word(name), expansion.word(value))
        for name, value in zip(words[::2], words[1::2], strict=True)
    ]


def _env(
    config: ImageConfig, instruction: Instruction, expansion: Expansion
) -> tuple[ImageConfig, str]:
    # All values are expanded with what was before the instruction.
    pairs = pairs_of(instruction, expansion)
    for name, value in pairs:
        if not name:
            raise Invalid("ENV names can not be blank")
        config = with_env(config, name, value)
    return config, "ENV " + " ".join(f"{name}={value}" for name, value in pairs)


def _expose(config: ImageConfig, words: list[str]) -> tuple[ImageConfig, str]:
    found: set[str] = set()
    for word in words:
        # `ip:host:container` is taken and only its last part counts, as Docker does.
        match = _PORT.fullmatch(word.rpartition(":")[2])
        if match is None:
            raise Invalid(f"invalid containerPort: {word}")
        protocol = (match[3] or "tcp").lower()
        first, last = int(match[1]), int(match[2] or match[1])
        if protocol not in ("tcp", "udp", "sctp"):
            raise Invalid(f"invalid proto: {protocol}")
        if not 0 < first <= last <= 65535:
            raise Invalid(f"invalid containerPort: {word}")
        found.update(f"{port}/{protocol}" for port in range(first, last + 1))
    ports = tuple(sorted({*config.exposed_ports, *found}))
    return replace(config, exposed_ports=ports), f"EXPOSE [{' '.join(sorted(found))}]"


def _health(config: ImageConfig, instruction: Instruction) -> tuple[ImageConfig, str]:
    kind, *command = instruction.arguments
    if kind == "NONE":
        health = HealthSpec(test=("NONE",))
    else:
        test = ("CMD", *command) if instruction.form is Form.EXEC else ("CMD-SHELL", *command)
        retries = instruction.flag("retries") or "0"
        count = parse_number(retries.removeprefix("-"))
        if count is None:
            raise Invalid(f"--retries must be a number, not {retries!r}")
        if retries.startswith("-") and count:
            raise Invalid(f"--retries cannot be negative ({retries})")
        health = HealthSpec(
            test=test,
            interval=parse_interval(instruction.flag("interval"), "interval"),
            timeout=parse_interval(instruction.flag("timeout"), "timeout"),
            start_period=parse_interval(instruction.flag("start-period"), "start-period"),
            start_interval=parse_interval(instruction.flag("start-interval"), "start-interval"),
            retries=count,
        )
    durations = " ".join(
        f'"{render_duration(value)}"'
        for value in (health.interval, health.timeout, health.start_period, health.start_interval)
    )
    retried = f"'\\x{health.retries:02x}'"
    text = f"HEALTHCHECK &{{{go_list(health.test)} {durations} {retried}}}"
    return replace(config, health=health), text
