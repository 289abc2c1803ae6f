"""An archive of images, read once: small parts in memory, large ones stored as blobs, all hashed."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from wherry.images.intake import Intake
from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.storage.layers import Entry, Kind, Limits, Readable, TarReader
from wherry.storage.layers.compression import decompressed
from wherry.storage.layers.entries import bad_entry

_LIMITS = Limits(entries=100_000)
_BLOB = re.compile(r"blobs/(sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})")
_SMALL = 256 << 10
_SMALL_IN_ALL = 64 << 20
_MOST_LINKS = 16


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive; `data` where it is small, else the blob is in the content store."""

    digest: Digest
    size: int
    data: bytes | None = None


class Spool:
    """The files of an archive by name. What is missing or malformed raises Invalid and is named."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._parts: dict[str, Part] = {}
        self._links: dict[str, str] = {}
        self._in_memory = 0

    @classmethod
    def read_from(cls, stream: Readable, intake: Intake) -> Spool:
        """Read all of `stream` (plain, gzip, zstd, bzip2 or xz) and return its files."""
        spool = cls(intake)
        reader = TarReader(decompressed(stream)[1], _LIMITS, strict_end=False)
        for entry in reader:
            spool._take(entry, reader)
        reader.drain()
        return spool

    def has(self, name: str) -> bool:
        """Whether there is such a file, or a link to one."""
        return self._follow(name) in self._parts

    def part(self, name: str) -> Part:
        """Return a file's digest and size, following links inside the archive."""
        part = self._parts.get(self._follow(name))
        if part is None:
            raise Invalid(
                f"the archive has no {name}", hint="it is incomplete, or no image archive"
            )
        return part

    def read(self, name: str, limit: int) -> bytes:
        """Return a file of at most `limit` bytes."""
        part = self.part(name)
        if part.size > limit:
            raise Invalid(f"{name} in the archive has {part.size} bytes, more than {limit}")
        if part.data is not None:
            return part.data
        return self._intake.content.read(part.digest, limit=limit)

    def stored(self, name: str) -> Part:
        """Return the file, in the content store whatever its size."""
        part = self.part(name)
        if part.data is not None:
            self._intake.put(part.data)
        return part

    def _take(self, entry: Entry, reader: TarReader) -> None:
        name = _checked(entry)
        match entry.kind:
            case Kind.DIRECTORY:
                return
            case Kind.FILE:
                self._add(entry, name, self._store(entry, name, reader))
            case Kind.SYMLINK:
                self._link(entry, name, posixpath.join(posixpath.dirname(name), _text(entry.link)))
            case Kind.HARDLINK:
                self._link(entry, name, _text(entry.link))
            case _:
                raise bad_entry(entry.name, "a device or pipe in an archive of images")

    def _store(self, entry: Entry, name: str, reader: TarReader) -> Part:
        if entry.sparse is not None:
            raise bad_entry(entry.name, "a sparse file in an archive of images")
        match = _BLOB.fullmatch(name)
        claimed = Digest(*match[1].split("/")) if match else None
        if claimed is not None and claimed.algorithm != "sha256":
            return self._store_by(claimed, entry, reader)
        if claimed is not None:
            self._intake.hold(claimed)
            if self._intake.content.has(claimed):
                return Part(claimed, self._intake.content.size(claimed))
        if entry.size <= _SMALL and self._in_memory + entry.size <= _SMALL_IN_ALL:
            data = reader.read_all(_SMALL)
            self._in_memory += len(data)
            part = Part(Digest.of(data), len(data), data)
        else:
            digest, size = self._intake.spool(reader)
            part = Part(digest, size)
        if claimed is not None and part.digest != claimed:
            raise bad_entry(entry.name, f"wrong digest: its content is {part.digest}")
        return part

    def _store_by(self, claimed: Digest, entry: Entry, reader: TarReader) -> Part:
        """Take in what is named by another digest than the store's own, and keep it by that."""
        with self._intake.content.writer(claimed.algorithm) as writer:
            while data := reader.read(_SMALL):
                writer.write(data)
            if writer.digest() != claimed:
                raise bad_entry(entry.name, f"wrong digest: its content is {writer.digest()}")
            self._intake.hold(claimed)
            writer.commit()
        return Part(claimed, writer.size)

    def _add(self, entry: Entry, name: str, part: Part) -> None:
        before = self._parts.get(name)
        if (before is not None and before.digest != part.digest) or name in self._links:
            raise bad_entry(entry.name, "there twice, with different content")
        self._parts[name] = part

    def _link(self, entry: Entry, name: str, target: str) -> None:
        target = posixpath.normpath(target)
        if target.startswith(("/", "../")) or target == "..":
            raise bad_entry(entry.name, f"a link that leads out of the archive: {target!r}")
        if name in self._parts or self._links.get(name, target) != target:
            raise bad_entry(entry.name, "there twice, with different content")
        self._links[name] = target

    def _follow(self, name: str) -> str:
        name = posixpath.normpath(name)
        for _ in range(_MOST_LINKS):
            target = self._links.get(name)
            if target is None:
                return name
            name = target
        raise Invalid(f"too many links in the archive at {name}")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise bad_entry(raw, "a name that is not UTF-8 in an archive of images") from None


def _checked(entry: Entry) -> str:
    name = _text(entry.name)
    if name.startswith("/") or ".." in name.split("/"):
        raise bad_entry(entry.name, "a name that leads out of the archive")
    return posixpath.normpath(name)
