"""`wherry builder du` and `wherry builder prune`."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.listing import filters_query
from wherry.cli.moments import ago
from wherry.cli.session import Session
from wherry.cli.table import align
from wherry.cli.units import human_size
from wherry.client.wire import many
from wherry.model.moments import parse_or_zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


def _du(session: Session, options: Options, _arguments: list[str]) -> int:
    records: list[Object] = session.engine.get("/wherry/build/cache")
    for name, value in options.all("filter"):
        records = [record for record in records if _matches(record, name, value)]
    if options.text("format") == "json":
        for record in records:
            session.line(dumps(record))
        return 0
    if options.on("verbose"):
        for record in records:
            session.line(_pretty(record))
    else:
        rows = [("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED")]
        for record in records:
            mark = "" if not record["Shared"] else "*"
            rows.append(
                (
                    f"{record['ID'][:25]}{mark}",
                    str(not record["InUse"]).lower(),
                    human_size(record["Size"]),
                    _used(record),
                )
            )
        session.line(align("\n".join("\t".join(row) for row in rows)))
    shared = sum(r["Size"] for r in records if r["Shared"])
    total = sum(r["Size"] for r in records)
    free = sum(r["Size"] for r in records if not r["InUse"] and not r["Shared"])
    if shared:
        session.line(f"Shared:\t\t{human_size(shared)}\nPrivate:\t{human_size(total - shared)}")
    session.line(f"Reclaimable:\t{human_size(free)}\nTotal:\t\t{human_size(total)}")
    return 0


def _used(record: Object) -> str:
    return ago(parse_or_zero(record["LastUsedAt"]) / 1e9) if record.get("LastUsedAt") else ""


def _matches(record: Object, name: str, value: str) -> bool:
    if name in ("inuse", "shared"):
        key = {"inuse": "InUse", "shared": "Shared"}[name]
        return record[key] == (value.lower() not in ("0", "false"))
    if name == "private":
        return record["Shared"] != (value.lower() not in ("0", "false"))
    field = {"id": "ID", "type": "Type", "description": "Description"}.get(name)
    if field is None:
        return name == "parent" and value in (record.get("Parents") or ())
    text: str = record[field]
    return (
        text.startswith(value)
        if name == "id"
        else value in text
        if name == "description"
        else text == value
    )


def _pretty(record: Object) -> str:
    lines = [
        ("ID", record["ID"]),
        ("Parents", ", ".join(record.get("Parents") or ())),
        ("Created at", record["CreatedAt"]),
        ("Reclaimable", str(not record["InUse"]).lower()),
        ("Shared", str(record["Shared"]).lower()),
        ("Size", human_size(record["Size"])),
        ("Description", record["Description"]),
        ("Usage count", str(record["UsageCount"])),
        ("Last used", _used(record)),
        ("Type", record["Type"]),
    ]
    return "".join(f"{name + ':':<14}{value}\n" for name, value in lines if value)


def _prune(session: Session, options: Options, _arguments: list[str]) -> int:
    everything = options.on("all")
    what = "all build cache" if everything else "all dangling build cache"
    question = f"WARNING! This will remove {what}.\nAre you sure you want to continue?"
    if not options.on("force") and not session.confirm(question):
        return 1
    query = dict(filters_query(options.all("filter")))
    if everything:
        query["all"] = "1"
    keep = options.number("reserved-space") or options.number("keep-storage")
    if keep:
        query["reserved-space"] = str(keep)
    for name in ("max-used-space", "min-free-space"):
        if options.number(name):
            query[name] = str(options.number(name))
    answer: Object = session.engine.call("POST", "/build/prune", query) or {}
    gone = many(answer, "CachesDeleted")
    if gone:
        session.line("\n".join(["Deleted build cache objects:", *gone, ""]))
    session.line(f"Total reclaimed space: {human_size(answer.get('SpaceReclaimed') or 0)}")
    return 0


_FILTER = Flag("filter", "filter", "Provide filter values", many=True, label="filter")
DU = Command(
    _du,
    "[OPTIONS]",
    "Show what the build cache uses",
    (
        _FILTER,
        Flag("format", "string", "Format output: 'json'"),
        Flag("verbose", "bool", "Provide a more verbose output"),
    ),
    most=0,
)
PRUNE = Command(
    _prune,
    "[OPTIONS]",
    "Remove build cache",
    (
        Flag("all", "bool", "Remove all unused build cache, not just dangling ones", short="a"),
        _FILTER,
        Flag("force", "bool", "Do not prompt for confirmation", short="f"),
        Flag("keep-storage", "bytes", "Amount of disk space to keep for cache"),
        Flag("max-used-space", "bytes", "Most disk space that the cache may keep"),
        Flag("min-free-space", "bytes", "Disk space to be free after pruning"),
        Flag("reserved-space", "bytes", "Amount of disk space to keep for cache"),
    ),
    most=0,
)
