"""How one image came about: what provenance is written from. Frozen facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wherry.build.steps import FromImage, Graph
from wherry.model.build import BuildRequest
from wherry.model.images import Image, Platform


@dataclass(frozen=True, slots=True)
class Made:
    """How one image came about. Times are nanoseconds."""

    request: BuildRequest
    """For one platform."""
    graph: Graph
    images: Mapping[FromImage, Image]
    host: Platform
    build_id: str
    began: int
    ended: int
