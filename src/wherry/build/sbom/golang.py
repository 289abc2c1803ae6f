"""Modules of which a program made by Go was built, as it tells. Bytes to facts; pure, for hostile input.

Source: Go's debug/buildinfo (the format of 1.18 and later, whose strings are in line).
"""

from __future__ import annotations

from collections.abc import Iterator

from wherry.build.sbom.packages import Package

MAGIC = b"\xff Go buildinf:"
_HEADER = 32
_INLINE = 2
_LARGEST = 4 << 20
_SENTINEL = 16


def read_go(data: bytes, found_in: str) -> Iterator[Package]:
    """Yield Go itself, the program's module and those that it depends on; `data` begins at the magic."""
    if not data.startswith(MAGIC) or len(data) < _HEADER or not data[15] & _INLINE:
        return
    version, at = _string(data, _HEADER)
    said, _ = _string(data, at)
    if not version.startswith("go"):
        return
    yield Package("golang", "stdlib", version.removeprefix("go").partition(" ")[0], found_in)
    if len(said) > 2 * _SENTINEL:
        said = said[_SENTINEL:-_SENTINEL]
    found: list[Package] = []
    for line in said.split("\n"):
        word, *rest = line.split("\t")
        if len(rest) < 2 or word not in ("mod", "dep", "=>"):
            continue
        if word == "=>" and found:
            found.pop()  # It stands for the one before.
        found.append(_module(rest, found_in))
    yield from found


def _module(words: list[str], found_in: str) -> Package:
    namespace, slash, name = words[0].rpartition("/")
    version = "" if words[1] == "(devel)" else words[1]
    return Package("golang", name, version, found_in, namespace=namespace if slash else "")


def _string(data: bytes, at: int) -> tuple[str, int]:
    """Return a string with its length as varint before it, and where the next one begins."""
    length = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            return "", len(data)
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    if length > _LARGEST or at + length > len(data):
        return "", len(data)
    return data[at : at + length].decode("latin-1"), at + length
