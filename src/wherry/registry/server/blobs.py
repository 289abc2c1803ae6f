"""Blobs and uploads over HTTP. Source: distribution specification 1.1, "Pulling blobs", "Pushing blobs"."""

from __future__ import annotations

from typing import Final

from wherry.http.messages import Request, Response
from wherry.http.threads import whole
from wherry.model.errors import Full
from wherry.model.ids import Digest
from wherry.registry.names import is_repository
from wherry.registry.server.access import Gate, Visitor
from wherry.registry.server.faults import Code, Fault
from wherry.registry.server.metrics import Metrics
from wherry.registry.server.ranges import (
    Span,
    Unsatisfiable,
    names_tag,
    parse_chunk,
    parse_range,
    unchanged,
)
from wherry.registry.server.repositories import Repositories
from wherry.registry.server.rights import PULL
from wherry.registry.server.sessions import Session, Sessions
from wherry.registry.server.targets import BlobAt, UploadAt, Uploads, parse_digest

_OCTETS: Final = "application/octet-stream"
_MOST_SOURCES: Final = 10_000


class BlobRoutes:
    """Answers for blobs and uploads. Who may ask has been decided, but for where a mount comes from."""

    def __init__(
        self, repositories: Repositories, sessions: Sessions, gate: Gate, metrics: Metrics
    ) -> None:
        self._repositories = repositories
        self._sessions = sessions
        self._gate = gate
        self._metrics = metrics
        self.adopts = False
        """Whether a mount may take a blob over from the neighbouring store."""

    async def get(self, request: Request, at: BlobAt) -> Response:
        """`GET` and `HEAD /v2/NAME/blobs/DIGEST`."""
        size = await self._repositories.blob_size(at.repository, at.digest)
        if size is None:
            raise _unknown_blob(at.digest)
        tag = f'"{at.digest}"'
        headers = (
            ("Docker-Content-Digest", str(at.digest)),
            ("ETag", tag),
            ("Accept-Ranges", "bytes"),
            # What a digest names never changes.
            ("Cache-Control", "max-age=31536000, immutable"),
        )
        if unchanged(request.headers, tag):
            return Response(304, headers=headers)
        status, span = 200, Span(0, size)
        wanted = request.headers.get("range")
        condition = request.headers.get("if-range")
        if wanted is not None and (condition is None or names_tag(condition, tag)):
            try:
                part = parse_range(wanted, size)
            except Unsatisfiable:
                raise Fault(
                    Code.SIZE_INVALID,
                    f"the blob has {size} bytes",
                    status=416,
                    headers=(("Content-Range", f"bytes */{size}"),),
                ) from None
            if part is not None:
                status, span = 206, part
                last = span.start + span.count - 1
                headers += (("Content-Range", f"bytes {span.start}-{last}/{size}"),)
        content = await self._repositories.blobs.open(at.digest, span.start, span.count)
        if request.method == "GET":
            self._metrics.sent += span.count
        return Response(status, content, _OCTETS, headers)

    async def delete(self, request: Request, at: BlobAt) -> Response:
        """`DELETE /v2/NAME/blobs/DIGEST`."""
        if not await self._repositories.unlink_blob(at.repository, at.digest):
            raise _unknown_blob(at.digest)
        return Response(202)

    async def begin(self, request: Request, at: Uploads, visitor: Visitor) -> Response:
        """`POST /v2/NAME/blobs/uploads/`: an upload, a whole blob, or a mount."""
        mount = request.text("mount")
        if mount and (done := await self._mount(request, at.repository, mount, visitor)):
            return done
        digest = request.text("digest")
        if digest and not mount:
            return await self._push_whole(request, at.repository, parse_digest(digest))
        session = await self._sessions.begin(at.repository)
        return Response(202, headers=session.headers)

    async def _push_whole(self, request: Request, repository: str, digest: Digest) -> Response:
        session = await self._sessions.begin(repository)
        async with session.turn():
            try:
                await self._receive(request, session, None)
                await self._sessions.finish(session, digest)
            finally:
                if not session.gone:
                    await self._sessions.abandon(session)
        return _created(repository, digest)

    async def _mount(
        self, request: Request, repository: str, text: str, visitor: Visitor
    ) -> Response | None:
        """Return the answer where the blob could be had, else None: the client then uploads."""
        try:
            digest = parse_digest(text)
        except Fault:
            return None
        source = request.text("from")
        if source:
            sources = [source] if is_repository(source) else []
        else:
            sources = (await self._repositories.names())[:_MOST_SOURCES]
        readable = [name for name in sources if self._gate.may(visitor, name, PULL)]
        work = self._repositories.mount_blob(repository, digest, readable)
        if await whole(work):
            return _created(repository, digest)
        if self.adopts and await whole(self._repositories.adopt_blob(repository, digest)):
            return _created(repository, digest)
        return None

    async def progress(self, request: Request, at: UploadAt) -> Response:
        """`GET /v2/NAME/blobs/uploads/ID`."""
        session = await self._sessions.find(at.repository, at.upload)
        return Response(204, headers=session.headers)

    async def append(self, request: Request, at: UploadAt) -> Response:
        """`PATCH /v2/NAME/blobs/uploads/ID`."""
        session = await self._sessions.find(at.repository, at.upload)
        async with session.turn():
            await self._receive(request, session, _chunk(request, session))
        return Response(202, headers=session.headers)

    async def finish(self, request: Request, at: UploadAt) -> Response:
        """`PUT /v2/NAME/blobs/uploads/ID?digest=…`, perhaps with the last chunk."""
        text = request.text("digest")
        if not text:
            raise Fault(Code.DIGEST_INVALID, "the digest parameter is missing")
        digest = parse_digest(text)
        session = await self._sessions.find(at.repository, at.upload)
        async with session.turn():
            await self._receive(request, session, _chunk(request, session))
            await self._sessions.finish(session, digest)
        return _created(at.repository, digest)

    async def cancel(self, request: Request, at: UploadAt) -> Response:
        """`DELETE /v2/NAME/blobs/uploads/ID`."""
        session = await self._sessions.find(at.repository, at.upload)
        await self._sessions.cancel(session)
        return Response(204)

    async def _receive(self, request: Request, session: Session, span: Span | None) -> None:
        before = session.upload.size
        try:
            await session.receive(request.body, span, self._sessions.blob_limit)
        except Full:
            # What lies there helps nobody, and its space helps everybody.
            await self._sessions.abandon(session)
            raise
        finally:
            self._metrics.received += max(session.upload.size - before, 0)


def _chunk(request: Request, session: Session) -> Span | None:
    text = request.headers.get("content-range")
    # Some clients send the field without a body when they finish (`0-0`, `-1`): it then says nothing.
    if text is None or request.body.expected() == 0:
        return None
    try:
        return parse_chunk(text)
    except Unsatisfiable:
        raise session.out_of_order() from None


def _created(repository: str, digest: Digest) -> Response:
    return Response(
        201,
        headers=(
            ("Location", f"/v2/{repository}/blobs/{digest}"),
            ("Docker-Content-Digest", str(digest)),
        ),
    )


def _unknown_blob(digest: Digest) -> Fault:
    return Fault(
        Code.BLOB_UNKNOWN, f"blob unknown to registry: {digest}", detail={"digest": str(digest)}
    )
