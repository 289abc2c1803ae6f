"""What several routes answer alike."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from wherry.api.messages import ClientGone, Request, Response
from wherry.api.status import known_error
from wherry.api.versions import Version
from wherry.api.wire.codec import check_content_type, encode
from wherry.api.wire.events import render_failure, render_progress
from wherry.model.errors import Internal, WherryError
from wherry.model.views import Progress

log = logging.getLogger(__name__)

JSON = "application/json"
TAR = "application/x-tar"
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"


def json_answer(value: object, status: int = 200) -> Response:
    """Return `value` as JSON."""
    return Response(status, encode(value), JSON)


def done(changed: bool = True) -> Response:
    """Return 204, or 304 where there was nothing to do."""
    return Response(204 if changed else 304)


async def read_json(request: Request) -> bytes:
    """Return the body, which must be declared as JSON where there is one."""
    body = await request.read()
    check_content_type(request.headers.get("content-type", ""), body)
    return body


def stream_type(version: Version, *, tty: bool) -> str:
    """Return the content type of output; it tells the framing since API 1.42."""
    return MULTIPLEXED_STREAM if version >= (1, 42) and not tty else RAW_STREAM


def told_late(error: Exception, what: str) -> WherryError:
    """Return what to tell of `error` in the middle of `what`, whose status is sent; a defect is logged."""
    if isinstance(error, WherryError):
        return error
    known = known_error(error)
    if isinstance(known, Internal):
        log.exception("%s broke off", what)
    return known


def progress_answer(lines: AsyncIterator[Progress]) -> Response:
    """Return a progress stream; an error after its first line is the stream's last line."""

    async def render() -> AsyncIterator[bytes]:
        begun = False
        try:
            async for line in lines:
                begun = True
                yield render_progress(line)
        except Exception as error:
            if not begun or isinstance(error, ClientGone):
                raise
            yield render_failure(told_late(error, "a progress stream"))

    return Response(200, render(), JSON)
