"""`wherry system df`."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import FORMAT, Listing
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.client.wire import many, one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_KIND = "*formatter.diskUsageImagesContext"
_COLUMNS = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
_TITLES = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_RAW = """type: {{.Type}}
total: {{.TotalCount}}
active: {{.Active}}
size: {{.Size}}
reclaimable: {{.Reclaimable}}
"""


def _row(kind: str, total: int, active: int, size: int, free: int, *, share: bool = True) -> Row:
    part = f" ({free * 100 // size}%)" if share and size > 0 else ""
    fields = {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": f"{human_size(free)}{part}",
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
    active = sum(bool(record.get("InUse")) for record in records)
    # Docker's client tells no share of this one.
    return _row("Build Cache", len(records), active, size, free, share=False)


def _df(session: Session, options: Options, _arguments: list[str]) -> int:
    form = options.text("format")
    facts: Object = session.engine.get("/system/df")
    if options.on("verbose"):
        from wherry.cli import disk_details

        if form in ("", "table"):
            session.write(disk_details.render_tables(facts))
        else:
            session.write(disk_details.render_template(facts, form))
        return 0
    rows = [_images(facts), _containers(facts), _volumes(facts), _cache(facts)]
    listing = Listing(_KIND, _COLUMNS, _TITLES, raw=_RAW)
    session.write(listing.render(rows, form, style=session.style()))
    return 0


DISK = Command(
    _df,
    "[OPTIONS]",
    "Show disk usage",
    (
        FORMAT,
        Flag("verbose", "bool", "Show detailed information on space usage", short="v"),
    ),
    most=0,
)
