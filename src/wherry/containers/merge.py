"""A container's specification with the image's configuration merged in, by Docker's rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from wherry.model.containers import ContainerSpec, HealthSpec, Pairs
from wherry.model.errors import Invalid
from wherry.model.images import ImageConfig

DEFAULT_STOP_SIGNAL = "SIGTERM"


@dataclass(frozen=True, slots=True)
class Merged:
    """What of `Container` comes from both sides. `spec` bears the entrypoint and command in force."""

    spec: ContainerSpec
    argv: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str
    labels: Pairs


def merge(spec: ContainerSpec, image: ImageConfig) -> Merged:
    """Return what a container of `spec` made from an image with this configuration is.

    The image's SHELL is for builds only: Docker's containers do not get it, nor do their health checks.
    Raises Invalid where there is nothing to run.
    """
    entrypoint, command = spec.entrypoint, spec.command
    if not entrypoint:
        if not command:
            command = image.command
        # An empty list is none at all, null is the image's.
        if entrypoint is None:
            entrypoint = image.entrypoint
    # docker run --entrypoint "" sends [""]: none at all.
    if entrypoint == ("",):
        entrypoint = ()
    argv = (*(entrypoint or ()), *(command or ()))
    if not argv:
        raise Invalid("no command specified")
    ports = dict.fromkeys((*spec.exposed_ports, *image.exposed_ports))
    volumes = dict.fromkeys((*spec.image_volumes, *image.volumes))
    health = spec.health or image.health
    if spec.health and image.health:
        health = _merge_health(spec.health, image.health)
    labels = tuple((dict(image.labels) | dict(spec.labels)).items())
    env = merge_env(image.env, spec.env)
    return Merged(
        spec=replace(
            spec,
            entrypoint=spec.entrypoint if spec.entrypoint == () else entrypoint or None,
            command=command,
            exposed_ports=tuple(ports),
            image_volumes=tuple(volumes),
            stop_signal=spec.stop_signal or image.stop_signal,
            health=health,
        ),
        argv=argv,
        env=env,
        working_dir=spec.working_dir or image.working_dir,
        user=spec.user or image.user,
        stop_signal=spec.stop_signal or image.stop_signal or DEFAULT_STOP_SIGNAL,
        labels=labels,
    )


def _merge_health(own: HealthSpec, image: HealthSpec) -> HealthSpec:
    """Return `own` with the image's word wherever it says nothing."""
    return HealthSpec(
        test=own.test or image.test,
        interval=own.interval or image.interval,
        timeout=own.timeout or image.timeout,
        start_period=own.start_period or image.start_period,
        start_interval=own.start_interval or image.start_interval,
        retries=own.retries or image.retries,
    )


def merge_env(base: Iterable[str], over: Iterable[str]) -> tuple[str, ...]:
    """Return `over` followed by what `base` has beside it, as Docker orders them.

    An entry without `=` stays: it takes the variable away when the process is started.
    """
    wanted = tuple(over)
    names = {entry.partition("=")[0] for entry in wanted}
    return wanted + tuple(entry for entry in base if entry.partition("=")[0] not in names)


def process_env(*layers: Iterable[str]) -> tuple[str, ...]:
    """Return NAME=VALUE entries; a later layer wins in place, an entry without `=` removes the name."""
    values: dict[str, str] = {}
    for layer in layers:
        for entry in layer:
            name, equals, value = entry.partition("=")
            if equals:
                values[name] = value
            else:
                values.pop(name, None)
    return tuple(f"{name}={value}" for name, value in values.items())
