"""An archive, entry by entry, from a stream: ustar, PAX, GNU, v7. Content in chunks, nothing twice.

Reads only through the stream given. Whatever is malformed raises Invalid and names the entry.
One long class: all of it moves the same position in the same buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from wherry.model.errors import Invalid
from wherry.storage.layers import pax
from wherry.storage.layers.entries import (
    DEFAULT_LIMITS,
    NO_XATTRS,
    Entry,
    Kind,
    Limits,
    Readable,
    bad_entry,
)
from wherry.storage.layers.header import BLOCK, ZERO_BLOCK, Block, parse_block, parse_number

_CHUNK: Final = 1 << 20
_HIGHEST_ID: Final = 0xFFFFFFFE  # chown(2) takes the next one for "leave it"
_NANOSECONDS: Final = 1_000_000_000
_MAX_SECONDS: Final = 1 << 55
_MAX_DEVICE: Final = (0xFFF, 0xFFFFF)
_KINDS: Final = {kind.value: kind for kind in Kind} | {
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous
    b"S": Kind.FILE,  # GNU sparse
    b"D": Kind.DIRECTORY,  # GNU incremental: with a list of names as content
}
_PAX_LOCAL: Final = (b"x", b"X")
_VOLUME_LABEL: Final = b"V"


class TarReader:
    """The entries of an archive, in order; the reader is itself the stream of the current content.

    With `strict_end` an archive that stops without its end mark is Invalid (truncated); without,
    the stream may end at any entry's edge, as writers that forget to close leave it.
    """

    def __init__(
        self, stream: Readable, limits: Limits = DEFAULT_LIMITS, *, strict_end: bool = True
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._strict_end = strict_end
        self._buffer = b""
        self._position: int = 0
        self._stored = 0  # bytes of the current content still to come, without padding
        self._padding = 0
        self._pieces: deque[tuple[int, int]] | None = None
        self._real_size = 0
        self._offset = 0  # where in an expanded sparse file the next read starts
        self._entry: Entry | None = None
        self._name = b""
        self._global: pax.Records = {}
        self._count = 0
        self._extra = 0  # bytes of extended headers since the last entry
        self._declared = 0
        self._drained = 0
        self._ended = False

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next_entry()) is not None:
            yield entry

    def next_entry(self) -> Entry | None:
        """Return the next entry, or None at the archive's end; unread content is passed over."""
        if self._ended:
            return None
        self._skip_content()
        records: pax.Records | None = None
        long_name: bytes | None = None
        long_link: bytes | None = None
        while True:
            block = self._header()
            if block is None:
                if records is not None or long_name is not None or long_link is not None:
                    raise self._error("an extended header is followed by no entry")
                self._ended = True
                return None
            flag = block.type
            if flag in _KINDS:
                break
            if flag in _PAX_LOCAL:
                more = self._records(block)
                records = more if records is None else records | more
            elif flag == b"g":
                self._global |= self._records(block)
                if sum(map(len, self._global.values())) > self._limits.header:
                    raise bad_entry(block.name, "global headers that keep growing")
            elif flag == b"L":
                long_name = self._content(block).partition(b"\0")[0]
            elif flag == b"K":
                long_link = self._content(block).partition(b"\0")[0]
            elif flag == _VOLUME_LABEL:
                self._content(block)
            else:
                raise bad_entry(block.name, f"unknown type {flag!r}")
        if long_name is not None:
            block = block._replace(name=long_name)
        if long_link is not None:
            block = block._replace(link=long_link)
        entry = self._complete(block, records)
        self._entry = entry
        return entry

    def chunks(self) -> Iterator[memoryview]:
        """Yield what the archive stores of the current content, unexpanded, in pieces."""
        while self._stored:
            available = len(self._buffer) - self._position
            if not available:
                self._fill()
                available = len(self._buffer)
            taken = min(available, self._stored)
            start = self._position
            self._position = start + taken
            self._stored -= taken
            yield memoryview(self._buffer)[start : start + taken]

    def read(self, n: int = -1, /) -> bytes:
        """Return at most `n` bytes of the current content (all with -1), holes as zeros."""
        entry = self._entry
        if entry is None or n == 0:
            return b""
        if n < 0:
            parts: list[bytes] = []
            while part := self.read(_CHUNK):
                parts.append(part)
            return b"".join(parts)
        if self._pieces is None:
            return self._read_stored(min(n, self._stored))
        # Pieces of no bytes say nothing; a map may have as many as it likes.
        while self._pieces and not self._pieces[0][1]:
            self._pieces.popleft()
        if self._offset >= entry.size:
            return b""
        if not self._pieces or self._offset < self._pieces[0][0]:
            stop = self._pieces[0][0] if self._pieces else entry.size
            count = min(n, stop - self._offset)
            self._offset += count
            return bytes(count)
        offset, length = self._pieces[0]
        data = self._read_stored(min(n, length))
        self._offset += len(data)
        if len(data) == length:
            self._pieces.popleft()
        else:
            self._pieces[0] = (offset + len(data), length - len(data))
        return data

    def read_all(self, limit: int) -> bytes:
        """Return the current content, or raise Invalid where it is larger than `limit` bytes."""
        if self._entry is not None and self._entry.size > limit:
            raise self._error(f"larger than {limit} bytes")
        return self.read()

    def drain(self) -> None:
        """Read the stream to its end, so that a digest taken on the way covers all of it."""
        self._skip_content()
        self._buffer, self._position = b"", 0
        while data := self._stream.read(_CHUNK):
            self._drained += len(data)
            if self._drained > self._limits.total:
                raise self._error("endless data after the archive's end")

    def _error(self, problem: str) -> Invalid:
        if self._count == 0:
            return Invalid(f"archive: {problem}")
        return bad_entry(self._name, problem)

    def _fill(self) -> None:
        """Replace the used-up buffer by the stream's next bytes; raise Invalid at its end."""
        self._buffer = self._stream.read(_CHUNK)
        self._position = 0
        if not self._buffer:
            raise self._error("the archive is truncated")

    def _take(self, n: int) -> bytes:
        """Return exactly `n` bytes, or fewer at the stream's end."""
        end = self._position + n
        if end <= len(self._buffer):
            data = self._buffer[self._position : end]
            self._position = end
            return data
        parts = [self._buffer[self._position :]]
        missing = n - len(parts[0])
        self._buffer, self._position = b"", 0
        while missing:
            data = self._stream.read(_CHUNK)
            if not data:
                break
            parts.append(data[:missing])
            self._buffer, self._position = data, len(parts[-1])
            missing -= len(parts[-1])
        return b"".join(parts)

    def _read_stored(self, n: int) -> bytes:
        if not n:
            return b""
        if self._position == len(self._buffer):
            self._fill()
        data = self._buffer[self._position : self._position + n]
        self._position += len(data)
        self._stored -= len(data)
        return data

    def _skip_content(self) -> None:
        if self._stored or self._padding:
            for _ in self.chunks():
                pass
            # docker's client stops with the last content where it puts a Dockerfile into a context
            # (28.2, `build -f -`): what fills its block up is missing with the end mark.
            if len(self._take(self._padding)) != self._padding and self._strict_end:
                raise self._error("the archive is truncated")
            self._padding = 0

    def _header(self) -> Block | None:
        """Return the next header block, or None at the archive's end."""
        raw = self._take(BLOCK)
        if len(raw) < BLOCK:
            if raw or self._strict_end:
                raise self._error("the archive is truncated after this")
            return None
        if raw[0] == 0 and raw == ZERO_BLOCK:
            return None
        try:
            block = parse_block(raw)
            if block.size < 0:
                raise ValueError("a negative size")
        except ValueError as problem:
            where = self._error(str(problem)).message
            raise Invalid(f"{where} (in the header after it)" if self._count else where) from None
        if block.type == b"S":
            self._old_sparse(raw, block)
        else:
            self._pieces = None
        return block

    def _content(self, block: Block) -> bytes:
        """Return the content of a header that extends another, which is bounded."""
        self._extra += BLOCK + block.size
        if self._extra > self._limits.header + BLOCK:
            raise bad_entry(
                block.name,
                f"extended headers of {self._extra} bytes",
                hint=f"the limit is {self._limits.header}",
            )
        data = self._take(block.size)
        padding = -block.size % BLOCK
        if len(data) != block.size or len(self._take(padding)) != padding:
            raise bad_entry(block.name, "the archive is truncated in an extended header")
        return data

    def _records(self, block: Block) -> pax.Records:
        try:
            return pax.parse_records(self._content(block))
        except ValueError as problem:
            raise bad_entry(block.name, str(problem)) from None

    def _complete(self, block: Block, records: pax.Records | None) -> Entry:
        """Return the entry of `block` and what extends it, checked; its content comes next."""
        self._count += 1
        self._extra = 0
        self._name = block.name
        limits = self._limits
        if self._count > limits.entries:
            raise bad_entry(block.name, f"more than {limits.entries} entries in the archive")
        if records is not None:
            records = self._global | records if self._global else records
        elif self._global:
            records = self._global
        try:
            entry = self._extended(block, records) if records else self._plain(block)
            self._check(entry)
        except ValueError as problem:
            raise bad_entry(self._name, str(problem)) from None
        return entry

    def _plain(self, block: Block) -> Entry:
        kind = _KINDS[block.type]
        name, size = block.name, block.size
        if kind is Kind.FILE and name.endswith(b"/"):  # v7 knew no other mark of a directory
            kind = Kind.DIRECTORY
        stored = size if kind is Kind.FILE or block.type == b"D" else 0
        self._stored, self._padding = stored, -stored % BLOCK
        sparse = None
        if block.type == b"S" and self._pieces is not None:
            sparse, size = tuple(self._pieces), self._real_size
            pax.check_map(sparse, size, stored)
        self._offset = 0
        return Entry(
            name,
            kind,
            block.mode,
            block.uid,
            block.gid,
            size if kind is Kind.FILE else 0,
            block.mtime * _NANOSECONDS,
            block.link,
            block.major,
            block.minor,
            NO_XATTRS,
            sparse,
        )

    def _extended(self, block: Block, records: pax.Records) -> Entry:
        get = records.get

        def number(key: bytes, otherwise: int) -> int:
            return pax.parse_decimal(value) if (value := get(key)) else otherwise

        is_device = block.type in (b"3", b"4")
        block = block._replace(
            name=get(b"GNU.sparse.name") or get(b"path") or block.name,
            link=get(b"linkpath") or block.link,
            uid=number(b"uid", block.uid),
            gid=number(b"gid", block.gid),
            size=number(b"size", block.size),
            major=number(b"SCHILY.devmajor", block.major) if is_device else 0,
            minor=number(b"SCHILY.devminor", block.minor) if is_device else 0,
        )
        self._name = block.name
        entry = self._plain(block)
        mtime, atime = get(b"mtime"), get(b"atime")
        entry = entry._replace(
            mtime_ns=pax.parse_time(mtime) if mtime else entry.mtime_ns,
            atime_ns=pax.parse_time(atime) if atime else None,
            xattrs=pax.xattrs_of(records) or NO_XATTRS,
        )
        return self._sparse(entry, records) if entry.kind is Kind.FILE else entry

    def _sparse(self, entry: Entry, records: pax.Records) -> Entry:
        """Return `entry` with the holes that GNU.sparse.* declares, if any."""
        real = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size")
        version = records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")
        if version == (b"1", b"0"):
            if real is None:
                raise ValueError("a sparse file has no real size")
            pieces = self._sparse_map_in_content()
        elif (text := records.get(b"GNU.sparse.map")) is not None and real is not None:
            pieces = pax.parse_map(text)
        else:
            return entry
        size = pax.parse_decimal(real)
        pax.check_map(pieces, size, self._stored)
        self._pieces = deque(pieces)
        return entry._replace(size=size, sparse=pieces)

    def _sparse_map_in_content(self) -> pax.Holes:
        """Read the map that format 1.0 puts before the data, in decimal lines and whole blocks."""
        text = b""
        wanted = 1
        while text.count(b"\n") < wanted:
            if len(text) > self._limits.header or self._stored < BLOCK:
                raise ValueError("the sparse map before the data is malformed")
            block = self._take(BLOCK)
            self._stored -= BLOCK
            if len(block) < BLOCK:
                raise ValueError("the archive is truncated in a sparse map")
            text += block
            if wanted == 1 and b"\n" in text:
                wanted = 1 + 2 * pax.parse_decimal(text.partition(b"\n")[0])
                if wanted > self._limits.header:
                    raise ValueError("a sparse map is too large")
        numbers = [pax.parse_decimal(line) for line in text.split(b"\n")[1:wanted]]
        return tuple(zip(numbers[::2], numbers[1::2], strict=True))

    def _old_sparse(self, raw: bytes, block: Block) -> None:
        """Read the map in and behind a GNU header of type S."""
        pieces: list[tuple[int, int]] = []
        table, more, real = raw[386:482], raw[482], raw[483:495]
        extended = 0
        try:
            while True:
                for at in range(0, len(table) - 23, 24):
                    if table[at] == 0:
                        continue
                    start = parse_number(table[at : at + 12])
                    pieces.append((start, parse_number(table[at + 12 : at + 24])))
                if not more:
                    break
                extension = self._take(BLOCK)
                extended += BLOCK  # by what is read: blocks without a piece could go on for ever
                if len(extension) < BLOCK or extended > self._limits.header:
                    raise ValueError("the sparse map is truncated or too large")
                table, more = extension[:504], extension[504]
            self._real_size = parse_number(real)
        except ValueError as problem:
            raise bad_entry(block.name, str(problem)) from None
        self._pieces = deque(pieces)

    def _check(self, entry: Entry) -> None:
        if not 0 <= entry.uid <= _HIGHEST_ID or not 0 <= entry.gid <= _HIGHEST_ID:
            raise ValueError(f"owner {entry.uid}:{entry.gid} is out of range")
        if len(entry.name) > self._limits.name or len(entry.link) > self._limits.name:
            raise ValueError(f"a name longer than {self._limits.name} bytes")
        if b"\0" in entry.name or b"\0" in entry.link:
            raise ValueError("a name contains a NUL byte")
        if abs(entry.mtime_ns) > _MAX_SECONDS * _NANOSECONDS:
            raise ValueError("a time out of range")
        if not (0 <= entry.major <= _MAX_DEVICE[0] and 0 <= entry.minor <= _MAX_DEVICE[1]):
            raise ValueError(f"device {entry.major}:{entry.minor} is out of range")
        self._declared += max(entry.size, self._stored)
        if entry.size < 0 or self._declared > self._limits.total:
            raise ValueError(f"the archive declares more than {self._limits.total} bytes")
