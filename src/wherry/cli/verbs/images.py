"""`wherry images`."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import FORMAT, Listing, filter_flag, filters_query
from wherry.cli.moments import ago, go_string
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.cli.units import human_size
from wherry.client.wire import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_NONE = "<none>"
_COLUMNS = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_WITH_DIGESTS = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
TITLES = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
_RAW = """repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
"""
KIND = "*formatter.imageContext"


def image_rows(images: list[Object], *, truncate: bool, digests: bool) -> list[Row]:
    """Return a row for every name of every element of `GET /images/json`."""
    rows: list[Row] = []
    for image in images:
        for repository, tag, digest in _names(image, digests):
            rows.append(_row(image, repository, tag, digest, truncate))
    return rows


def _names(image: Object, digests: bool) -> list[tuple[str, str, str]]:
    """The (repository, tag, digest) triples that an image is listed under."""
    tags: dict[str, list[str]] = {}
    for name in many(image, "RepoTags"):
        repository, _, tag = name.rpartition(":")
        if name != "<none>:<none>":
            tags.setdefault(repository, []).append(tag)
    known: dict[str, list[str]] = {}
    for name in many(image, "RepoDigests"):
        repository, _, digest = name.partition("@")
        if repository != _NONE:
            known.setdefault(repository, []).append(digest)
    out: list[tuple[str, str, str]] = []
    for repository, names in tags.items():
        found = known.pop(repository, [])
        shown = found if digests and found else [_NONE]
        out += [(repository, tag, digest) for tag in names for digest in shown]
    for repository, found in known.items():
        shown = found if digests else [""]
        out += [(repository, _NONE, digest) for digest in shown]
    return out or [(_NONE, _NONE, _NONE)]


def _count(value: int) -> str:
    return "N/A" if value < 0 else str(value)


def _row(image: Object, repository: str, tag: str, digest: str, truncate: bool) -> Row:
    identifier: str = image["Id"]
    created: int = image["Created"]
    size: int = image["Size"]
    shared: int = image.get("SharedSize", -1)
    unique = human_size(size - shared) if shared >= 0 else "N/A"
    return Row(
        KIND,
        {
            "ID": lambda: identifier.removeprefix("sha256:")[:12] if truncate else identifier,
            "Repository": lambda: repository,
            "Tag": lambda: tag,
            "Digest": lambda: digest,
            "CreatedSince": lambda: ago(created) if created else "N/A",
            "CreatedAt": lambda: go_string(created),
            "Size": lambda: human_size(size, 3),
            "Containers": lambda: _count(image.get("Containers", -1)),
            "VirtualSize": lambda: human_size(size),
            "SharedSize": lambda: human_size(shared) if shared >= 0 else "N/A",
            "UniqueSize": lambda: unique,
        },
    )


def _images(session: Session, options: Options, arguments: list[str]) -> int:
    form = session.listing_form(options, "imagesFormat")
    quiet = options.on("quiet")
    if quiet and form:
        session.error("WARNING: Ignoring custom format, because both --format and --quiet are set.")
        form = ""
    conditions: list[tuple[str, str]] = options.all("filter")
    if arguments:
        conditions = [*conditions, ("reference", arguments[0])]
    query = {"all": "1"} if options.on("all") else {}
    if options.on("tree"):
        return _tree(session, options, query | filters_query(conditions))
    found: list[Object] = session.engine.get("/images/json", query | filters_query(conditions))
    digests = options.on("digests")
    rows = image_rows(
        found,
        truncate=not options.on("no-trunc"),
        digests=(digests and not quiet) or ".Digest" in form,
    )
    listing = Listing(KIND, _WITH_DIGESTS if digests else _COLUMNS, TITLES, raw=_RAW)
    session.write(listing.render(rows, form, quiet=quiet, style=session.style()))
    return 0


def _tree(session: Session, options: Options, query: dict[str, str]) -> int:
    for name in ("quiet", "no-trunc", "digests", "format"):
        if options.given(name):
            word = "show-digest" if name == "digests" else name
            raise Failure(f"--{word} is not yet supported with --tree")
    from wherry.cli.image_tree import render_tree

    found: list[Object] = session.engine.get("/images/json", {**query, "manifests": "1"})
    session.write(render_tree(found, session.style(), everything=options.on("all")))
    return 0


LIST = Command(
    _images,
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    (
        Flag("all", "bool", "Show all images (default hides intermediate images)", short="a"),
        Flag("digests", "bool", "Show digests"),
        filter_flag(),
        FORMAT,
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("quiet", "bool", "Only show image IDs", short="q"),
        Flag("tree", "bool", "List multi-platform images as a tree (EXPERIMENTAL)"),
    ),
    most=1,
)
