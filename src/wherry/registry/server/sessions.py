"""Uploads in progress: who writes, from where, and for how long they may lie.

An upload has one writer. A second request for the same upload takes over: the first one's client is
mostly one that lost its network and comes back before the server noticed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from wherry.http.messages import Body
from wherry.http.threads import whole
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.registry.server import bodies
from wherry.registry.server.faults import Code, Fault
from wherry.registry.server.folder import new_upload
from wherry.registry.server.ranges import Span, render_progress
from wherry.registry.server.repositories import Repositories
from wherry.registry.server.storage import Upload, UploadStore


class _TooMuch(Exception):
    """More came than was said, or than there is room for."""


class Session:
    """One upload of one repository."""

    def __init__(self, repository: str, name: str, upload: Upload) -> None:
        self.repository = repository
        self.name = name
        self.upload = upload
        self.gone = False
        self.touched = time.monotonic()
        self._lock = asyncio.Lock()
        self._writer: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Be the writer inside the block; whoever was it before is stopped."""
        if self._writer is not None:
            self._writer.cancel()
        async with self._lock:
            if self.gone:
                raise unknown_upload(self.name)
            self._writer = asyncio.current_task()
            try:
                yield
            finally:
                self._writer = None
                self.touched = time.monotonic()

    @property
    def writing(self) -> bool:
        """Whether somebody has its turn."""
        return self._lock.locked()

    async def receive(self, body: Body, span: Span | None, limit: int) -> None:
        """Append a request's body; inside a turn.

        What came before a client was lost stays. A body that is not as long as its request says is
        forgotten whole. Raises Fault: BLOB_UPLOAD_INVALID (416) for another place than the end,
        SIZE_INVALID.
        """
        start = self.upload.size
        self._check(body.expected(), span, limit)
        most = limit if span is None else min(limit, start + span.count)
        try:
            while await self._take_some(body, most):
                self.touched = time.monotonic()
        except _TooMuch:
            await self.upload.cut(start)
            raise self._too_long(span, limit) from None
        if span is not None and self.upload.size != start + span.count:
            came = self.upload.size - start
            await self.upload.cut(start)
            raise Fault(
                Code.SIZE_INVALID, f"Content-Range says {span.count} bytes, {came} were sent"
            )

    async def _take_some(self, body: Body, most: int) -> int:
        """Append what comes next; return how many bytes, 0 at the end. Raises _TooMuch, Fault."""
        sink = self.upload.sink()

        def take(piece: memoryview) -> None:
            if self.upload.size + len(piece) > most:
                raise _TooMuch
            assert sink is not None
            sink(piece)

        try:
            async with asyncio.timeout(bodies.STALL_SECONDS):
                if sink is not None:
                    return await body.pour(take)
                pieces = await body.read_pieces()
        except TimeoutError:
            raise Fault(
                Code.BLOB_UPLOAD_INVALID,
                f"no byte came for {bodies.STALL_SECONDS:.0f} seconds",
                status=408,
            ) from None
        size = sum(map(len, pieces))
        if self.upload.size + size > most:
            raise _TooMuch
        await self.upload.write(pieces)
        return size

    def _check(self, expected: int | None, span: Span | None, limit: int) -> None:
        start = self.upload.size
        if span is not None:
            if span.start != start:
                raise self.out_of_order()
            if expected is not None and expected != span.count:
                raise Fault(
                    Code.SIZE_INVALID,
                    f"Content-Range says {span.count} bytes, Content-Length {expected}",
                )
        if expected is not None and start + expected > limit:
            raise self._too_long(None, limit)

    def _too_long(self, span: Span | None, limit: int) -> Fault:
        if span is not None and span.start + span.count <= limit:
            return Fault(Code.SIZE_INVALID, "the body is longer than its Content-Range says")
        return Fault(
            Code.SIZE_INVALID, f"a blob may have {limit} bytes in this registry", status=413
        )

    def out_of_order(self) -> Fault:
        """Return the answer to a chunk for another place than the end."""
        return Fault(
            Code.BLOB_UPLOAD_INVALID,
            f"the upload has {self.upload.size} bytes: the next chunk begins there",
            status=416,
            headers=self.headers,
        )

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The header fields of every answer about this upload."""
        return (
            ("Location", f"/v2/{self.repository}/blobs/uploads/{self.name}"),
            ("Range", render_progress(self.upload.size)),
            ("Docker-Upload-UUID", self.name),
        )


class Sessions:
    """All uploads in progress. Those of an earlier process are found again when asked for."""

    def __init__(
        self, store: UploadStore, repositories: Repositories, *, most: int, blob_limit: int
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._most = most
        self.blob_limit = blob_limit
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def begin(self, repository: str) -> Session:
        """Return a new session. Raises Fault TOOMANYREQUESTS, Full."""
        if len(self._open) >= self._most:
            raise Fault(
                Code.TOOMANYREQUESTS,
                f"{self._most} uploads are unfinished",
                headers=(("Retry-After", "60"),),
            )
        name = new_upload()
        session = Session(repository, name, await self._store.begin(name, repository))
        self._open[name] = session
        return session

    async def find(self, repository: str, name: str) -> Session:
        """Return the session of an upload. Raises Fault BLOB_UPLOAD_UNKNOWN."""
        session = self._open.get(name)
        if session is None:
            try:
                upload = await self._store.resume(name, repository)
            except NotFound:
                raise unknown_upload(name) from None
            # Another request may have been first, while the back end was asked.
            session = self._open.setdefault(name, Session(repository, name, upload))
            if session.upload is not upload:
                upload.close()
        if session.repository != repository:
            raise unknown_upload(name)
        return session

    async def finish(self, session: Session, digest: Digest) -> None:
        """Make the upload the blob `digest` of its repository; inside a turn.

        Raises Fault DIGEST_INVALID where the content is another: the upload is then gone, as a client
        has nothing to mend it with.
        """
        await whole(self._finish(session, digest))

    async def _finish(self, session: Session, digest: Digest) -> None:
        async with self._repositories.locks.hold(digest):
            try:
                await session.upload.commit(digest)
            except Invalid as error:
                await self._end(session)
                raise Fault(
                    Code.DIGEST_INVALID, error.message, detail={"digest": str(digest)}
                ) from None
            session.gone = True
            self._open.pop(session.name, None)
            await self._repositories.link_blob(session.repository, digest)

    async def cancel(self, session: Session) -> None:
        """Forget the upload."""
        async with session.turn():
            await self._end(session)

    async def abandon(self, session: Session) -> None:
        """Forget the upload; inside a turn."""
        await whole(self._end(session))

    def close(self) -> None:
        """Let go of all; they can be gone on with after a restart."""
        for session in self._open.values():
            session.upload.close()
        self._open.clear()

    async def _end(self, session: Session) -> None:
        session.gone = True
        self._open.pop(session.name, None)
        await session.upload.drop()

    async def expire(self, age: float) -> int:
        """Forget every upload to which nothing came for `age` seconds; return how many."""
        gone = 0
        oldest = time.monotonic() - age
        for session in tuple(self._open.values()):
            if session.touched < oldest and not session.writing:
                await self.cancel(session)
                gone += 1
        before = time.time() - age
        for left in await self._store.unfinished():
            if left.touched < before and left.name not in self._open:
                await self._store.forget(left.name)
                gone += 1
        return gone


def unknown_upload(name: str) -> Fault:
    """Return the fault of an upload that is not there."""
    return Fault(Code.BLOB_UPLOAD_UNKNOWN, f"unknown upload: {name}", detail={"upload": name})
