"""An image: its configuration, its layers, its names. Source: OCI image specification 1.1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from wherry.model.containers import HealthSpec, Pairs
from wherry.model.errors import NotFound
from wherry.model.ids import Digest


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def serves(self, wanted: Platform) -> bool:
        """Whether what is made for this is for `wanted` too, which may leave the variant open."""
        same = (self.os, self.architecture) == (wanted.os, wanted.architecture)
        return same and wanted.variant in ("", self.variant)


class WrongPlatform(NotFound):
    """The image is here, and for another platform."""

    def __init__(self, ref: str, have: Platform, wanted: Platform) -> None:
        super().__init__("image", ref)
        self.message = (
            f"image with reference {ref} was found but its platform ({have}) does not match the "
            f"specified platform ({wanted})"
        )


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of `docker history`; `created` is RFC 3339 text as in the configuration."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image asks of containers made from it."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    working_dir: str = ""
    user: str = ""
    labels: Pairs = ()
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    health: HealthSpec | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its uncompressed digest, the blob it came as, and the chain id of its snapshot."""

    diff_id: Digest
    chain_id: Digest
    blob: Digest
    media_type: str
    blob_size: int
    """Bytes of the blob."""
    size: int
    """Bytes on disk once unpacked."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image as the store keeps it. `id` is the digest of the configuration's bytes, as Docker's is."""

    id: Digest
    manifest: Digest
    config: ImageConfig
    layers: tuple[Layer, ...]
    created: str = ""
    """RFC 3339, as in the configuration; may be empty."""
    platform: Platform = field(default_factory=Platform)
    author: str = ""
    comment: str = ""
    history: tuple[HistoryEntry, ...] = ()
    names: tuple[str, ...] = ()
    """Familiar names with tags: `debian:bookworm-slim`."""
    repo_digests: tuple[str, ...] = ()
    parent: Digest | None = None
    last_tagged: int = 0
    """Nanoseconds since the epoch."""

    @property
    def size(self) -> int:
        """Bytes of all layers on disk."""
        return sum(layer.size for layer in self.layers)

    @property
    def chain(self) -> tuple[Digest, ...]:
        """The layers' chain ids, base first."""
        return tuple(layer.chain_id for layer in self.layers)


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return the chain id of each prefix of `diff_ids` (OCI image-spec, config.md, Layer ChainID).

    All are sha256: by a base's that is not, one is made of it, since layers are kept by them.
    """
    chains: list[Digest] = []
    for diff in diff_ids:
        if not chains:
            chains.append(diff if diff.algorithm == "sha256" else Digest.of(str(diff).encode()))
            continue
        text = f"{chains[-1]} {diff}".encode()
        chains.append(Digest.of(text))
    return tuple(chains)
