"""`wherry manifest`: what a registry has under a name, without pulling it."""

from __future__ import annotations

from wherry.cli.credentials import header_for, server_of
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.references import parse_reference
from wherry.cli.session import Session
from wherry.client import wire
from wherry.client.wire import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


def _fetch(session: Session, what: str, name: str) -> tuple[bytes, dict[str, str]]:
    reference = parse_reference(name)
    headers = header_for(session.configuration, server_of(reference))
    query = {"name": str(reference)}
    response = session.engine.open("GET", f"/wherry/registries/{what}", query, None, headers)
    return response.read(), response.headers


def _inspect(session: Session, options: Options, arguments: list[str]) -> int:
    content, headers = _fetch(session, "manifest", arguments[0])
    document = wire.decode(content)
    if options.on("verbose"):
        reference = parse_reference(arguments[0]).with_default_tag()
        document = {
            "Ref": str(reference),
            "Descriptor": {
                "mediaType": headers.get("content-type", ""),
                "digest": headers.get("docker-content-digest", ""),
                "size": len(content),
            },
            "Manifest": document,
        }
    session.line(_indented(document))
    return 0


def _referrers(session: Session, options: Options, arguments: list[str]) -> int:
    content, _ = _fetch(session, "referrers", arguments[0])
    document: Object = wire.decode(content)
    if options.text("format") == "json":
        session.line(_indented(document))
        return 0
    from wherry.cli.table import align

    rows = ["DIGEST\tTYPE\tSIZE"]
    for entry in many(document, "manifests"):
        kind = entry.get("artifactType") or entry.get("mediaType") or ""
        rows.append(f"{entry.get('digest', '')}\t{kind}\t{entry.get('size', 0)}")
    session.line(align("\n".join(rows)))
    return 0


def _indented(document: object) -> str:
    from json import dumps

    return dumps(document, indent="\t", ensure_ascii=False)


INSPECT = Command(
    _inspect,
    "[OPTIONS] MANIFEST",
    "Display an image manifest, or manifest list",
    (
        Flag("insecure", "bool", "Allow communication with an insecure registry", hidden=True),
        Flag("verbose", "bool", "Output the name and the descriptor too", short="v"),
    ),
    least=1,
    most=1,
)
REFERRERS = Command(
    _referrers,
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "List what refers to an image in its registry",
    (Flag("format", "string", "Format output: 'json'"),),
    least=1,
    most=1,
)
