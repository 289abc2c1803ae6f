"""What is mounted in a container that is being made: its own mounts, and what others and the image bring.

Pure. The order is Docker's: --volumes-from first, what is asked for over it, then an anonymous volume for
every target of the image's or the request's volumes that nothing else has taken.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from wherry.model.containers import Container, ContainerSpec, MountKind, MountSpec
from wherry.model.errors import Invalid
from wherry.model.ids import new_id
from wherry.model.images import Image
from wherry.model.volumes import LOCAL, VolumeRequest

_BROUGHT = frozenset({MountKind.VOLUME, MountKind.IMAGE})


@dataclass(frozen=True, slots=True)
class Points:
    """`mounts` are the container's `points`; `requests` the volumes that they name, by target.

    `fill` are the targets whose volume takes the image's content where it is empty.
    """

    mounts: tuple[MountSpec, ...]
    requests: tuple[tuple[str, VolumeRequest], ...]
    fill: frozenset[str]


def uncovered(volumes: Sequence[str], mounts: Iterable[MountSpec]) -> tuple[str, ...]:
    """Return the clean form of those of `volumes` (targets) that no mount takes the place of.

    docker-py names the target of every bind among a container's volumes too. Raises Invalid.
    """
    taken = {mount.target for mount in mounts}
    wanted = dict.fromkeys(map(_clean, volumes))
    return tuple(target for target in wanted if target not in taken)


def _clean(target: str) -> str:
    # A relative one, as some images have, is below the root.
    clean = posixpath.normpath("/" + target.lstrip("/"))
    if clean == "/":
        raise Invalid("invalid specification: destination can't be '/'")
    if "\0" in clean:
        raise Invalid(f"invalid mount path: {target!r} holds a NUL character")
    return clean


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """Return the container that a `--volumes-from` names, and whether it is read-only. Raises Invalid."""
    ref, colon, mode = text.partition(":")
    if not text:
        raise Invalid("volumes-from specification cannot be an empty string")
    if not ref:
        raise Invalid('invalid name or ID supplied: ""')
    words = mode.split(",") if colon else []
    access = [word for word in words if word in ("ro", "rw")]
    labels = [word for word in words if word in ("z", "Z")]
    if len(access) > 1 or len(labels) > 1 or len(access) + len(labels) != len(words):
        raise Invalid(f"invalid mode: {mode}")
    return ref, "ro" in access


def plan_points(
    spec: ContainerSpec,
    image_volumes: Sequence[str],
    find: Callable[[str], Container],
    image: Callable[[str], Image],
) -> Points | None:
    """Return what is mounted, or None where that is just what `spec` asks for.

    `find` and `image` look up what `spec` refers to. Raises Invalid, and what those raise.
    """
    bare = (*spec.image_volumes, *image_volumes)
    if not (bare or spec.volumes_from or any(mount.kind in _BROUGHT for mount in spec.mounts)):
        return None
    points: dict[str, MountSpec] = {}
    requests: dict[str, VolumeRequest] = {}
    fill: set[str] = set()
    for text in spec.volumes_from:
        ref, read_only = parse_volumes_from(text)
        for mount in find(ref).mounts:
            if not mount.legacy_tmpfs:
                points[mount.target] = _inherited(mount, read_only=read_only)
    for mount in spec.mounts:
        requests.pop(mount.target, None)
        points[mount.target] = mount
        if mount.kind is MountKind.IMAGE:
            points[mount.target] = _image(mount, image(mount.source))
        elif mount.kind is MountKind.VOLUME:
            request = _request(mount, spec.volume_driver)
            points[mount.target] = _named(mount, request)
            requests[mount.target] = request
            options = mount.options
            if options is None or not (options.no_copy or options.subpath):
                fill.add(mount.target)
    for target in uncovered(bare, points.values()):
        request = VolumeRequest(driver=spec.volume_driver)
        points[target] = _named(MountSpec(MountKind.VOLUME, target), request)
        requests[target] = request
        fill.add(target)
    return Points(tuple(points.values()), tuple(requests.items()), frozenset(fill))


def _inherited(mount: MountSpec, *, read_only: bool) -> MountSpec:
    return replace(mount, read_only=mount.read_only or read_only, bind_text="", mode="")


def _image(mount: MountSpec, image: Image) -> MountSpec:
    return replace(mount, chain=image.chain, image_id=image.id, read_only=True)


def _request(mount: MountSpec, driver: str) -> VolumeRequest:
    options = mount.options
    if options is None or mount.legacy_bind:
        return VolumeRequest(mount.source, driver)
    return VolumeRequest(mount.source, options.driver, options.labels, options.driver_options)


def _named(mount: MountSpec, request: VolumeRequest) -> MountSpec:
    mode = ""
    if mount.legacy_bind:
        mode = mount.bind_text.split(":", 2)[2] if mount.bind_text.count(":") > 1 else "z"
    elif mount.source or mount.options is not None or mount.bind_text:
        mode = "z"
    return replace(mount, volume=mount.source or new_id(), driver=LOCAL, mode=mode)
