"""An image's configuration: its JSON to `model.images` and back.

Source: OCI image specification 1.1, config.md, and the Docker image specification 1.2. The bytes
are an image's identity, so they are kept as they came; `encode_config` is only for new images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from wherry.model.containers import HealthSpec
from wherry.model.errors import Invalid, Unsupported
from wherry.model.ids import Digest
from wherry.model.images import HistoryEntry, ImageConfig, Platform
from wherry.model.machines import architecture_of, host_architecture

LARGEST_CONFIG = 4 << 20
"""Bytes; a configuration beyond it is refused unread."""
_MOST_LAYERS = 4096

Strings = list[str] | None
Words = list[str] | str | None
_Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Health(msgspec.Struct, rename="pascal", omit_defaults=True):
    test: Strings = None
    interval: _Nanoseconds = 0
    timeout: _Nanoseconds = 0
    start_period: _Nanoseconds = 0
    start_interval: _Nanoseconds = 0
    retries: _Nanoseconds = 0


class _Config(msgspec.Struct, rename="pascal", omit_defaults=True):
    user: str | None = ""
    exposed_ports: dict[str, Any] | None = None
    env: Strings = None
    entrypoint: Words = None
    cmd: Words = None
    healthcheck: _Health | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = ""
    labels: dict[str, str] | None = None
    stop_signal: str | None = ""
    on_build: Strings = None
    shell: Strings = None


class _History(msgspec.Struct, omit_defaults=True):
    created: str | None = ""
    created_by: str | None = ""
    author: str | None = ""
    comment: str | None = ""
    empty_layer: bool | None = False


class _RootFs(msgspec.Struct):
    type: str
    diff_ids: Strings


class _Image(msgspec.Struct, omit_defaults=True):
    rootfs: _RootFs
    architecture: str | None = ""
    author: str | None = ""
    comment: str | None = ""
    config: _Config | None = None
    container: str | None = ""
    created: str | None = ""
    history: list[_History] | None = None
    os: str | None = ""
    variant: str | None = ""


_decoder = msgspec.json.Decoder(_Image)
_encoder = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a configuration blob says."""

    config: ImageConfig
    diff_ids: tuple[Digest, ...]
    platform: Platform
    created: str = ""
    author: str = ""
    comment: str = ""
    history: tuple[HistoryEntry, ...] = ()
    container: str = ""
    """The container that it was committed from, if any."""


def host_platform() -> Platform:
    """Return what images made or chosen here run on."""
    return Platform("linux", *host_architecture())


def parse_platform(text: str) -> Platform:
    """Return the platform that `os/arch[/variant]` (or one of the two) names; "" is the host's. Raises Invalid."""
    if not text:
        return host_platform()
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(part.replace("_", "").isalnum() for part in parts):
        raise Invalid(f"invalid platform: {text!r}", hint="os/architecture, as linux/amd64")
    host = host_platform()
    if len(parts) == 1 and parts[0] == "linux":
        return host
    if len(parts) == 1:
        parts.insert(0, "linux")
    if parts[0] != "linux":
        raise Unsupported("operating system is not supported")
    architecture, variant = architecture_of(parts[1])
    return Platform("linux", architecture, parts[2] if len(parts) == 3 else variant)


def decode_config(data: bytes, subject: str) -> Configuration:
    """Return what the configuration `data` says; raise Invalid, naming `subject`, where it is malformed."""
    try:
        raw = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid image configuration {subject}: {error}") from error
    if raw.rootfs.type != "layers":
        raise Invalid(f"invalid image configuration {subject}: rootfs is {raw.rootfs.type!r}")
    if raw.os not in ("linux", "", None):
        raise Unsupported(
            f'image operating system "{raw.os}" cannot be used on this platform:'
            " operating system is not supported",
            hint=f"{subject} is not for Linux",
        )
    diff_ids = tuple(Digest.parse(text) for text in raw.rootfs.diff_ids or ())
    history = tuple(_history(entry) for entry in raw.history or ())
    if len(diff_ids) > _MOST_LAYERS:
        raise Invalid(f"invalid image configuration {subject}: {len(diff_ids)} layers")
    filled = sum(not entry.empty_layer for entry in history)
    if filled > len(diff_ids):
        raise Invalid(
            f"invalid image configuration {subject}: history tells of {filled} layers,"
            f" rootfs of {len(diff_ids)}"
        )
    return Configuration(
        config=_image_config(raw.config or _Config()),
        diff_ids=diff_ids,
        platform=Platform(raw.os or "linux", raw.architecture or "", raw.variant or ""),
        created=raw.created or "",
        author=raw.author or "",
        comment=raw.comment or "",
        history=history,
        container=raw.container or "",
    )


def encode_config(made: Configuration) -> bytes:
    """Return the configuration's JSON: compact, keys sorted, the same bytes for the same facts."""
    config = made.config
    health = config.health and _Health(
        test=list(config.health.test),
        interval=config.health.interval,
        timeout=config.health.timeout,
        start_period=config.health.start_period,
        start_interval=config.health.start_interval,
        retries=config.health.retries,
    )
    return _encoder.encode(
        _Image(
            rootfs=_RootFs("layers", [str(digest) for digest in made.diff_ids]),
            architecture=made.platform.architecture,
            author=made.author,
            comment=made.comment,
            config=_Config(
                user=config.user,
                exposed_ports={port: {} for port in config.exposed_ports} or None,
                env=list(config.env) or None,
                entrypoint=None if config.entrypoint is None else list(config.entrypoint),
                cmd=None if config.command is None else list(config.command),
                healthcheck=health,
                volumes={volume: {} for volume in config.volumes} or None,
                working_dir=config.working_dir,
                labels=dict(config.labels) or None,
                stop_signal=config.stop_signal,
                on_build=list(config.on_build) or None,
                shell=list(config.shell) or None,
            ),
            container=made.container,
            created=made.created,
            history=[
                _History(
                    entry.created, entry.created_by, entry.author, entry.comment, entry.empty_layer
                )
                for entry in made.history
            ]
            or None,
            os=made.platform.os,
            variant=made.platform.variant,
        )
    )


def _image_config(raw: _Config) -> ImageConfig:
    health = raw.healthcheck
    return ImageConfig(
        env=tuple(raw.env or ()),
        entrypoint=_words(raw.entrypoint),
        command=_words(raw.cmd),
        working_dir=raw.working_dir or "",
        user=raw.user or "",
        labels=tuple(sorted((raw.labels or {}).items())),
        exposed_ports=tuple(sorted(raw.exposed_ports or ())),
        volumes=tuple(sorted(raw.volumes or ())),
        stop_signal=raw.stop_signal or "",
        health=health
        and HealthSpec(
            test=tuple(health.test or ()),
            interval=health.interval,
            timeout=health.timeout,
            start_period=health.start_period,
            start_interval=health.start_interval,
            retries=health.retries,
        ),
        on_build=tuple(raw.on_build or ()),
        shell=tuple(raw.shell or ()),
    )


def _words(raw: Words) -> tuple[str, ...] | None:
    # Images of the first Docker versions have a plain string here.
    if isinstance(raw, str):
        return (raw,)
    return None if raw is None else tuple(raw)


def _history(raw: _History) -> HistoryEntry:
    return HistoryEntry(
        raw.created or "",
        raw.created_by or "",
        raw.author or "",
        raw.comment or "",
        bool(raw.empty_layer),
    )
