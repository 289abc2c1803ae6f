"""`wherry ps`."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import FORMAT, Listing, filter_flag, filters_query
from wherry.cli.moments import ago, go_string
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.client.wire import many, one
from wherry.model.literals import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_COLUMNS = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
_TITLES = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "CreatedAt": "CREATED AT",
    "State": "STATE",
    "Labels": "LABELS",
    "Label": "",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_RAW = """container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{.State}}
status: {{.Status}}
names: {{.Names}}
labels: {{- if .Labels}} {{.Labels}}{{end}}
ports: {{- if .Ports}} {{.Ports}}{{end}}
"""
_KIND = "*formatter.ContainerContext"
_COLOURS = {"running": "32", "exited": "31", "dead": "31", "paused": "33", "restarting": "33"}


def container_row(facts: Object, *, truncate: bool, paint: bool = False) -> Row:
    """Return the row of one element of `GET /containers/json`."""
    labels: dict[str, str] = one(facts, "Labels")
    mounts: list[Object] = many(facts, "Mounts")
    identifier: str = facts["Id"]
    created: int = facts["Created"]

    def label(name: str) -> str:
        return labels.get(name, "")

    def status() -> str:
        text: str = facts["Status"]
        code = _COLOURS.get(facts.get("State", ""))
        return f"\x1b[{code}m{text}\x1b[0m" if paint and code else text

    return Row(
        _KIND,
        {
            "ID": lambda: identifier[:12] if truncate else identifier,
            "Image": lambda: _image(facts, truncate),
            "Command": lambda: quote(
                ellipsis(facts["Command"], 20) if truncate else facts["Command"]
            ),
            "CreatedAt": lambda: go_string(created),
            "RunningFor": lambda: ago(created),
            "Status": status,
            "State": lambda: facts.get("State", ""),
            "Ports": lambda: show_ports(many(facts, "Ports")),
            "Names": lambda: _names(many(facts, "Names"), truncate),
            "Size": lambda: _size(facts),
            "Labels": lambda: ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
            "Label": lambda: label,
            "Mounts": lambda: ",".join(_mounts(mounts, truncate)),
            "LocalVolumes": lambda: str(sum(m.get("Driver") == "local" for m in mounts)),
            "Networks": lambda: ",".join(sorted(_networks(facts))),
            "Platform": lambda: None,
        },
    )


def _networks(facts: Object) -> dict[str, Any]:
    return one(one(facts, "NetworkSettings"), "Networks")


def _mounts(mounts: list[Object], truncate: bool) -> list[str]:
    names = [mount.get("Name") or mount.get("Source") or "" for mount in mounts]
    return [ellipsis(name, 15) if truncate else name for name in names]


def _image(facts: Object, truncate: bool) -> str:
    image: str = facts["Image"]
    if not image:
        return "<no image>"
    if not truncate:
        return image
    bare = image.removeprefix("sha256:")
    if bare[:12] == facts.get("ImageID", "").removeprefix("sha256:")[:12]:
        return bare[:12]
    name, at, _ = image.partition("@")
    return name if at and ":" in name.rpartition("/")[2] else image


def _names(names: list[str], truncate: bool) -> str:
    bare = [name.removeprefix("/") for name in names]
    if truncate:
        # A name with a slash in it is another container's link to this one.
        bare = [name for name in bare if "/" not in name]
    return ",".join(bare)


def _size(facts: Object) -> str:
    own = human_size(facts.get("SizeRw") or 0, 3)
    total = facts.get("SizeRootFs") or 0
    return f"{own} (virtual {human_size(total, 3)})" if total > 0 else own


def ellipsis(text: str, most: int) -> str:
    """Return `text` in at most `most` characters, the last an ellipsis where it was cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def show_ports(ports: list[Object]) -> str:
    """Return the ports of a listing: `0.0.0.0:80->80/tcp, 90-92/udp`."""

    def order(port: Object) -> tuple[int, str, int, str]:
        return port["PrivatePort"], port.get("IP", ""), port.get("PublicPort", 0), port["Type"]

    groups: dict[tuple[str, str], list[int]] = {}
    closed: list[str] = []
    mapped: list[str] = []
    for port in sorted(ports, key=order):
        private, kind, address = port["PrivatePort"], port["Type"], port.get("IP", "")
        if address and port.get("PublicPort") != private:
            mapped.append(f"{_joined(address, port.get('PublicPort'))}->{private}/{kind}")
            continue
        group = groups.get((address, kind))
        if group is None:
            groups[address, kind] = [private, private]
        elif private == group[1] + 1:
            group[1] = private
        else:
            closed.append(_group(address, kind, group))
            groups[address, kind] = [private, private]
    return ", ".join([*closed, *(_group(*key, group) for key, group in groups.items()), *mapped])


def _joined(address: str, port: object) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _group(address: str, kind: str, group: list[int]) -> str:
    first, last = group
    span = str(first) if first == last else f"{first}-{last}"
    return f"{_joined(address, span)}->{span}/{kind}" if address else f"{span}/{kind}"


def _asks_for_size(form: str) -> bool:
    """Whether the sizes are in the form: Docker counts a whole row as JSON, not the word `json`."""
    return ".Size" in form or "json .}}" in form.replace(" }}", "}}")


def _ps(session: Session, options: Options, _arguments: list[str]) -> int:
    form = session.listing_form(options, "psFormat")
    quiet = options.on("quiet")
    size = options.on("size")
    if quiet and form:
        session.error("WARNING: Ignoring custom format, because both --format and --quiet are set.")
        form = ""
    query: dict[str, str] = {}
    if options.on("all"):
        query["all"] = "1"
    last = options.number("last") if options.given("last") else -1
    if options.on("latest"):
        last = 1
    if last > 0:
        query["limit"] = str(last)
    if size or (_asks_for_size(form) and not quiet):
        query["size"] = "1"
    query |= filters_query(options.all("filter"))
    found: list[Object] = session.engine.get("/containers/json", query)
    style = session.style()
    paint = style.on and form in ("", "table")
    truncate = not options.on("no-trunc")
    columns = f"{_COLUMNS}\t{{{{.Size}}}}" if size else _COLUMNS
    raw = f"{_RAW}size: {{{{.Size}}}}\n" if size else _RAW
    listing = Listing(_KIND, columns, _TITLES, raw=raw, tried=True)
    rows = [container_row(facts, truncate=truncate, paint=paint) for facts in found]
    session.write(listing.render(rows, form, quiet=quiet, style=style))
    return 0


LIST = Command(
    _ps,
    "[OPTIONS]",
    "List containers",
    (
        Flag("all", "bool", "Show all containers (default shows just running)", short="a"),
        filter_flag(),
        FORMAT,
        Flag(
            "last",
            "int",
            "Show n last created containers (includes all states)",
            short="n",
            default=-1,
        ),
        Flag(
            "latest", "bool", "Show the latest created container (includes all states)", short="l"
        ),
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("quiet", "bool", "Only display container IDs", short="q"),
        Flag("size", "bool", "Display total file sizes", short="s"),
    ),
    most=0,
)
