"""Volumes on the wire. Source: Engine API v1.51, Volume, VolumeCreateOptions, VolumePruneResponse."""

from __future__ import annotations

from wherry.api.wire.bodies import VolumeBody
from wherry.api.wire.codec import decode, optional_pairs, render_time
from wherry.model.errors import Unavailable
from wherry.model.volumes import VolumeRequest, VolumeView

_SECOND = 1_000_000_000
NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)


def parse_volume(body: bytes) -> VolumeRequest:
    """Return what POST /volumes/create asks for: without a body, a volume without a name.

    Raises Invalid, Unavailable for a cluster's volume.
    """
    wanted = decode(VolumeBody, body or b"{}")
    if wanted.ClusterVolumeSpec is not None:
        raise Unavailable(NO_SWARM)
    return VolumeRequest(
        name=wanted.Name or "",
        driver=wanted.Driver or "",
        labels=optional_pairs(wanted.Labels),
        options=optional_pairs(wanted.DriverOpts),
    )


def render_volume(view: VolumeView) -> dict[str, object]:
    """Return one volume, in Docker's order; UsageData only where it was measured."""
    volume = view.volume
    answer: dict[str, object] = {
        "CreatedAt": render_time(volume.created // _SECOND * _SECOND),
        "Driver": volume.driver,
        "Labels": None if volume.labels is None else dict(volume.labels),
        "Mountpoint": view.mountpoint,
        "Name": volume.name,
        "Options": None if volume.options is None else dict(volume.options),
        "Scope": "local",
    }
    if view.users >= 0:
        answer["UsageData"] = {"RefCount": view.users, "Size": view.size}
    return answer
