"""What a route of the Engine API sees and gives: `wherry.http`'s messages, under the API's own roof."""

from wherry.http.messages import (
    HIJACKED,
    JSON_LIMIT,
    Answer,
    AtOnce,
    Body,
    ClientGone,
    Handler,
    Hijack,
    Hijacked,
    LastPiece,
    Request,
    Response,
    TooLarge,
)

__all__ = [
    "HIJACKED",
    "JSON_LIMIT",
    "Answer",
    "AtOnce",
    "Body",
    "ClientGone",
    "Handler",
    "Hijack",
    "Hijacked",
    "LastPiece",
    "Request",
    "Response",
    "TooLarge",
]
