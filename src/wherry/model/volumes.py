"""A volume: a directory, or a file system mounted on demand, that outlives containers.

Source: Engine API v1.51, Volume and VolumeCreateOptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from wherry.model.containers import Pairs

LOCAL = "local"
ANONYMOUS = "com.docker.volume.anonymous"
"""The label that tells a volume which nobody named; `volume prune` goes by it."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume. Labels and options are None where none were asked for, as they are shown again."""

    name: str
    created: int
    """Nanoseconds since the epoch."""
    labels: Pairs | None = None
    options: Pairs | None = None
    driver: str = LOCAL

    @property
    def anonymous(self) -> bool:
        """Whether nobody gave it its name."""
        return any(key == ANONYMOUS for key, _ in self.labels or ())


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """What is wanted of a volume that may be there already. An empty name asks for an anonymous one."""

    name: str = ""
    driver: str = ""
    labels: Pairs | None = None
    options: Pairs | None = None


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume as it is shown: `mountpoint` is where its content is, or would be mounted."""

    volume: Volume
    mountpoint: str
    size: int = -1
    """Bytes; -1 where it was not asked for or cannot be told."""
    users: int = -1
    """Containers that mount it."""
