"""What the registry answers when it refuses: the specification's codes, each with its status.

Source: OCI distribution specification 1.1, "Error Codes"; the statuses are those of its table of
endpoints.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from wherry.http.messages import Response, TooLarge
from wherry.model.errors import Full, Invalid, Unavailable, WherryError

Headers = tuple[tuple[str, str], ...]


class Code(StrEnum):
    """What went wrong, in the specification's words: no answer of 4XX has a code beside its fourteen.

    UNKNOWN, Docker's, goes out with 5XX alone.
    """

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    UNKNOWN = "UNKNOWN"


STATUS: Final[dict[Code, int]] = {
    Code.BLOB_UNKNOWN: 404,
    Code.BLOB_UPLOAD_INVALID: 400,
    Code.BLOB_UPLOAD_UNKNOWN: 404,
    Code.DIGEST_INVALID: 400,
    Code.MANIFEST_BLOB_UNKNOWN: 404,
    Code.MANIFEST_INVALID: 400,
    Code.MANIFEST_UNKNOWN: 404,
    Code.NAME_INVALID: 400,
    Code.NAME_UNKNOWN: 404,
    Code.SIZE_INVALID: 400,
    Code.UNAUTHORIZED: 401,
    Code.DENIED: 403,
    Code.UNSUPPORTED: 405,
    Code.TOOMANYREQUESTS: 429,
    Code.UNKNOWN: 500,
}


class Fault(WherryError):
    """A refusal. `detail` goes to the client as JSON, `headers` beside it.

    `status` stands in for the code's own where the specification has another for the case.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        detail: object = None,
        status: int = 0,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.status = status or STATUS[code]
        self.headers = headers


class Faults(WherryError):
    """Several refusals of one request, answered in one list: every blob that a manifest misses."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults[:3]))
        self.faults = faults


def render_fault(*faults: Fault) -> Response:
    """Return the answer that names `faults`; status and header fields are the first one's."""
    errors: list[dict[str, object]] = []
    for fault in faults:
        error: dict[str, object] = {"code": fault.code.value, "message": str(fault)}
        if fault.detail is not None:
            error["detail"] = fault.detail
        errors.append(error)
    body = msgspec.json.encode({"errors": errors}) + b"\n"
    return Response(faults[0].status, body, "application/json", faults[0].headers)


def fault_response(error: WherryError) -> Response:
    """Return the answer to any error of the house."""
    match error:
        case Fault():
            return render_fault(error)
        case Faults():
            return render_fault(*error.faults)
        case TooLarge():
            return render_fault(Fault(Code.SIZE_INVALID, str(error), status=413))
        case Full():
            return render_fault(Fault(Code.UNKNOWN, str(error), status=507))
        case Unavailable():
            return render_fault(Fault(Code.UNKNOWN, str(error), status=503))
        case Invalid():
            return render_fault(Fault(Code.UNSUPPORTED, str(error), status=400))
        case _:
            return render_fault(Fault(Code.UNKNOWN, str(error)))


def plain_fault(message: str, status: int) -> Response:
    """Return the answer to what is no HTTP, or not in time."""
    code = Code.UNSUPPORTED if status < 500 else Code.UNKNOWN
    return render_fault(Fault(code, message, status=status))
