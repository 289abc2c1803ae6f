"""`wherry cp`: what is copied where, by the rules of Docker's `cp`."""

from __future__ import annotations

import io
import os
import sys

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session
from wherry.cli.stream import write_all
from wherry.cli.units import human_size
from wherry.client.engine import segment
from wherry.model.errors import Invalid, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Object = dict[str, Any]

_PIECE = 1 << 20
# Go's os.FileMode bits, as the path stat of the API has them.
_GO_DIRECTORY, _GO_LINK = 1 << 31, 1 << 27
_STAT = "x-docker-container-path-stat"


def split_place(text: str) -> tuple[str, str]:
    """Return (container, path); the container is empty for a path of this machine."""
    if os.path.isabs(text):
        return "", text
    container, colon, path = text.partition(":")
    if not colon or container.startswith("."):
        return "", text
    return container, path


def _copy(session: Session, options: Options, arguments: list[str]) -> int:
    source_container, source = split_place(arguments[0])
    target_container, target = split_place(arguments[1])
    if source_container and target_container:
        raise Failure("copying between containers is not supported")
    if not source_container and not target_container:
        raise Failure("must specify at least one container source")
    if not source:
        raise Failure("source can not be empty")
    if source_container:
        return _Download(session, options, source_container, source, target).run()
    return _Upload(session, options, source, target_container, target).run()


def _stat(header: str) -> Object:
    from binascii import a2b_base64

    from wherry.client import wire

    return wire.decode(a2b_base64(header))


def _stat_path(session: Session, container: str, path: str) -> Object | None:
    """Return the path's stat in the container, or None where there is nothing."""
    route = f"/containers/{segment(container)}/archive"
    try:
        response = session.engine.open("HEAD", route, {"path": path})
    except (NotFound, Invalid):
        # A HEAD has no message: is it the path that is missing or cannot be, or the container? What is
        # wrong with the path is said by whoever is asked for it next, as with Docker's client.
        session.engine.get(f"/containers/{segment(container)}/json")
        return None
    return _stat(response.headers[_STAT])


def _say_copied(session: Session, options: Options, count: int, place: str) -> None:
    if not options.on("quiet") and os.isatty(2):
        session.error(f"Successfully copied {human_size(count, 3)} to {place}")


class _Download:
    """From a container to here."""

    def __init__(
        self, session: Session, options: Options, container: str, source: str, target: str
    ) -> None:
        self.session = session
        self.options = options
        self.container = container
        self.source = source
        self.target = target

    def run(self) -> int:
        source = self.source
        if self.options.on("follow-link"):
            stat = _stat_path(self.session, self.container, source)
            if stat is not None and stat["mode"] & _GO_LINK:
                link: str = stat["linkTarget"]
                folder = os.path.dirname(source.rstrip("/"))
                source = link if os.path.isabs(link) else os.path.join(folder, link)
        route = f"/containers/{segment(self.container)}/archive"
        response = self.session.engine.open("GET", route, {"path": source})
        if self.target == "-":
            sys.stdout.flush()
            for piece in response.pieces():
                write_all(1, piece)
            return 0
        stat = _stat(response.headers[_STAT])
        folder, name = self._place(source, bool(stat["mode"] & _GO_DIRECTORY))
        received = self._unpack(response.pieces(), folder, name)
        _say_copied(self.session, self.options, received, self.target)
        return 0

    def _place(self, source: str, is_folder: bool) -> tuple[str, str | None]:
        """The folder to unpack into, and what the archive's first name becomes (None: nothing)."""
        target = self.target
        contents = source.endswith(("/.", "/..")) or source in (".", "/")
        if os.path.isdir(target):
            if contents:
                return target, None
            return target, os.path.basename(source.rstrip("/"))
        if os.path.lexists(target) and is_folder:
            raise Failure("cannot copy directory")
        folder, name = os.path.split(target.rstrip("/"))
        folder = folder or "."
        if not os.path.isdir(folder):
            raise Failure(
                f'invalid output path: directory "{os.path.abspath(folder)}" does not exist'
            )
        if target.endswith("/") and not is_folder:
            raise Failure("no such directory")
        return folder, name

    def _unpack(self, pieces: Iterator[bytes], folder: str, name: str | None) -> int:
        import tarfile

        from wherry.cli.safetar import Unpacker

        reader = _Reader(pieces)
        file = io.BufferedReader(reader, _PIECE)
        owners = self.options.on("archive") and os.geteuid() == 0
        try:
            with (
                tarfile.open(fileobj=file, mode="r|", bufsize=_PIECE) as archive,
                Unpacker(archive, folder, owners=owners) as unpacker,
            ):
                for member in archive:
                    _, slash, rest = member.name.strip("/").partition("/")
                    if member.islnk():
                        member.linkname = _renamed(member.linkname, name)
                    path = rest if name is None else f"{name}{slash}{rest}"
                    unpacker.unpack(member, path)
                unpacker.finish()
        except tarfile.TarError as error:
            raise Failure(f"the engine sent no archive: {error}") from None
        return reader.count


def _renamed(path: str, name: str | None) -> str:
    _, slash, rest = path.strip("/").partition("/")
    return rest if name is None else f"{name}{slash}{rest}"


class _Reader(io.RawIOBase):
    """Pieces of bytes as a file to read; `count` is how many went through."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as one piece goes; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        out = memoryview(buffer)
        count = min(len(out), len(self._rest))
        out[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.count += count
        return count


class _Upload:
    """From here to a container."""

    def __init__(
        self, session: Session, options: Options, source: str, container: str, target: str
    ) -> None:
        self.session = session
        self.options = options
        self.container = container
        self.source = source
        self.target = target or "/"

    def run(self) -> int:
        target = self.target if self.target.startswith("/") else f"/{self.target}"
        stat = _stat_path(self.session, self.container, target)
        if stat is not None and stat["mode"] & _GO_LINK:
            link: str = stat["linkTarget"]
            base = os.path.dirname(target.rstrip("/"))
            target = link if os.path.isabs(link) else os.path.join(base, link)
            stat = _stat_path(self.session, self.container, target)
        is_folder = stat is not None and bool(stat["mode"] & _GO_DIRECTORY)
        if self.source == "-":
            if not is_folder:
                raise Failure(f'destination "{self.container}:{self.target}" must be a directory')
            self._put(target, _standard_input())
            return 0
        folder, name = self._place(target, stat is not None, is_folder)
        from wherry.cli.tarstream import TarStream

        archive = TarStream(self._followed(), name)
        self._put(folder, archive)
        place = f"{self.container}:{self.target}"
        _say_copied(self.session, self.options, archive.count, place)
        return 0

    def _followed(self) -> str:
        follow = self.options.on("follow-link") or self.source.endswith("/.")
        return os.path.realpath(self.source) if follow else self.source

    def _place(self, target: str, exists: bool, is_folder: bool) -> tuple[str, str]:
        """The container's folder to unpack into, and the name that the source gets there."""
        source = self._followed()
        if not os.path.lexists(source.rstrip("/") or "/"):
            raise Failure(f"lstat {os.path.abspath(self.source)}: no such file or directory")
        source_is_folder = os.path.isdir(source)
        if self.source.endswith("/") and not source_is_folder:
            raise Failure("not a directory")
        contents = source_is_folder and self.source.endswith(("/.", "/..")) or self.source == "."
        if is_folder:
            if contents:
                return target, ""
            return target, os.path.basename(os.path.abspath(self.source))
        if exists and source_is_folder:
            raise Failure("cannot copy directory")
        if not exists and target.endswith("/") and not source_is_folder:
            raise Failure("no such directory")
        folder, name = os.path.split(target.rstrip("/"))
        return folder or "/", name

    def _put(self, folder: str, body: Iterable[bytes]) -> None:
        query = {"path": folder, "noOverwriteDirNonDir": "true"}
        if self.options.on("archive"):
            query["copyUIDGID"] = "true"
        route = f"/containers/{segment(self.container)}/archive"
        headers = {"Content-Type": "application/x-tar"}
        self.session.engine.open("PUT", route, query, body, headers).read()


def _standard_input() -> Iterator[bytes]:
    while piece := os.read(0, _PIECE):
        yield piece


COPY = Command(
    _copy,
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\twherry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    (
        Flag("archive", "bool", "Archive mode (copy all uid/gid information)", short="a"),
        Flag("follow-link", "bool", "Always follow symbol link in SRC_PATH", short="L"),
        Flag("quiet", "bool", "Suppress the line that says how much was copied", short="q"),
    ),
    least=2,
    most=2,
    details="Use '-' as the source to read a tar archive from stdin and extract it to a directory\n"
    "in a container, or as the destination to stream a tar archive of a container to stdout.",
)
