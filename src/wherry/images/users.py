"""Who uses images: what `images` needs to know of containers, satisfied by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry.model.ids import Digest


@dataclass(frozen=True, slots=True)
class Use:
    """One container made from an image; `running` counts paused and restarting ones in."""

    container_id: str
    running: bool


class Users(Protocol):
    """The containers there are, by image."""

    def image_users(self) -> Mapping[Digest, Sequence[Use]]:
        """Return the containers made from each image, by image id."""
        ...
