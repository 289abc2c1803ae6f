"""`system df -v`: every image, container, volume and piece of build cache with what it takes."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.gojson import dumps
from wherry.cli.listing import Listing
from wherry.cli.moments import ago, go_moment
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.cli.verbs.containers import container_row
from wherry.cli.verbs.images import TITLES as IMAGE_TITLES
from wherry.cli.verbs.images import image_rows
from wherry.cli.verbs.volumes import TITLES as VOLUME_TITLES
from wherry.cli.verbs.volumes import volume_row
from wherry.client.wire import many
from wherry.model.moments import parse_or_zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Object = dict[str, Any]

_IMAGES = Listing(
    "*formatter.imageContext",
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    "\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    IMAGE_TITLES,
)
_CONTAINERS = Listing(
    "*formatter.ContainerContext",
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}"
    "\t{{.Status}}\t{{.Names}}",
    {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "LocalVolumes": "LOCAL VOLUMES",
        "Size": "SIZE",
        "RunningFor": "CREATED",
        "Status": "STATUS",
        "Names": "NAMES",
    },
)
_VOLUMES = Listing("*formatter.volumeContext", "{{.Name}}\t{{.Links}}\t{{.Size}}", VOLUME_TITLES)
_CACHE = Listing(
    "*formatter.buildCacheContext",
    "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}"
    "\t{{.UsageCount}}\t{{.Shared}}",
    {
        "ID": "CACHE ID",
        "CacheType": "CACHE TYPE",
        "Size": "SIZE",
        "CreatedSince": "CREATED",
        "LastUsedSince": "LAST USED",
        "UsageCount": "USAGE",
        "Shared": "SHARED",
    },
)


def _constant(text: str) -> Callable[[], str]:
    return lambda: text


def _rows(facts: Object, *, truncate: bool) -> dict[str, list[Row]]:
    """Return the rows of `GET /system/df` by kind."""
    images: list[Object] = []
    for image in many(facts, "Images"):
        # One row an image, under the first of its names.
        names = {"RepoTags": many(image, "RepoTags")[:1], "RepoDigests": []}
        images.append({**image, **names})
    shown = image_rows(images, truncate=truncate, digests=False)
    for row in shown:
        row.fields["Digest"] = _constant("")
    containers: list[Row] = []
    for container in many(facts, "Containers"):
        row = container_row(container, truncate=truncate)
        row.fields["Size"] = _constant(human_size(container.get("SizeRw") or 0, 3))
        containers.append(row)
    return {
        "Images": shown,
        "Containers": containers,
        "Volumes": [volume_row(volume) for volume in many(facts, "Volumes")],
        "BuildCache": [_cache_row(r, truncate=truncate) for r in many(facts, "BuildCache")],
    }


def _cache_row(record: Object, *, truncate: bool) -> Row:
    identifier: str = record["ID"][:12] if truncate else record["ID"]
    created = parse_or_zero(record.get("CreatedAt") or "") / 10**9
    used = parse_or_zero(record.get("LastUsedAt") or "") / 10**9
    return Row(
        _CACHE.kind,
        {
            "ID": lambda: f"{identifier}*" if record.get("InUse") else identifier,
            "Parent": lambda: ", ".join(many(record, "Parents")) or record.get("Parent") or "",
            "CacheType": lambda: record.get("Type") or "",
            "Description": lambda: record.get("Description") or "",
            "InUse": lambda: "true" if record.get("InUse") else "false",
            "Shared": lambda: "true" if record.get("Shared") else "false",
            "CreatedAt": lambda: go_moment(record.get("CreatedAt") or ""),
            "CreatedSince": lambda: ago(created) if created else "",
            "LastUsedAt": lambda: go_moment(record.get("LastUsedAt") or ""),
            "LastUsedSince": lambda: ago(used) if used else "",
            "Size": lambda: human_size(record.get("Size") or 0, 3),
            "UsageCount": lambda: str(record.get("UsageCount") or 0),
        },
    )


def render_tables(facts: Object) -> str:
    """Return the answer of `GET /system/df` as four tables."""
    rows = _rows(facts, truncate=True)
    total = sum(r.get("Size") or 0 for r in many(facts, "BuildCache") if not r.get("Shared"))
    parts = [
        "Images space usage:\n\n",
        _IMAGES.render(rows["Images"], ""),
        "\nContainers space usage:\n\n",
        _CONTAINERS.render(rows["Containers"], ""),
        "\nLocal Volumes space usage:\n\n",
        _VOLUMES.render(rows["Volumes"], ""),
        f"\nBuild cache usage: {human_size(total)}\n\n",
        _CACHE.render(rows["BuildCache"], ""),
    ]
    return "".join(parts)


def render_template(facts: Object, form: str) -> str:
    """Return it through a template, which has Images, Containers, Volumes and BuildCache; or as JSON."""
    from wherry.cli.template.evaluate import evaluate
    from wherry.cli.template.lexer import TemplateError
    from wherry.cli.template.syntax import parse

    found = _rows(facts, truncate=False)
    if form == "json":
        plain = {name: [row.values() for row in rows] for name, rows in found.items()}
        return dumps(plain, html=True)
    value = Row("*formatter.diskUsageContext", {name: _kept(rows) for name, rows in found.items()})
    try:
        return evaluate(parse(form), value)
    except TemplateError as error:
        raise Failure(error.text) from None


def _kept(rows: list[Row]) -> Callable[[], list[Row]]:
    return lambda: rows
