"""`images --tree`: every image, and below it what it has for each platform."""

from __future__ import annotations

from wherry.cli.table import align
from wherry.cli.units import human_size
from wherry.client.wire import many, one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.style import Style

    Object = dict[str, Any]

_TITLES = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
_WIDEST = 40
_IN_USE = "U"


def render_tree(images: list[Object], style: Style, *, everything: bool) -> str:
    """Return the elements of `GET /images/json?manifests=1` as a tree, the newest first.

    An image without a name is left out unless `everything` is asked for.
    """
    rows: list[tuple[str, ...]] = []
    above: dict[int, list[str]] = {}
    """The names that are too long for the column, or more than one, by the row they stand above."""
    for image in sorted(images, key=lambda facts: -facts["Created"]):
        names: list[str] = many(image, "RepoTags")
        if not names and not everything:
            continue
        names = sorted(names, key=len, reverse=True) or ["<untagged>"]
        shown = names.pop() if len(names[-1]) <= _WIDEST else ""
        above[len(rows)] = names
        rows.append((shown, *_image(image)))
        rows += _children(many(image, "Manifests"))
    head, *lines = align("\n".join("\t".join(row) for row in [_TITLES, *rows])).split("\n")
    out = [style("1", head)]
    for at, line in enumerate(lines):
        out += above.get(at, [])
        out.append(line)
    return "\n".join(text.rstrip() for text in out) + "\n"


def _image(image: Object) -> tuple[str, ...]:
    manifests: list[Object] = many(image, "Manifests")
    content = sum(one(found, "Size").get("Content") or 0 for found in manifests)
    used = (image.get("Containers") or 0) > 0 or any(map(_containers, manifests))
    return (
        image["Id"].removeprefix("sha256:")[:12],
        human_size(image["Size"], 3),
        human_size(content, 3),
        _IN_USE if used else "",
    )


def _children(manifests: list[Object]) -> list[tuple[str, ...]]:
    found = [manifest for manifest in manifests if manifest.get("Kind") == "image"]
    rows: list[tuple[str, ...]] = []
    for at, manifest in enumerate(found):
        platform: Object = one(one(manifest, "ImageData"), "Platform")
        words = (platform.get(key) for key in ("os", "architecture", "variant"))
        branch = "└─" if at == len(found) - 1 else "├─"
        size: Object = one(manifest, "Size")
        rows.append(
            (
                f"{branch} {'/'.join(word for word in words if word)}",
                manifest["ID"].removeprefix("sha256:")[:12],
                human_size(size.get("Total") or 0, 3),
                human_size(size.get("Content") or 0, 3),
                _IN_USE if _containers(manifest) else "",
            )
        )
    return rows


def _containers(manifest: Object) -> list[str]:
    return many(one(manifest, "ImageData"), "Containers")
