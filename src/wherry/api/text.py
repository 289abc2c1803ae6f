"""Percent-decoding and query strings. `urllib.parse` would do the same for 1.5 MB of memory."""

from __future__ import annotations


def unquote(text: str) -> str:
    """Return `text` with %XX decoded as UTF-8; what is no valid escape stays as it is."""
    if "%" not in text:
        return text
    head, *pieces = text.split("%")
    out = bytearray(head.encode("utf-8", "surrogateescape"))
    for piece in pieces:
        try:
            out.append(int(piece[:2], 16) if len(piece) >= 2 and piece[:2].isalnum() else -1)
            piece = piece[2:]
        except ValueError:
            out += b"%"
        out += piece.encode("utf-8", "surrogateescape")
    return out.decode("utf-8", "surrogateescape")


def parse_query(text: str) -> dict[str, list[str]]:
    """Return the parameters of a query string, each with its values in order."""
    found: dict[str, list[str]] = {}
    for pair in text.split("&"):
        if not pair:
            continue
        name, _, value = pair.replace("+", " ").partition("=")
        found.setdefault(unquote(name), []).append(unquote(value))
    return found


def quote(text: str) -> str:
    """Return `text` fit for a header value: printable ASCII, the rest percent-encoded."""
    return "".join(
        chr(byte) if 32 < byte < 127 else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )
