"""`wherry volume create`, `ls`, `rm` and `prune`."""

from __future__ import annotations

from wherry.cli.cluster_volumes import AVAILABILITY, CLUSTER_FLAGS, cluster_spec
from wherry.cli.failure import Failure
from wherry.cli.files import pairs_to_map
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import FORMAT, Listing, filter_flag, filters_query
from wherry.cli.pruning import FORCE, is_agreed, prune, prune_filter, show_removed, show_total
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.cli.verbs.lifecycle import for_each
from wherry.client.engine import segment
from wherry.client.wire import many, one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

KIND = "*formatter.volumeContext"
_COLUMNS = "{{.Driver}}\t{{.Name}}"
_CLUSTER_COLUMNS = "{{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}"
_RAW = "name: {{.Name}}\ndriver: {{.Driver}}\n"
_NONE = "N/A"
TITLES = {
    "Availability": "AVAILABILITY",
    "Driver": "DRIVER",
    "Group": "GROUP",
    "Labels": "LABELS",
    "Label": "",
    "Links": "LINKS",
    "Mountpoint": "MOUNTPOINT",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Size": "SIZE",
    "Status": "STATUS",
}


def volume_row(volume: Object) -> Row:
    """Return the fields of one element of `GET /volumes`."""
    labels: dict[str, str] = volume.get("Labels") or {}
    cluster: Object | None = volume.get("ClusterVolume")
    spec: Object = one(cluster or {}, "Spec")
    usage: Object | None = volume.get("UsageData")
    size = usage.get("Size", -1) if usage else -1

    def label(name: str) -> str:
        return labels.get(name, "")

    return Row(
        KIND,
        {
            "Availability": lambda: _NONE if cluster is None else spec.get("Availability") or "",
            "Driver": lambda: volume["Driver"],
            "Group": lambda: _NONE if cluster is None else spec.get("Group") or "",
            "Labels": lambda: ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
            "Label": lambda: label,
            "Links": lambda: str(usage.get("RefCount", 0)) if usage else _NONE,
            "Mountpoint": lambda: volume.get("Mountpoint") or "",
            "Name": lambda: volume["Name"],
            "Scope": lambda: volume.get("Scope") or "",
            "Size": lambda: human_size(size) if size >= 0 else _NONE,
            "Status": lambda: _NONE if cluster is None else _cluster_status(cluster),
        },
    )


def _cluster_status(cluster: Object) -> str:
    return "created" if one(cluster, "Info").get("VolumeID") else "pending creation"


def _list(session: Session, options: Options, _arguments: list[str]) -> int:
    answer: Object = session.engine.get("/volumes", filters_query(options.all("filter")))
    found: list[Object] = sorted(many(answer, "Volumes"), key=lambda volume: volume["Name"])
    columns = _COLUMNS
    if options.on("cluster"):
        found = [volume for volume in found if volume.get("ClusterVolume")]
        columns = _CLUSTER_COLUMNS
    listing = Listing(KIND, columns, TITLES, quiet="Name", raw=_RAW)
    rows = [volume_row(volume) for volume in found]
    session.write(
        listing.render(
            rows,
            session.listing_form(options, "volumesFormat"),
            quiet=options.on("quiet"),
            style=session.style(),
        )
    )
    for warning in many(answer, "Warnings"):
        session.error(f"WARNING: {warning}")
    return 0


def _create(session: Session, options: Options, arguments: list[str]) -> int:
    body: Object = {"Driver": options.text("driver")}
    if arguments:
        body["Name"] = arguments[0]
    if options.given("opt"):
        body["DriverOpts"] = pairs_to_map(options.all("opt"))
    if options.given("label"):
        body["Labels"] = pairs_to_map(options.all("label"))
    cluster = cluster_spec(options)
    if cluster is not None:
        body["ClusterVolumeSpec"] = cluster
    session.line(session.engine.call("POST", "/volumes/create", None, body)["Name"])
    return 0


def _update(session: Session, _options: Options, arguments: list[str]) -> int:
    session.engine.get(f"/volumes/{segment(arguments[0])}")
    # No engine of wherry's has any, nor Docker's outside a swarm.
    raise Failure("can only update cluster volumes")


def _remove(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"force": "1"} if options.on("force") else {}

    def act(name: str) -> str:
        session.engine.call("DELETE", f"/volumes/{segment(name)}", query)
        return name

    return for_each(session, arguments, act)


def _prune(session: Session, options: Options, _arguments: list[str]) -> int:
    conditions: list[tuple[str, str]] = options.all("filter")
    what = "anonymous local volumes"
    if options.on("all"):
        if any(name == "all" for name, _ in conditions):
            raise Failure("conflicting options: cannot specify both --all and --filter all=1")
        conditions = [*conditions, ("all", "true")]
        what = "local volumes"
    warning = f"WARNING! This will remove {what} not used by at least one container."
    if is_agreed(session, options, warning):
        answer = prune(session, "volumes", conditions)
        show_total(session, show_removed(session, answer, "VolumesDeleted", "Deleted Volumes:"))
    return 0


CREATE = Command(
    _create,
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    (
        Flag("driver", "string", "Specify volume driver name", short="d", default="local"),
        Flag("label", "label", "Set metadata for a volume", many=True),
        Flag("opt", "string", "Set driver specific options", short="o", many=True, label="map"),
        *CLUSTER_FLAGS,
    ),
    most=1,
)
LIST = Command(
    _list,
    "[OPTIONS]",
    "List volumes",
    (
        filter_flag('Provide filter values (e.g. "dangling=true")'),
        FORMAT,
        Flag("cluster", "bool", "Display only cluster volumes", hidden=True),
        Flag("quiet", "bool", "Only display volume names", short="q"),
    ),
    most=0,
)
UPDATE = Command(
    _update,
    "[OPTIONS] [VOLUME]",
    "Update a volume (cluster volumes only)",
    (AVAILABILITY,),
    least=1,
    most=1,
)
REMOVE = Command(
    _remove,
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    (Flag("force", "bool", "Force the removal of one or more volumes", short="f"),),
    least=1,
)
PRUNE = Command(
    _prune,
    "[OPTIONS]",
    "Remove unused local volumes",
    (
        Flag("all", "bool", "Remove all unused volumes, not just anonymous ones", short="a"),
        prune_filter("label=<label>"),
        FORCE,
    ),
    most=0,
)
