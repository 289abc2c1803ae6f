"""Images as `images`, `image inspect`, `history`, `rmi` and `prune` show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry.api.versions import Version
from wherry.api.wire.codec import listed, mapped, render_time
from wherry.api.wire.spec import render_health, words
from wherry.model.images import Image, ImageConfig
from wherry.model.moments import parse_or_zero
from wherry.model.views import ImageDeletion

_SECOND = 1_000_000_000
_CONTAINERS_OWN: dict[str, object] = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}
_NO_CONFIG: dict[str, object] = _CONTAINERS_OWN | {
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def render_image_config(config: ImageConfig, version: Version) -> dict[str, object]:
    """Return inspect's Config; before API 1.50 it had the fields that only containers use."""
    answer: dict[str, object] = dict(_CONTAINERS_OWN) if version < (1, 50) else {}
    answer |= {
        "Cmd": words(config.command),
        "Entrypoint": words(config.entrypoint),
        "Env": listed(config.env),
        "Labels": mapped(config.labels),
        "OnBuild": listed(config.on_build),
        "User": config.user,
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.working_dir,
    }
    if config.exposed_ports:
        answer["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.health is not None:
        answer["Healthcheck"] = render_health(config.health)
    if config.shell:
        answer["Shell"] = list(config.shell)
    if config.stop_signal:
        answer["StopSignal"] = config.stop_signal
    return dict(sorted(answer.items()))


def render_image(image: Image, version: Version, layer_root: str) -> dict[str, object]:
    """Return the answer to GET /images/{name}/json; `layer_root` is the folder of unpacked layers."""
    answer: dict[str, object] = {
        "Id": str(image.id),
        "RepoTags": list(image.names),
        "RepoDigests": list(image.repo_digests),
        "Parent": str(image.parent) if image.parent else "",
        "Comment": image.comment,
        "Created": image.created,
    }
    if version < (1, 45):
        answer["ContainerConfig"] = dict(_NO_CONFIG)
    answer |= {"DockerVersion": "", "Author": image.author}
    answer["Architecture"] = image.platform.architecture
    if image.platform.variant:
        answer["Variant"] = image.platform.variant
    answer |= {"Os": image.platform.os, "Size": image.size}
    if version < (1, 44):
        answer["VirtualSize"] = image.size
    return answer | {
        "GraphDriver": {"Data": _graph(image, layer_root), "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": [str(layer.diff_id) for layer in image.layers]},
        "Metadata": {"LastTagTime": render_time(image.last_tagged)},
        "Config": render_image_config(image.config, version),
    }


def _graph(image: Image, layer_root: str) -> dict[str, str] | None:
    folders = [f"{layer_root}/{chain.hex}" for chain in reversed(image.chain)]
    if not folders:
        return None
    answer = {"UpperDir": folders[0]}
    if folders[1:]:
        answer["LowerDir"] = ":".join(folders[1:])
    return answer


def shared_sizes(images: Sequence[Image]) -> dict[str, int]:
    """Return image id to the bytes of its layers that other images have too."""
    users: dict[str, int] = {}
    for image in images:
        for chain in set(image.chain):
            users[str(chain)] = users.get(str(chain), 0) + 1
    return {
        str(image.id): sum(
            layer.size for layer in image.layers if users.get(str(layer.chain_id), 0) > 1
        )
        for image in images
    }


def render_image_item(
    image: Image, version: Version, *, containers: int = -1, shared: int = -1
) -> dict[str, object]:
    """Return one entry of GET /images/json; -1 stands for "not asked"."""
    answer: dict[str, object] = {
        "Containers": containers,
        "Created": parse_or_zero(image.created) // _SECOND,
        "Id": str(image.id),
        "Labels": mapped(image.config.labels),
        "ParentId": str(image.parent) if image.parent else "",
        "RepoDigests": list(image.repo_digests),
        "RepoTags": list(image.names),
        "SharedSize": shared,
        "Size": image.size,
    }
    if version < (1, 44):
        answer["VirtualSize"] = image.size
    if version < (1, 43):
        answer["RepoDigests"] = listed(image.repo_digests) or (
            None if image.names else ["<none>@<none>"]
        )
        answer["RepoTags"] = listed(image.names) or ["<none>:<none>"]
    return answer


def render_history(image: Image, parents: Sequence[Image] = ()) -> list[dict[str, object]]:
    """Return the answer to GET /images/{name}/history, newest first.

    Only the image itself has an id, and those of its `parents` that are here.
    """
    answer = _render_entries(image)
    for one in (image, *parents):
        length = len(_render_entries(one))
        if 0 < length <= len(answer):
            answer[-length] |= {"Id": str(one.id), "Tags": listed(one.names)}
    return answer


def _render_entries(image: Image) -> list[dict[str, object]]:
    layers = list(image.layers)
    answer: list[dict[str, object]] = []
    for entry in image.history:
        size = 0
        if not entry.empty_layer and layers:
            size = layers.pop(0).size
        answer.append(
            {
                "Comment": entry.comment,
                "Created": parse_or_zero(entry.created) // _SECOND,
                "CreatedBy": entry.created_by,
                "Id": "<missing>",
                "Size": size,
                "Tags": None,
            }
        )
    # A configuration without history, or with less of it than layers, still has its layers.
    for layer in layers:
        answer.append(
            {
                "Comment": "",
                "Created": parse_or_zero(image.created) // _SECOND,
                "CreatedBy": "",
                "Id": "<missing>",
                "Size": layer.size,
                "Tags": None,
            }
        )
    answer.reverse()
    return answer


def render_deletions(deletions: Sequence[ImageDeletion]) -> list[Mapping[str, str]]:
    """Return rmi's answer, a line each."""
    lines: list[Mapping[str, str]] = []
    for entry in deletions:
        if entry.untagged:
            lines.append({"Untagged": entry.untagged})
        if entry.deleted:
            lines.append({"Deleted": entry.deleted})
    return lines
