"""One record of comma-separated fields with quotes (RFC 4180), as `--mount` and `--gpus` take."""

from __future__ import annotations


def fields(text: str) -> list[str]:
    """Return the fields of `text`. Raises ValueError with the words of Go's reader."""
    if not text:
        raise ValueError("EOF")
    if '"' not in text:
        return text.split(",")
    out: list[str] = []
    at = 0
    while True:
        if text[at : at + 1] == '"':
            field, at = _quoted(text, at + 1)
        else:
            end = text.find(",", at)
            field = text[at:] if end < 0 else text[at:end]
            if '"' in field:
                column = at + field.index('"') + 1
                raise ValueError(
                    f'parse error on line 1, column {column}: bare " in non-quoted-field'
                )
            at += len(field)
        out.append(field)
        if at >= len(text):
            return out
        at += 1
        if at == len(text):
            return [*out, ""]


def _quoted(text: str, at: int) -> tuple[str, int]:
    field = ""
    while True:
        end = text.find('"', at)
        if end < 0:
            raise ValueError(
                f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in quoted-field'
            )
        field += text[at:end]
        follower = text[end + 1 : end + 2]
        if follower == '"':
            field += '"'
            at = end + 2
        elif follower in ("", ","):
            return field, end + 1
        else:
            raise ValueError(
                f'parse error on line 1, column {end + 1}: extraneous or missing " in quoted-field'
            )
