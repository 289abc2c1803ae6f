"""`wherry manifest`: what a registry has under a name, and lists of manifests made by hand.

The engine asks the registries, and its settings of them hold; lists wait in the client's folder.
"""

from __future__ import annotations

from wherry.cli.credentials import header_for, server_of
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.gojson import dumps
from wherry.cli.manifest_lists import (
    DOCKER_LIST,
    LISTS,
    ManifestStore,
    data_of,
    descriptors_of,
    make_entry,
    manifest_of,
    ordered_platform,
    render_index,
    render_list,
)
from wherry.cli.references import parse_reference
from wherry.cli.session import Session
from wherry.client import wire
from wherry.client.wire import many, one
from wherry.model.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.model.ids import Reference

    Object = dict[str, Any]

# What Docker's client takes of --os and --arch.
_MACHINES = {
    "darwin": ("386", "amd64", "arm", "arm64"),
    "dragonfly": ("amd64",),
    "freebsd": ("386", "amd64", "arm"),
    "linux": (
        *("386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"),
    ),
    "netbsd": ("386", "amd64", "arm"),
    "openbsd": ("386", "amd64", "arm"),
    "plan9": ("386", "amd64"),
    "solaris": ("amd64",),
    "windows": ("386", "amd64"),
}


def _store(session: Session) -> ManifestStore:
    return ManifestStore(session.configuration.folder)


def _named(text: str) -> Reference:
    return parse_reference(text).with_default_tag()


class _Registry:
    """What the engine finds in registries."""

    def __init__(self, session: Session, *, insecure: bool = False) -> None:
        self._session = session
        self._insecure = insecure

    def query(self, reference: Reference) -> dict[str, str]:
        """Return the query of a request about `reference`."""
        return {"name": str(reference), **({"insecure": "1"} if self._insecure else {})}

    def headers(self, reference: Reference) -> dict[str, str]:
        """Return the credentials of a request about `reference`."""
        return header_for(self._session.configuration, server_of(reference))

    def fetch(self, what: str, reference: Reference) -> tuple[bytes, str, str]:
        """Return a document's bytes, type and digest."""
        path = f"/wherry/registries/{what}"
        headers = self.headers(reference)
        try:
            response = self._session.engine.open("GET", path, self.query(reference), None, headers)
            data = response.read()
        except NotFound:
            raise Failure(f"no such manifest: {reference.familiar}") from None
        kind = response.headers.get("content-type", "")
        return data, kind, response.headers.get("docker-content-digest", "")

    def entry(self, reference: Reference, name: str = "") -> Object:
        """Return an image as an entry of a list. Raises Failure where it is a list itself."""
        data, kind, digest = self.fetch("manifest", reference)
        if kind in LISTS:
            raise Failure(f"{reference.familiar} is a manifest list")
        platform: Object | None = None
        if "config" in wire.decode(data):
            platform = ordered_platform(wire.decode(self.fetch("config", reference)[0]))
        return make_entry(name or str(reference), kind, digest, data, platform)


def _inspect(session: Session, options: Options, arguments: list[str]) -> int:
    store, verbose = _store(session), options.on("verbose")
    if len(arguments) == 2:
        found = store.entry(_named(arguments[0]), _named(arguments[1]))
        if found is None:
            raise Failure(f"No such manifest: {_named(arguments[1])}")
        session.line(dumps(found if verbose else manifest_of(found), indent="\t"))
        return 0
    reference = _named(arguments[0])
    entries = store.entries(reference)
    if entries:
        session.line(dumps(entries, indent="\t") if verbose else render_list(entries))
        return 0
    registry = _Registry(session, insecure=options.on("insecure"))
    data, kind, _ = registry.fetch("manifest", reference)
    document: Object = wire.decode(data)
    if kind in LISTS:
        session.line(_shown_list(registry, reference, kind, document, verbose))
    elif verbose:
        session.line(dumps(registry.entry(reference), indent="\t"))
    else:
        session.line(dumps(document, indent="\t"))
    return 0


def _shown_list(
    registry: _Registry, reference: Reference, kind: str, index: Object, verbose: bool
) -> str:
    if not verbose:
        return render_index(kind, descriptors_of(index))
    entries: list[Object] = []
    for descriptor in descriptors_of(index):
        image = parse_reference(f"{reference.repository}@{descriptor['digest']}")
        entry = registry.entry(image, f"{reference}@{descriptor['digest']}")
        # What the list says of the platform goes before what the image says.
        entry["Descriptor"]["platform"] = ordered_platform(one(descriptor, "platform"))
        entries.append(entry)
    return dumps(entries, indent="\t")


def _create(session: Session, options: Options, arguments: list[str]) -> int:
    store = _store(session)
    try:
        target = _named(arguments[0])
    except Failure as failure:
        what = f"error parsing name for manifest list {arguments[0]}: {failure.text}"
        raise Failure(what) from None
    if store.entries(target) and not options.on("amend"):
        raise Failure("refusing to amend an existing manifest list with no --amend flag")
    registry = _Registry(session, insecure=options.on("insecure"))
    for text in arguments[1:]:
        image = _named(text)
        store.save(target, image, store.entry(target, image) or registry.entry(image))
    session.line(f"Created manifest list {target.familiar}")
    return 0


def _annotate(session: Session, options: Options, arguments: list[str]) -> int:
    store, target, image = _store(session), _named(arguments[0]), _named(arguments[1])
    entry = store.entry(target, image)
    if entry is None:
        raise Failure(f"manifest for image {arguments[1]} does not exist in {arguments[0]}")
    platform: Object = one(entry["Descriptor"], "platform")
    for flag, key in (("os", "os"), ("arch", "architecture"), ("variant", "variant")):
        if options.text(flag):
            platform[key] = options.text(flag)
    if options.text("os-version"):
        platform["os.version"] = options.text("os-version")
    features: list[str] = many(platform, "os.features")
    for text in options.all("os-features"):
        features = [*features, *(word for word in text.split(",") if word not in features)]
    platform["os.features"] = features
    if platform.get("architecture") not in _MACHINES.get(platform.get("os", ""), ()):
        raise Failure(
            "manifest entry for image has unsupported os/arch combination: "
            f"{options.text('os')}/{options.text('arch')}"
        )
    entry["Descriptor"]["platform"] = ordered_platform(platform)
    store.save(target, image, entry)
    return 0


def _push(session: Session, options: Options, arguments: list[str]) -> int:
    from base64 import b64encode

    store, target = _store(session), _named(arguments[0])
    entries = store.entries(target)
    if not entries:
        raise Failure(f"No such manifest: {target}")
    for entry in entries:
        source = parse_reference(entry["Ref"])
        if source.domain != target.domain:
            raise Failure(
                "cannot use source images from a different registry than the target image: "
                f"{source.domain} != {target.domain}"
            )
        platform = one(entry["Descriptor"], "platform")
        if not platform.get("architecture") or not platform.get("os"):
            raise Failure(
                f"manifest {entry['Ref']} must have an OS and Architecture to be pushed to a registry"
            )
    body: Object = {
        "MediaType": DOCKER_LIST,
        "Data": b64encode(render_list(entries).encode()).decode(),
        "Manifests": [
            {
                "Name": entry["Ref"],
                "MediaType": entry["Descriptor"]["mediaType"],
                "Data": b64encode(data_of(entry)).decode(),
            }
            for entry in entries
        ],
    }
    registry = _Registry(session, insecure=options.on("insecure"))
    answer: Object = session.engine.call(
        "POST",
        "/wherry/registries/manifest",
        registry.query(target),
        body,
        registry.headers(target),
    )
    for digest in many(answer, "Manifests"):
        session.line(f"Pushed ref {target.repository}@{digest} with digest: {digest}")
    session.line(answer["Digest"])
    if options.on("purge"):
        store.remove(target)
    return 0


def _remove(session: Session, _options: Options, arguments: list[str]) -> int:
    store = _store(session)
    missing = [str(name) for name in map(_named, arguments) if not store.remove(name)]
    if missing:
        raise Failure("\n".join(f"No such manifest: {name}" for name in missing))
    return 0


def _referrers(session: Session, options: Options, arguments: list[str]) -> int:
    content, _, _ = _Registry(session).fetch("referrers", parse_reference(arguments[0]))
    document: Object = wire.decode(content)
    if options.text("format") == "json":
        session.line(dumps(document, indent="\t"))
        return 0
    from wherry.cli.table import align

    rows = ["DIGEST\tTYPE\tSIZE"]
    for entry in many(document, "manifests"):
        kind = entry.get("artifactType") or entry.get("mediaType") or ""
        rows.append(f"{entry.get('digest', '')}\t{kind}\t{entry.get('size', 0)}")
    session.line(align("\n".join(rows)))
    return 0


_INSECURE = Flag("insecure", "bool", "Allow communication with an insecure registry")
ANNOTATE = Command(
    _annotate,
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest",
    (
        Flag("arch", "string", "Set architecture"),
        Flag("os", "string", "Set operating system"),
        Flag("os-features", "string", "Set operating system feature", many=True, label="strings"),
        Flag("os-version", "string", "Set operating system version"),
        Flag("variant", "string", "Set architecture variant"),
    ),
    least=2,
    most=2,
)
CREATE = Command(
    _create,
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry",
    (Flag("amend", "bool", "Amend an existing manifest list", short="a"), _INSECURE),
    least=2,
    details="The list is kept beside the client's configuration until `manifest push -p` or `manifest rm`.",
)
INSPECT = Command(
    _inspect,
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    (
        _INSECURE,
        Flag("verbose", "bool", "Output additional info including layers and platform", short="v"),
    ),
    least=1,
    most=2,
)
PUSH = Command(
    _push,
    "[OPTIONS] MANIFEST_LIST",
    "Push a manifest list to a repository",
    (
        Flag("insecure", "bool", "Allow push to an insecure registry"),
        Flag("purge", "bool", "Remove the local manifest list after push", short="p"),
    ),
    least=1,
    most=1,
)
REMOVE = Command(
    _remove,
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage",
    least=1,
)
REFERRERS = Command(
    _referrers,
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "List what refers to an image in its registry",
    (Flag("format", "string", "Format output: 'json'"),),
    least=1,
    most=1,
)
