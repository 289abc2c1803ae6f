"""Archives of the time before Docker 1.10: `repositories`, and a folder for each layer with its JSON.

Source: Docker image specification 1.0. Such an image has no configuration of today's kind, so one is
made of its top layer's JSON; the same archive always gives the same id.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from wherry.images.archive.docker import stored_layer
from wherry.images.archive.found import Found
from wherry.images.archive.spool import Spool
from wherry.images.config import LARGEST_CONFIG, decode_config
from wherry.images.intake import Intake
from wherry.model.errors import Invalid
from wherry.model.ids import Reference

REPOSITORIES = "repositories"
_LAYER_ID = re.compile(r"[0-9a-f]{64}")
_DEEPEST = 512
_OF_THE_LAYER = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway", "container")

_Json = dict[str, Any]


def find_images(spool: Spool, intake: Intake) -> list[Found]:
    """Return the images that `repositories` names. Raises Invalid."""
    raw = spool.read(REPOSITORIES, LARGEST_CONFIG)
    try:
        repositories = msgspec.json.decode(raw, type=dict[str, dict[str, str]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid {REPOSITORIES}: {error}") from error
    tops: dict[str, list[Reference]] = {}
    for repository, tags in sorted(repositories.items()):
        for tag, layer in sorted(tags.items()):
            tops.setdefault(layer, []).append(Reference.parse(f"{repository}:{tag}"))
    return [_find(spool, intake, top, references) for top, references in tops.items()]


def _find(spool: Spool, intake: Intake, top: str, references: list[Reference]) -> Found:
    chain: list[tuple[str, _Json]] = []
    identifier: str = top
    while identifier:
        if not _LAYER_ID.fullmatch(identifier):
            raise Invalid(f"invalid layer id in the archive: {identifier!r}")
        if len(chain) >= _DEEPEST or any(identifier == known for known, _ in chain):
            raise Invalid(f"layer {identifier}: parents that lead in circles or too deep")
        described = _read(spool, identifier)
        chain.append((identifier, described))
        parent = described.get("parent") or ""
        if not isinstance(parent, str):
            raise Invalid(f"{identifier}/json: its parent is no id")
        identifier = parent
    chain.reverse()
    layers = tuple(stored_layer(spool, f"{name}/layer.tar", None, intake) for name, _ in chain)
    config: _Json = {key: value for key, value in chain[-1][1].items() if key not in _OF_THE_LAYER}
    config["rootfs"] = {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]}
    config["history"] = [_history(described) for _, described in chain]
    data = msgspec.json.encode(config, order="sorted")
    decode_config(data, f"{top}/json")
    return Found(data, layers, tuple(references))


def _read(spool: Spool, identifier: str) -> _Json:
    name = f"{identifier}/json"
    try:
        return msgspec.json.decode(spool.read(name, LARGEST_CONFIG), type=_Json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid {name}: {error}") from error


def _history(described: _Json) -> _Json:
    made_in: object = described.get("container_config")
    command: object = None
    if isinstance(made_in, dict):
        command = msgspec.convert(made_in, _Json, strict=False).get("Cmd")
    words = [str(word) for word in msgspec.convert(command, list[Any])] if command else []
    facts = {
        "created": described.get("created"),
        "created_by": " ".join(words),
        "author": described.get("author"),
        "comment": described.get("comment"),
    }
    return {key: value for key, value in facts.items() if value}
