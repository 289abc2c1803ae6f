"""PAX extended headers: records, times, and the vendors' keys for xattrs, ACLs and holes. No I/O.

Sources: POSIX.1-2017 pax (Extended Header), star(5) for SCHILY.*, the GNU tar manual (appendix
on sparse formats) for GNU.sparse.*, libarchive's tar(5) for LIBARCHIVE.xattr.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from wherry.storage.layers.acl import parse_acl

Records = dict[bytes, bytes]
Holes = tuple[tuple[int, int], ...]

_NANOSECONDS: Final = 1_000_000_000
_MAX_SECONDS: Final = 1 << 55
_SCHILY_XATTR: Final = b"SCHILY.xattr."
_LIBARCHIVE_XATTR: Final = b"LIBARCHIVE.xattr."
_ACLS: Final = {
    b"SCHILY.acl.access": "system.posix_acl_access",
    b"SCHILY.acl.default": "system.posix_acl_default",
}
_SPARSE_00: Final = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")


def parse_records(data: bytes) -> Records:
    """Return the records of one extended header; a later one of a key wins.

    The repeated keys of sparse format 0.0 are gathered under GNU.sparse.map as format 0.1 writes
    them. Raises ValueError.
    """
    records: Records = {}
    pieces: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + 20)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            if not data[position:].strip(b"\0"):
                break
            raise ValueError("an extended header record has no length")
        stop = position + int(digits)
        equals = data.find(b"=", space + 1, stop)
        if stop > end or equals <= space + 1 or data[stop - 1] != 0x0A:
            raise ValueError("an extended header record is malformed")
        key, value = data[space + 1 : equals], data[equals + 1 : stop - 1]
        if key in _SPARSE_00:
            pieces.append(value)
        else:
            records[key] = value
        position = stop
    if pieces:
        records[b"GNU.sparse.map"] = b",".join(pieces)
    return records


def render_records(records: Mapping[bytes, bytes]) -> bytes:
    """Return the records as an extended header's content, by ascending key."""
    lines: list[bytes] = []
    for key in sorted(records):
        body = b" %b=%b\n" % (key, records[key])
        length = len(body) + len(str(len(body)))
        if len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        lines.append(b"%d%b" % (length, body))
    return b"".join(lines)


def parse_time(text: bytes) -> int:
    """Return the nanoseconds of a decimal time such as `-1.5`. Raises ValueError."""
    sign = -1 if text.startswith(b"-") else 1
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(whole) > 18:
        raise ValueError(f"not a time: {text[:40]!r}")
    seconds = int(whole)
    if seconds > _MAX_SECONDS:
        raise ValueError(f"a time out of range: {text[:40]!r}")
    return sign * (seconds * _NANOSECONDS + int(fraction[:9].ljust(9, b"0")))


def render_time(nanoseconds: int) -> bytes:
    """Return the decimal time that `parse_time` reads."""
    whole, fraction = divmod(abs(nanoseconds), _NANOSECONDS)
    sign = b"-" if nanoseconds < 0 else b""
    if not fraction:
        return b"%b%d" % (sign, whole)
    return (b"%b%d.%09d" % (sign, whole, fraction)).rstrip(b"0")


def parse_decimal(text: bytes) -> int:
    """Return a non-negative decimal number of at most 19 digits. Raises ValueError."""
    if not text.isdigit() or len(text) > 19:
        raise ValueError(f"not a decimal number: {text[:40]!r}")
    return int(text)


def xattrs_of(records: Records) -> dict[str, bytes]:
    """Return the extended attributes that the records carry. Raises ValueError."""
    found: dict[str, bytes] = {}
    for key, value in records.items():
        if key.startswith(_SCHILY_XATTR):
            found[os.fsdecode(key[len(_SCHILY_XATTR) :])] = value
        elif key.startswith(_LIBARCHIVE_XATTR):
            name = os.fsdecode(unquote_to_bytes(key[len(_LIBARCHIVE_XATTR) :]))
            if name not in found:
                found[name] = _base64(value)
        elif key in _ACLS and value:
            found.setdefault(_ACLS[key], parse_acl(value))
    for name in found:
        if not name or "\0" in name:
            raise ValueError("an extended attribute has no usable name")
    return found


def xattr_records(xattrs: Mapping[str, bytes]) -> Records:
    """Return the records that carry `xattrs`."""
    records: Records = {}
    for name, value in xattrs.items():
        key = os.fsencode(name)
        if b"=" in key:  # would end the key early; libarchive's form encodes the name
            encoded = quote_from_bytes(key, safe=".").encode()
            records[_LIBARCHIVE_XATTR + encoded] = base64.b64encode(value)
        else:
            records[_SCHILY_XATTR + key] = value
    return records


def _base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as problem:
        raise ValueError(f"an extended attribute is not base64: {problem}") from None


def parse_map(text: bytes) -> Holes:
    """Return the (offset, length) pieces of a GNU.sparse.map. Raises ValueError."""
    if not text:
        return ()
    numbers = [parse_decimal(part) for part in text.split(b",")]
    if len(numbers) % 2:
        raise ValueError("a sparse map has an odd number of numbers")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def check_map(pieces: Holes, size: int, stored: int) -> None:
    """Raise ValueError unless `pieces` ascend within `size` and add up to `stored` bytes."""
    position = total = 0
    for offset, length in pieces:
        if offset < position or offset + length > size:
            raise ValueError("a sparse map overlaps itself or passes the file's end")
        position = offset + length
        total += length
    if total != stored:
        raise ValueError(f"a sparse map covers {total} bytes, the archive stores {stored}")
