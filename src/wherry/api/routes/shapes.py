"""What several routes answer alike."""

from __future__ import annotations

from collections.abc import AsyncIterator

from wherry.api.messages import Request, Response
from wherry.api.versions import Version
from wherry.api.wire.codec import check_content_type, encode
from wherry.api.wire.events import render_failure, render_progress
from wherry.model.errors import WherryError
from wherry.model.views import Progress

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


def progress_answer(lines: AsyncIterator[Progress]) -> Response:
    """Return a progress stream; an error after its first line is the stream's last line."""

    async def render() -> AsyncIterator[bytes]:
        begun = False
        try:
            async for line in lines:
                begun = True
                yield render_progress(line)
        except WherryError as error:
            if not begun:
                raise
            yield render_failure(error)

    return Response(200, render(), JSON)
