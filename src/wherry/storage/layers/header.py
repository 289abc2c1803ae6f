"""The 512-byte header block, both ways: numbers, checksum, fields. Bytes in, values out, no I/O.

Sources: POSIX.1-2017 pax (ustar), tar(5) of libarchive for v7, GNU and star's variants.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import adler32

BLOCK: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK)

_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s8x4s")
_WRITE: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
_ADLER_PRIME: Final = 65521
_BLANK_CHECKSUM: Final = b"        "
_USTAR: Final = b"ustar\x0000"
_MAX_OCTAL_7: Final = 0o7777777
_MAX_OCTAL_11: Final = 0o77777777777


class Block(NamedTuple):
    """A header block's fields, the numbers decoded. `type` is its flag, one byte."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    type: bytes
    link: bytes
    major: int
    minor: int


def parse_number(field: bytes) -> int:
    """Return a field's number: octal text, or base-256 where the first bit is set.

    Raises ValueError for anything else. An empty field is 0.
    """
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big", signed=True)
        # The marker bit is not part of a positive number; all ones mark a negative one.
        return value if first == 0xFF else value + (1 << (len(field) * 8 - 1))
    text = field.partition(b"\0")[0].strip()
    if text.isdigit():
        return int(text, 8)
    if not text:
        return 0
    raise ValueError(f"not an octal number: {text!r}")


def checksum_matches(block: bytes) -> bool:
    """Whether the block's checksum is right, summed unsigned, or signed as some old tars did."""
    stored = parse_number(block[148:156])
    blanks = sum(block[148:156]) - 256
    # Adler-32's low half is 1 + the sum modulo 65521, forty times faster than sum().
    if ((adler32(block) & 0xFFFF) - 1 - blanks - stored) % _ADLER_PRIME == 0:
        return True
    signed = sum(struct.unpack("512b", block)) - sum(struct.unpack("8b", block[148:156])) + 256
    return signed == stored


def parse_block(block: bytes) -> Block:
    """Return the fields of `block`. Raises ValueError for a bad checksum or number."""
    if not checksum_matches(block):
        raise ValueError("the header's checksum is wrong")
    (name, mode, uid, gid, size, mtime, _, flag, link, magic, major, minor, prefix, trailer) = (
        _FIELDS.unpack(block)
    )
    name = name.partition(b"\0")[0]
    if magic == _USTAR or magic[:6] == b"ustar\0":
        if trailer == b"tar\0":  # star keeps access times behind a shorter prefix
            prefix = prefix[:131]
        if prefix[0]:
            name = prefix.partition(b"\0")[0] + b"/" + name
    is_device = flag in (b"3", b"4")
    return Block(
        name,
        parse_number(mode) & 0o7777,
        parse_number(uid),
        parse_number(gid),
        parse_number(size),
        parse_number(mtime),
        flag,
        link.partition(b"\0")[0],
        parse_number(major) if is_device else 0,
        parse_number(minor) if is_device else 0,
    )


def fits(value: int, digits: int) -> bool:
    """Whether `value` can be written in `digits` octal digits."""
    return 0 <= value <= (_MAX_OCTAL_7 if digits == 7 else _MAX_OCTAL_11)


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Return (prefix, name) that together spell `name` in a ustar header, or None."""
    if len(name) <= 100:
        return b"", name
    if len(name) > 256:
        return None
    cut = name.find(b"/", len(name) - 101)
    if cut <= 0 or cut > 155 or cut == len(name) - 1:
        return None
    return name[:cut], name[cut + 1 :]


def render_block(block: Block, prefix: bytes = b"") -> bytes:
    """Return the ustar header of `block`; numbers that do not fit are written as 0."""

    def octal(value: int, digits: int) -> bytes:
        return b"%0*o\0" % (digits, value if fits(value, digits) else 0)

    is_device = block.type in (b"3", b"4")
    raw = _WRITE.pack(
        block.name[:100],
        octal(block.mode, 7),
        octal(block.uid, 7),
        octal(block.gid, 7),
        octal(block.size, 11),
        octal(block.mtime, 11),
        _BLANK_CHECKSUM,
        block.type,
        block.link[:100],
        _USTAR,
        octal(block.major, 7) if is_device else b"",
        octal(block.minor, 7) if is_device else b"",
        prefix,
    )
    # 512 ASCII bytes sum to less than Adler-32's prime, so its low half is the exact sum.
    total = (adler32(raw) & 0xFFFF) - 1 if raw.isascii() else sum(raw)
    return b"%b%06o\0 %b" % (raw[:148], total, raw[156:])
