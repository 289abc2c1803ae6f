"""An archive, written entry by entry: ustar headers, and PAX records only where ustar falls short."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

from wherry.model.errors import Internal
from wherry.storage.layers import pax
from wherry.storage.layers.entries import Entry, Kind, Readable
from wherry.storage.layers.header import BLOCK, Block, fits, render_block, split_name

_CHUNK: Final = 1 << 20
_NANOSECONDS: Final = 1_000_000_000


def render_header(entry: Entry) -> bytes:
    """Return all header blocks of `entry`. The same entry always gives the same bytes.

    Names and values are written as they are; one that is not UTF-8 is marked `hdrcharset=BINARY`.
    `sparse` is not written: a hole is content of zeros.
    """
    name, kind, mode, uid, gid, size, mtime_ns, link, major, minor, xattrs, _, atime_ns = entry
    seconds, fraction = divmod(mtime_ns, _NANOSECONDS)
    spelled = split_name(name)
    records: pax.Records = {}
    if spelled is None or not name.isascii():
        records[b"path"] = name
    if len(link) > 100 or not link.isascii():
        records[b"linkpath"] = link
    if fraction or not fits(seconds, 11):
        records[b"mtime"] = pax.render_time(mtime_ns)
    if atime_ns is not None:
        records[b"atime"] = pax.render_time(atime_ns)
    if not fits(uid, 7):
        records[b"uid"] = b"%d" % uid
    if not fits(gid, 7):
        records[b"gid"] = b"%d" % gid
    if not fits(size, 11):
        records[b"size"] = b"%d" % size
    if xattrs:
        records |= pax.xattr_records(xattrs)
    prefix, last = spelled or (b"", name)
    block = Block(last, mode, uid, gid, size, seconds, kind.value, link, major, minor)
    main = render_block(block, prefix)
    if not records:
        return main
    if not all(_is_text(records.get(key, b"")) for key in (b"path", b"linkpath")):
        records[b"hdrcharset"] = b"BINARY"
    content = pax.render_records(records)
    header = Block(_record_name(name), 0o644, 0, 0, len(content), 0, b"x", b"", 0, 0)
    return b"".join((render_block(header), content, bytes(-len(content) % BLOCK), main))


def _record_name(name: bytes) -> bytes:
    """Return the name that a reader ignorant of PAX gives an extended header's file."""
    base = name.rstrip(b"/").rpartition(b"/")[2]
    return (b"PaxHeaders.0/" + base)[:100]


def _is_text(value: bytes) -> bool:
    if value.isascii():
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class TarWriter:
    """Writes entries to `out`, which takes bytes. Small pieces are gathered into large ones."""

    def __init__(self, out: Callable[[bytes], object]) -> None:
        self._out = out
        self._pending: list[bytes] = []
        self._pending_size = 0

    def add(self, entry: Entry, content: bytes | Readable = b"") -> None:
        """Write `entry` and its content: exactly `entry.size` bytes (Internal otherwise)."""
        pieces = (content,) if isinstance(content, bytes) else _pieces_of(content, entry.size)
        self.add_pieces(entry, pieces)

    def add_pieces(self, entry: Entry, pieces: Iterable[bytes]) -> None:
        """Write `entry` and its content given in pieces that add up to `entry.size` bytes."""
        self._put(render_header(entry))
        written = 0
        for piece in pieces:
            written += len(piece)
            self._put(piece)
        if written != entry.size:
            raise Internal(f"{written} bytes for an archive entry of {entry.size}")
        if padding := -written % BLOCK:
            self._put(bytes(padding))

    def add_file(
        self, name: bytes | str, data: bytes, *, mode: int = 0o644, mtime_ns: int = 0
    ) -> None:
        """Write a regular file owned by root."""
        entry = Entry(os.fsencode(name), Kind.FILE, mode, size=len(data), mtime_ns=mtime_ns)
        self.add(entry, data)

    def add_directory(self, name: bytes | str, *, mode: int = 0o755, mtime_ns: int = 0) -> None:
        """Write a directory owned by root."""
        path = os.fsencode(name).rstrip(b"/") + b"/"
        self.add(Entry(path, Kind.DIRECTORY, mode, mtime_ns=mtime_ns))

    def finish(self) -> None:
        """Write the end mark, and all that is still held."""
        self._put(bytes(2 * BLOCK))
        self.flush()

    def flush(self) -> None:
        """Hand all that is still held to `out`."""
        if self._pending:
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending, self._pending_size = [], 0
            self._out(data)

    def _put(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _CHUNK:
            self.flush()


def _pieces_of(content: Readable, size: int) -> Iterable[bytes]:
    while size:
        piece = content.read(min(size, _CHUNK))
        if not piece:
            return
        size -= len(piece)
        yield piece
