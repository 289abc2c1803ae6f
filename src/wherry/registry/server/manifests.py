"""Manifests and lists over HTTP. Source: distribution specification 1.1, "Pulling manifests", "Pushing
manifests", "Content Discovery", "Content Management"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import msgspec

from wherry.http.messages import Request, Response
from wherry.http.threads import whole
from wherry.model.ids import Digest
from wherry.registry.media import OCI_INDEX
from wherry.registry.server.access import Gate, Visitor
from wherry.registry.server.bodies import read_whole
from wherry.registry.server.documents import LARGEST, parse_document
from wherry.registry.server.faults import Code, Fault, Headers
from wherry.registry.server.metrics import Metrics
from wherry.registry.server.ranges import PAGE, names_tag, parse_page, unchanged
from wherry.registry.server.repositories import Repositories, TagCondition, tag_order
from wherry.registry.server.rights import PULL
from wherry.registry.server.targets import ManifestAt, Referrers, Tags

_JSON: Final = "application/json"


class ManifestRoutes:
    """Answers for manifests, tags, referrers and the catalog. Who may ask has been decided."""

    def __init__(self, repositories: Repositories, gate: Gate, metrics: Metrics) -> None:
        self._repositories = repositories
        self._gate = gate
        self._metrics = metrics

    async def get(self, request: Request, at: ManifestAt) -> Response:
        """`GET` and `HEAD /v2/NAME/manifests/REFERENCE`.

        The manifest is sent as it was pushed, whatever Accept says: another form would have another digest.
        """
        manifest = await self._repositories.manifest(at.repository, at.reference)
        tag = f'"{manifest.digest}"'
        headers: Headers = (("Docker-Content-Digest", str(manifest.digest)), ("ETag", tag))
        if unchanged(request.headers, tag):
            return Response(304, headers=headers)
        if request.method == "GET":
            self._metrics.sent += len(manifest.data)
        return Response(200, manifest.data, manifest.media_type, headers)

    async def put(self, request: Request, at: ManifestAt) -> Response:
        """`PUT /v2/NAME/manifests/REFERENCE`."""
        data = await read_whole(request, LARGEST, Code.MANIFEST_INVALID)
        document = parse_document(data, request.headers.get("content-type", ""))
        condition = _tag_condition(request)
        digest = await whole(
            self._repositories.put_manifest(at.repository, at.reference, data, document, condition)
        )
        headers: Headers = (
            ("Location", f"/v2/{at.repository}/manifests/{digest}"),
            ("Docker-Content-Digest", str(digest)),
        )
        if document.subject is not None:
            headers += (("OCI-Subject", str(document.subject)),)
        return Response(201, headers=headers)

    async def delete(self, request: Request, at: ManifestAt) -> Response:
        """`DELETE /v2/NAME/manifests/REFERENCE`: a tag alone, or a manifest with its tags."""
        if isinstance(at.reference, Digest):
            work = self._repositories.delete_manifest(at.repository, at.reference)
        else:
            work = self._repositories.delete_tag(at.repository, at.reference)
        if not await whole(work):
            raise Fault(
                Code.MANIFEST_UNKNOWN,
                f"manifest unknown: {at.repository} has no {at.reference}",
                detail={"name": at.repository, "reference": str(at.reference)},
            )
        return Response(202)

    async def tags(self, request: Request, at: Tags) -> Response:
        """`GET /v2/NAME/tags/list`."""
        tags = await self._repositories.tags(at.repository)
        chosen, link = _page(request, tags, tag_order)
        return _list({"name": at.repository, "tags": chosen}, link)

    async def catalog(self, request: Request, visitor: Visitor) -> Response:
        """`GET /v2/_catalog`: the repositories that the visitor may read."""
        names = await self._repositories.names()
        # A token for the catalog names no repository: its user's own rights count.
        user = Visitor(visitor.user)
        readable = [name for name in names if self._gate.may(user, name, PULL)]
        chosen, link = _page(request, readable, str)
        return _list({"repositories": chosen}, link)

    async def referrers(self, request: Request, at: Referrers) -> Response:
        """`GET /v2/NAME/referrers/DIGEST`: an index, empty where nothing refers to it."""
        found = await self._repositories.referrers(at.repository, at.subject)
        headers: Headers = ()
        if wanted := request.text("artifactType"):
            found = [item for item in found if item.get("artifactType") == wanted]
            headers = (("OCI-Filters-Applied", "artifactType"),)
        count, last = parse_page(request.query)
        found = [item for item in found if str(item["digest"]) > last]
        chosen: list[dict[str, object]] = []
        room = LARGEST
        for item in found[: count or PAGE]:
            # The answer is an index, and those have a limit too.
            room -= len(msgspec.json.encode(item)) + 1
            if room < 1024 and chosen:
                break
            chosen.append(item)
        if len(chosen) < len(found):
            query = f"n={count or PAGE}&last={quote(str(chosen[-1]['digest']))}"
            if wanted:
                query += f"&artifactType={quote(wanted, safe='')}"
            headers += (_link(request, query),)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": chosen}
        return Response(200, msgspec.json.encode(index), OCI_INDEX, headers)


def _page(
    request: Request, names: list[str], order: Callable[[str], tuple[str, str] | str]
) -> tuple[list[str], Headers]:
    """Return the names that the request's `n` and `last` choose, and the way to the rest."""
    count, last = parse_page(request.query)
    if last:
        after = order(last)
        # The two orders are never mixed: each list has one.
        names = [name for name in names if order(name) > after]  # pyright: ignore[reportOperatorIssue]
    chosen = names[:count]
    if len(chosen) == len(names) or not chosen:
        return chosen, ()
    return chosen, (_link(request, f"n={count}&last={quote(chosen[-1], safe='')}"),)


def _link(request: Request, query: str) -> tuple[str, str]:
    path = request.target.partition("?")[0]
    return "Link", f'<{path}?{query}>; rel="next"'


def _list(value: object, headers: Headers) -> Response:
    return Response(200, msgspec.json.encode(value), _JSON, headers)


def _tag_condition(request: Request) -> TagCondition | None:
    match = request.headers.get("if-match")
    none_match = request.headers.get("if-none-match")
    if match is None and none_match is None:
        return None

    def holds(present: Digest | None) -> bool:
        tag = f'"{present}"'
        if match is not None and (present is None or not names_tag(match, tag)):
            return False
        return not (none_match is not None and present is not None and names_tag(none_match, tag))

    return holds
