"""dockerd's options that wherryd knows and does not honour, each with the reason that is told.

A value that asks for what is so anyway is let pass, any other is an error: nothing is silently ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from wherry.model.errors import Unsupported

_CONTAINERD = "wherry runs containers by itself, there is no containerd"
_SWARM = "this engine is never part of a swarm"
_RUNTIME = "wherry has a runtime of its own and starts no other"
_REALTIME = "real-time scheduling is given to no container"
_CDI = "devices are given with --device, CDI is not spoken"


@dataclass(frozen=True, slots=True)
class Refused:
    """An option; `flag` or `key` is empty where dockerd has it only the other way."""

    flag: str
    key: str
    reason: str
    passes: tuple[str, ...] = ()
    """Values that ask for nothing, as texts. Those of daemon.json that are empty, 0 or false do too."""
    switch: bool = False

    def check(self, said: str, value: object) -> None:
        """Raise Unsupported unless `value`, a text, or what daemon.json holds, asks for nothing."""
        for one in _texts(value):
            if one not in ("", "0", "false", *self.passes):
                raise Unsupported(f"{said}: {one} cannot be honoured: {self.reason}")


def _texts(value: object) -> list[str]:
    match value:
        case bool():
            return [str(value).lower()]
        case None:
            return []
        case dict():
            pairs = cast(Mapping[str, object], value).items()
            return [f"{key}={_texts(one)[-1] if _texts(one) else ''}" for key, one in pairs]
        case list() | tuple():
            return [text for one in cast(list[object], value) for text in _texts(one)]
        case _:
            return [str(value)]


REFUSED = (
    Refused("add-runtime", "runtimes", _RUNTIME),
    Refused("default-runtime", "default-runtime", _RUNTIME, ("runc", "wherry")),
    Refused("authorization-plugin", "authorization-plugins", "there are no plugins"),
    Refused("cdi-spec-dir", "cdi-spec-dirs", _CDI),
    Refused("containerd", "containerd", _CONTAINERD),
    Refused("containerd-namespace", "containerd-namespace", _CONTAINERD, ("moby",)),
    Refused(
        "containerd-plugins-namespace",
        "containerd-plugins-namespace",
        _CONTAINERD,
        ("plugins.moby",),
    ),
    Refused("cri-containerd", "cri-containerd", _CONTAINERD, switch=True),
    Refused("cpu-rt-period", "cpu-rt-period", _REALTIME),
    Refused("cpu-rt-runtime", "cpu-rt-runtime", _REALTIME),
    Refused(
        "exec-opt",
        "exec-opts",
        "cgroups are made as files, systemd is not asked",
        ("native.cgroupdriver=cgroupfs",),
    ),
    Refused(
        "feature",
        "features",
        "there is no such feature to switch",
        ("buildkit=true", "containerd-snapshotter=false", "cdi=false", "time-namespaces=false"),
    ),
    Refused("network-control-plane-mtu", "network-control-plane-mtu", _SWARM, ("1500",)),
    Refused("node-generic-resource", "node-generic-resources", _SWARM),
    Refused("swarm-default-advertise-addr", "swarm-default-advertise-addr", _SWARM),
    Refused("rootless", "", "wherryd is root, and containers have ids of their own", switch=True),
    Refused("selinux-enabled", "selinux-enabled", "SELinux labels are not set", switch=True),
    Refused("storage-opt", "storage-opts", "overlay2 is used as it is"),
    Refused(
        "userland-proxy-path",
        "userland-proxy-path",
        "no port has a proxy",
        ("/usr/bin/docker-proxy", "/usr/sbin/docker-proxy"),
    ),
    Refused("", "builder", "the build cache is pruned with `builder prune`"),
    Refused("", "oom-score-adjust", "systemd's OOMScoreAdjust= says it"),
)
REFUSED_FLAGS = {one.flag: one for one in REFUSED if one.flag}
REFUSED_KEYS = {one.key: one for one in REFUSED if one.key}
