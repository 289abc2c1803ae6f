"""From a tag or digest to the one image that it is for a platform: manifest, configuration, layers' blobs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.images.config import LARGEST_CONFIG, Configuration, decode_config
from wherry.images.manifests import Descriptor, Manifest, choose, decode_index, decode_manifest
from wherry.images.unpack import LayerBlob
from wherry.model.errors import Invalid, NotFound, Unsupported, WherryError
from wherry.model.ids import Digest
from wherry.model.images import Platform
from wherry.registry.answers import Fetched, WrongContent
from wherry.registry.client import Repository
from wherry.registry.media import DOCKER_SCHEMA_1, INDEXES, MANIFESTS, is_layer
from wherry.storage.content import ContentStore

_DEEPEST = 4
MOST_LAYERS = 500
"""What one overlay mount can stack (fs/overlayfs/params.h, OVL_MAX_STACK)."""
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}


@dataclass(frozen=True, slots=True)
class Found:
    """One image in a registry."""

    top: Fetched
    """What the tag or digest stands for: the manifest, or an index that leads to it."""
    manifest: Fetched
    parsed: Manifest
    image_id: Digest
    """The sha256 of the configuration, whatever the manifest names it by."""
    config_bytes: bytes
    config: Configuration
    layers: tuple[LayerBlob, ...]


def parse_platform(text: str) -> Platform:
    """Return the platform `os/architecture[/variant]`. Raises Invalid with Docker's words."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
        raise Invalid(f'"{text}" is an invalid OS/architecture specifier: unknown operating system')
    if len(parts) == 1:
        parts = ["linux", parts[0]] if parts[0] != "linux" else ["linux", "amd64"]
    variant = parts[2] if len(parts) == 3 else "v7" if parts[1] == "armhf" else ""
    return Platform(parts[0], _ALIASES.get(parts[1], parts[1]), variant)


def platform_name(platform: Platform) -> str:
    """Return `os/architecture[/variant]`."""
    parts = (platform.os, platform.architecture, platform.variant)
    return "/".join(part for part in parts if part)


def find_image(
    repository: Repository, top: Fetched, wanted: Platform, content: ContentStore
) -> Found:
    """Return the image that `top` is, or leads to, for `wanted`; a configuration in `content` is not fetched.

    Raises NotFound with Docker's words where no entry fits; Invalid for what is no image; Refused,
    WrongContent and what fetching raises.
    """
    manifest = _descend(repository, top, wanted)
    subject = str(manifest.digest)
    parsed = decode_manifest(manifest.data, subject)
    if len(parsed.layers) > MOST_LAYERS:
        raise Invalid(
            f"max depth exceeded: manifest {subject} has {len(parsed.layers)} layers,"
            f" more than {MOST_LAYERS}"
        )
    digest = Digest.parse(parsed.config.digest)
    try:
        data = content.read(digest, limit=LARGEST_CONFIG)
    except NotFound:
        data = fetch_blob(repository, digest, parsed.config.size, LARGEST_CONFIG)
    config = decode_config(data, str(digest))
    if len(config.diff_ids) != len(parsed.layers):
        raise Invalid(
            f"manifest {subject} lists {len(parsed.layers)} layers,"
            f" its configuration {len(config.diff_ids)}"
        )
    layers: list[LayerBlob] = []
    for layer, diff in zip(parsed.layers, config.diff_ids, strict=True):
        if not is_layer(layer.media_type):
            raise Invalid(f"layer {layer.digest} is {layer.media_type!r}, not a layer archive")
        layers.append(LayerBlob(Digest.parse(layer.digest), layer.size, layer.media_type, diff))
    image_id = digest if digest.algorithm == "sha256" else Digest.of(data)
    return Found(top, manifest, parsed, image_id, data, config, tuple(layers))


def fetch_blob(repository: Repository, digest: Digest, size: int, limit: int) -> bytes:
    """Return a small blob, verified. Raises Invalid beyond `limit` bytes, WrongContent, Refused."""
    if size > limit:
        raise Invalid(f"blob {digest} has {size} bytes, more than {limit}")
    answer = repository.blob(digest).answer
    try:
        data = answer.read_all(size + 1)
    except WherryError:
        answer.close()
        raise
    found = Digest.of(data, digest.algorithm)
    if len(data) != size or found != digest:
        raise WrongContent(f"blob {digest}: its content is {found}, {len(data)} bytes")
    return data


def _descend(repository: Repository, top: Fetched, wanted: Platform) -> Fetched:
    fetched = top
    above: set[Digest] = set()
    while fetched.media_type not in MANIFESTS:
        if fetched.media_type in DOCKER_SCHEMA_1:
            raise Unsupported(
                f"manifest {fetched.digest} is of Docker's schema 1, which is no longer supported",
                hint="push the image again with a newer client",
            )
        if fetched.media_type not in INDEXES and not _looks_like_index(fetched):
            raise Invalid(
                f"{fetched.digest} is no image: its media type is {fetched.media_type!r}",
                hint="artifacts are for other tools",
            )
        above.add(fetched.digest)
        entry = choose_entry(decode_index(fetched.data, str(fetched.digest)), wanted)
        digest = Digest.parse(entry.digest)
        if digest in above or len(above) > _DEEPEST:
            raise Invalid(f"image index {top.digest}: indexes that lead in circles or too deep")
        fetched = repository.manifest(digest)
        if len(fetched.data) != entry.size:
            raise WrongContent(
                f"manifest {digest} has {len(fetched.data)} bytes, its descriptor says {entry.size}"
            )
    return fetched


def choose_entry(entries: list[Descriptor], wanted: Platform) -> Descriptor:
    """Return the index's entry for a platform. Raises NotFound with Docker's words."""
    entry = choose(entries, wanted)
    if entry is None:
        raise NoMatch(
            f"no matching manifest for {platform_name(wanted)} in the manifest list entries"
        )
    return entry


class NoMatch(NotFound):
    """An index has no image for the platform."""

    def __init__(self, message: str) -> None:
        super().__init__("manifest", "")
        self.message = message
        self.args = (message,)


def _looks_like_index(fetched: Fetched) -> bool:
    """Whether a manifest that a registry serves without a type is an index."""
    return fetched.media_type in ("", "application/json", "text/plain") and (
        b'"manifests"' in fetched.data
    )
