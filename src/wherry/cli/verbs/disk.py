"""`wherry system df`."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import Listing
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.cli.verbs.containers import container_row
from wherry.cli.verbs.images import TITLES as IMAGE_TITLES
from wherry.cli.verbs.images import image_rows
from wherry.client.wire import many, one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Object = dict[str, Any]

_KIND = "*formatter.diskUsageContext"
_COLUMNS = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
_TITLES = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_IMAGE_COLUMNS = (
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    "\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"
)
_CONTAINER_COLUMNS = (
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}"
    "\t{{.Status}}\t{{.Names}}"
)
_CONTAINER_TITLES = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}


def _row(kind: str, total: int, active: int, size: int, free: int) -> Row:
    share = f" ({free * 100 // size}%)" if size > 0 else ""
    fields = {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": f"{human_size(free)}{share}",
    }
    return Row(_KIND, {name: lambda value=value: value for name, value in fields.items()})


def _images(facts: Object) -> Row:
    images: list[Object] = many(facts, "Images")
    size: int = facts.get("LayersSize") or 0
    used = sum(
        image["Size"] - max(image.get("SharedSize", 0), 0)
        for image in images
        if image.get("Containers", 0) > 0
    )
    active = sum(image.get("Containers", 0) > 0 for image in images)
    return _row("Images", len(images), active, size, size - used)


def _containers(facts: Object) -> Row:
    containers: list[Object] = many(facts, "Containers")
    live = ("running", "paused", "restarting")
    size = sum(c.get("SizeRw") or 0 for c in containers)
    free = sum(c.get("SizeRw") or 0 for c in containers if c["State"] not in live)
    active = sum(c["State"] in live for c in containers)
    return _row("Containers", len(containers), active, size, free)


def _volumes(facts: Object) -> Row:
    usages: list[Object] = [one(volume, "UsageData") for volume in many(facts, "Volumes")]
    sizes = [max(usage.get("Size", 0), 0) for usage in usages]
    links = [usage.get("RefCount", 0) for usage in usages]
    free = sum(size for size, link in zip(sizes, links, strict=True) if not link)
    return _row("Local Volumes", len(usages), sum(link > 0 for link in links), sum(sizes), free)


def _cache(facts: Object) -> Row:
    records: list[Object] = many(facts, "BuildCache")
    size = sum(r["Size"] for r in records if not r.get("Shared"))
    free = sum(r["Size"] for r in records if not r.get("Shared") and not r.get("InUse"))
    return _row("Build Cache", len(records), sum(bool(r.get("InUse")) for r in records), size, free)


def _constant(text: str) -> Callable[[], str]:
    return lambda: text


def _verbose(session: Session, facts: Object) -> int:
    images = image_rows(many(facts, "Images"), truncate=True, digests=False)
    containers = [container_row(c, truncate=True) for c in many(facts, "Containers")]
    for container, row in zip(many(facts, "Containers"), containers, strict=True):
        row.fields["Size"] = _constant(human_size(container.get("SizeRw") or 0, 3))
    session.write("Images space usage:\n\n")
    session.write(
        Listing("*formatter.imageContext", _IMAGE_COLUMNS, IMAGE_TITLES).render(images, "")
    )
    session.write("\nContainers space usage:\n\n")
    listing = Listing("*formatter.ContainerContext", _CONTAINER_COLUMNS, _CONTAINER_TITLES)
    session.write(listing.render(containers, ""))
    session.write("\nLocal Volumes space usage:\n\n")
    session.write(_volume_table(facts))
    cache: list[Object] = many(facts, "BuildCache")
    total = sum(record["Size"] for record in cache)
    session.write(f"\nBuild cache usage: {human_size(total)}\n\n")
    titles = ("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED")
    session.write(_aligned([titles]))
    return 0


def _volume_table(facts: Object) -> str:
    rows: list[tuple[str, ...]] = [("VOLUME NAME", "LINKS", "SIZE")]
    for volume in many(facts, "Volumes"):
        usage: Object = one(volume, "UsageData")
        size = human_size(usage["Size"]) if usage.get("Size", -1) >= 0 else "N/A"
        rows.append((volume["Name"], str(usage.get("RefCount", 0)), size))
    return _aligned(rows)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    from wherry.cli.table import align

    return align("\n".join("\t".join(row) for row in rows)) + "\n"


def _df(session: Session, options: Options, _arguments: list[str]) -> int:
    facts: Object = session.engine.get("/system/df")
    if options.on("verbose") and not options.text("format"):
        return _verbose(session, facts)
    rows = [_images(facts), _containers(facts), _volumes(facts), _cache(facts)]
    listing = Listing(_KIND, _COLUMNS, _TITLES)
    session.write(listing.render(rows, options.text("format"), style=session.style()))
    return 0


DISK = Command(
    _df,
    "[OPTIONS]",
    "Show disk usage",
    (
        Flag(
            "format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template"
        ),
        Flag("verbose", "bool", "Show detailed information on space usage", short="v"),
    ),
    most=0,
)
