"""`wherry builder du` and `wherry builder prune`."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import Listing, filters_query
from wherry.cli.moments import ago, query_time
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.client.wire import many
from wherry.model.moments import parse_or_zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


_MUTABLE = ("exec.cachemount", "source.local", "source.git.checkout")
_KIND = "*du.duContext"
_LISTING = Listing(
    _KIND,
    "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}",
    {
        "ID": "ID",
        "Reclaimable": "RECLAIMABLE",
        "Size": "SIZE",
        "LastUsedAt": "LAST ACCESSED",
        "CreatedAt": "CREATED AT",
        "Description": "DESCRIPTION",
        "Mutable": "MUTABLE",
        "Parents": "PARENTS",
        "Shared": "SHARED",
        "Type": "TYPE",
        "UsageCount": "USAGE COUNT",
    },
)


def _du(session: Session, options: Options, _arguments: list[str]) -> int:
    form = options.text("format")
    if options.on("verbose"):
        if form and form != "pretty":
            raise Failure("--format and --verbose cannot be used together")
        form = "pretty"
    records: list[Object] = session.engine.get("/wherry/build/cache")
    for name, value in options.all("filter"):
        records = [record for record in records if _matches(record, name, value)]
    if form == "pretty":
        for record in records:
            session.line(_pretty(record))
    elif form and not form.startswith("table"):
        session.write(_LISTING.render([_row(record) for record in records], form))
        return 0
    else:
        marked = [_row(record, marks=True) for record in records]
        session.write(_LISTING.render(marked, form))
    _totals(session, records)
    return 0


def _totals(session: Session, records: list[Object]) -> None:
    shared = sum(r["Size"] for r in records if r["Shared"])
    total = sum(r["Size"] for r in records)
    free = sum(r["Size"] for r in records if not r["InUse"])
    if shared:
        session.line(f"Shared:\t\t{human_size(shared)}\nPrivate:\t{human_size(total - shared)}")
    session.line(f"Reclaimable:\t{human_size(free)}\nTotal:\t\t{human_size(total)}")


def _row(record: Object, *, marks: bool = False) -> Row:
    """Return the fields of one record; with `marks` what changes in use and what is shared has a star."""
    mutable = record["Type"] in _MUTABLE
    fields: Object = {
        "ID": record["ID"],
        "Parents": record.get("Parents"),
        "CreatedAt": record["CreatedAt"],
        "Mutable": mutable,
        "Reclaimable": not record["InUse"],
        "Shared": record["Shared"],
        "Size": human_size(record["Size"]) + ("*" if marks and record["Shared"] else ""),
        "Description": record["Description"],
        "UsageCount": record["UsageCount"],
        "LastUsedAt": _used(record),
        "Type": record["Type"],
    }
    if marks:
        fields["ID"] = record["ID"][:25] + ("*" if mutable else "")
        fields["Reclaimable"] = str(fields["Reclaimable"]).lower()
    return Row(_KIND, {name: lambda value=value: value for name, value in fields.items()})


def _used(record: Object) -> str:
    return ago(parse_or_zero(record["LastUsedAt"]) / 1e9) if record.get("LastUsedAt") else ""


def _matches(record: Object, name: str, value: str) -> bool:
    yes = value.lower() not in ("0", "false")
    mutable = record["Type"] in _MUTABLE
    facts = {
        "inuse": record["InUse"],
        "shared": record["Shared"],
        "private": not record["Shared"],
        "mutable": mutable,
        "immutable": not mutable,
    }
    if name in facts:
        return facts[name] == yes
    if name in ("until", "unused-for"):
        since = float(query_time(value, name))
        return not record.get("LastUsedAt") or parse_or_zero(record["LastUsedAt"]) / 1e9 <= since
    if name == "parent":
        return value in (record.get("Parents") or ())
    field = {"id": "ID", "type": "Type", "description": "Description"}.get(name)
    if field is None:
        raise Failure(f"invalid filter '{name}'")
    text: str = record[field]
    if name == "id":
        return text.startswith(value)
    return value in text if name == "description" else text == value


def _pretty(record: Object) -> str:
    lines = [
        ("ID", record["ID"]),
        ("Parents", "\n".join(record.get("Parents") or ())),
        ("Created at", record["CreatedAt"]),
        ("Mutable", str(record["Type"] in _MUTABLE).lower()),
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
    before: list[Object] = (
        session.engine.get("/wherry/build/cache") if options.on("verbose") else []
    )
    answer: Object = session.engine.call("POST", "/build/prune", query) or {}
    gone = many(answer, "CachesDeleted")
    if options.on("verbose"):
        for record in before:
            if record["ID"] in gone:
                session.line(_pretty(record))
    elif gone:
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
        Flag("format", "string", "Format the output"),
        Flag("verbose", "bool", 'Shorthand for "--format=pretty"'),
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
        Flag("max-used-space", "bytes", "Maximum amount of disk space allowed to keep for cache"),
        Flag("min-free-space", "bytes", "Target amount of free disk space after pruning"),
        Flag("reserved-space", "bytes", "Amount of disk space always allowed to keep for cache"),
        Flag("verbose", "bool", "Provide a more verbose output"),
    ),
    most=0,
)
