"""Errors as HTTP: one table from kind to status, and the JSON that clients show."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec

from wherry.api.messages import Response, TooLarge
from wherry.api.versions import TooOld
from wherry.kernel.space import no_room
from wherry.model.errors import (
    Conflict,
    Forbidden,
    Full,
    Internal,
    Invalid,
    NotFound,
    StartFailed,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unsupported,
    WherryError,
)

STATUS: dict[type[WherryError], int] = {
    Invalid: 400,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    # Not in this version or not on this machine: the API documentation's word for an unknown feature.
    Unsupported: 501,
    Unavailable: 503,
    Full: 507,
    # The docker client reads 126 and 127 out of the message, whatever the status; Docker says 400
    # for both, 500 for other failures (observed: 28.5).
    StartFailed: 400,
    Internal: 500,
}
_SPECIAL: dict[type[WherryError], int] = {
    TooLarge: 413,
    TooManyRequests: 429,
    Unauthorized: 401,
}
_COMMAND_FAULTS = (126, 127)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOTHING_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def status_of(error: WherryError) -> int:
    """Return the HTTP status that stands for `error`."""
    if isinstance(error, StartFailed) and error.exit_code not in _COMMAND_FAULTS:
        return 500
    for kind in type(error).__mro__:
        found = _SPECIAL.get(kind) or STATUS.get(kind)
        if found:
            return found
    return 500


def known_error(error: Exception) -> WherryError:
    """Return what to tell of an error that nobody expected: what ran out, or that wherry has a defect."""
    if isinstance(error, OSError):
        reason = os.strerror(error.errno or 0).lower()
        if error.errno in _NO_ROOM:
            named = isinstance(error.filename, str) and error.filename.startswith("/")
            where = Path(error.filename) if named else None
            return no_room(str(where) if where else "what the request needs", where)
        if error.errno in _NOTHING_LEFT:
            return Full(reason, hint="fewer connections, or a larger LimitNOFILE")
    return Internal(f"internal error of wherry: {type(error).__name__}: {error}")


def render_error(message: str, status: int) -> Response:
    """Return `{"message": …}` with `status`."""
    return Response(status, msgspec.json.encode({"message": message}) + b"\n", "application/json")


def error_response(error: WherryError) -> Response:
    """Return what a client gets for `error`."""
    if isinstance(error, TooOld):
        return Response(400, error.message.encode(), "text/plain; charset=utf-8")
    return render_error(str(error), status_of(error))
