"""Volumes: rows in the database, and a directory each.

    <root>/NAME/_data    the content; Docker's own layout
    <root>/.making       being filled from an image; becomes `_data` by one rename
    <root>/.trash        being deleted

A volume is never lost to a crash or to a lost database: a directory without a row that holds anything
is taken in as a volume again, and only an empty one is swept. A removal is written down first, then the
directory is moved away, then the row goes; what a killed process left half-way is finished at the next
opening. Nothing is synced by itself: a volume's content is its containers' to sync.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from wherry.kernel.failpoints import failpoint
from wherry.kernel.paths import remove_path
from wherry.model.errors import Conflict, Invalid, NotFound
from wherry.model.volumes import Volume
from wherry.storage.durable import full
from wherry.storage.leftovers import remove_leftovers
from wherry.storage.trees import read_usage

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_LONGEST: Final = 255  # NAME_MAX, limits.h
_DATA: Final = "_data"
# Nobody but root passes: a container's root makes set-user-id files of the host's root here.
_PRIVATE: Final = 0o700
_STEPS = (
    """
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        body BLOB NOT NULL,
        removing INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
)


class Rows(Protocol):
    """What is used of a database."""

    def migrate(self, component: str, steps: Sequence[str]) -> None: ...
    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]: ...
    def transaction(self) -> AbstractContextManager[Any]: ...


def check_volume_name(name: str) -> None:
    """Raise Invalid, in Docker's words, for what cannot be a volume's name."""
    if len(name) == 1:
        raise Invalid(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if not NAME.fullmatch(name):
        raise Invalid(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use '
            "absolute path"
        )
    if len(name) > _LONGEST:
        raise Invalid(f"create {name}: a volume's name has at most {_LONGEST} characters")


class VolumeStore:
    """All volumes. Answers come from memory; one process owns a root."""

    def __init__(self, database: Rows, root: Path) -> None:
        """Read what `database` and `root` hold, and finish what a dead process left half-way."""
        database.migrate("volumes", _STEPS)
        self._database = database
        self._root = root
        self._making = root / ".making"
        self._trash = root / ".trash"
        for directory in (root, self._making, self._trash):
            directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        self._volumes: dict[str, Volume] = {}
        self._read()

    def _read(self) -> None:
        volumes = msgspec.json.Decoder(Volume)
        for name, body, removing in self._database.query(
            "SELECT name, body, removing FROM volumes"
        ):
            self._volumes[name] = volumes.decode(body)
            if removing:
                with contextlib.suppress(Conflict):  # it is there, then
                    self.remove(name)
        for entry in tuple(self._root.iterdir()):
            if entry.name not in self._volumes and NAME.fullmatch(entry.name):
                self._take_in(entry)
        for directory in (self._making, self._trash):
            remove_leftovers(directory)

    def _take_in(self, folder: Path) -> None:
        """A directory without a row: half-made where it is empty, else the volume of a lost database."""
        if folder.is_symlink():
            return
        self._forget_empty(folder.name)
        if (folder / _DATA).is_dir():
            self._insert(Volume(folder.name, folder.stat().st_mtime_ns))

    def __iter__(self) -> Iterator[Volume]:
        return iter(tuple(self._volumes.values()))

    def __len__(self) -> int:
        return len(self._volumes)

    def find(self, name: str) -> Volume | None:
        """Return the volume called `name`, or None."""
        return self._volumes.get(name)

    def get(self, name: str) -> Volume:
        """Return the volume called `name`. Raises NotFound."""
        try:
            return self._volumes[name]
        except KeyError:
            raise NoSuchVolume(name) from None

    def path(self, name: str) -> Path:
        """Return where the content is."""
        return self._root / name / _DATA

    def add(self, volume: Volume) -> Volume:
        """Keep a new volume and make its directory; one of that name is returned as it is.

        Raises Invalid for the name, Full.
        """
        if found := self._volumes.get(volume.name):
            return found
        check_volume_name(volume.name)
        try:
            self.ensure(volume.name)
            failpoint("volumes.before-row")
            self._insert(volume)
        except BaseException:
            self._forget_empty(volume.name)
            raise
        return volume

    def _insert(self, volume: Volume) -> None:
        self._database.query(
            "INSERT OR REPLACE INTO volumes (name, body) VALUES (?, ?)",
            volume.name,
            msgspec.json.encode(volume),
        )
        self._volumes[volume.name] = volume

    def _forget_empty(self, name: str) -> None:
        for folder in (self.path(name), self._root / name):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def ensure(self, name: str) -> Path:
        """Return the content's directory, made where someone took it away. Raises Full."""
        path = self.path(name)
        with full(f"volume {name}", path):
            try:
                path.mkdir(mode=0o755)
            except FileExistsError:
                return path
            except FileNotFoundError:
                path.parent.mkdir(mode=_PRIVATE, exist_ok=True)
                path.mkdir(mode=0o755, exist_ok=True)
        path.chmod(0o755)
        return path

    def remove(self, name: str) -> tuple[Path, ...]:
        """Take a volume away; return what of it is to be removed by `remove_path`.

        Raises NotFound, and Conflict where its directory cannot be moved away; the volume then stays.
        """
        self.get(name)
        self._database.query("UPDATE volumes SET removing = 1 WHERE name = ?", name)
        failpoint("volumes.removing")
        grave = self._trash / secrets.token_hex(8)
        try:
            os.rename(self._root / name, grave)
        except FileNotFoundError:
            grave = None
        except OSError as problem:
            self._database.query("UPDATE volumes SET removing = 0 WHERE name = ?", name)
            reason = os.strerror(problem.errno or 0).lower()
            raise Conflict(
                f"remove {name}: {self._root / name}: {reason}", hint="is something mounted there?"
            ) from problem
        failpoint("volumes.buried")
        self._database.query("DELETE FROM volumes WHERE name = ?", name)
        del self._volumes[name]
        return (grave,) if grave is not None else ()

    def is_empty(self, name: str) -> bool:
        """Whether nothing is in the volume's directory."""
        with os.scandir(self.ensure(name)) as entries:
            return next(entries, None) is None

    def usage(self, name: str) -> int:
        """Return the bytes that the volume's files hold, hard links once; 0 where it is gone."""
        try:
            return read_usage(self.path(name))
        except FileNotFoundError:
            return 0

    @contextmanager
    def filling(self, name: str) -> Generator[Path]:
        """Give out an empty directory that becomes the content of the empty volume `name`.

        All of it or nothing: after an error, or a crash, the volume is as empty as it was. Who mounted
        the volume before does not see it. Raises Full.
        """
        target = self._making / secrets.token_hex(8)
        with full(f"volume {name}", target):
            target.mkdir(mode=0o755)
            try:
                yield target
                failpoint("volumes.before-filled")
                self._replace(target, self.ensure(name))
            finally:
                remove_path(target)

    def _replace(self, target: Path, final: Path) -> None:
        try:
            # rename(2): an empty directory is replaced at once.
            os.rename(target, final)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


class NoSuchVolume(NotFound):
    """There is no volume of that name."""

    def __init__(self, name: str) -> None:
        super().__init__("volume", name)
        self.message = f"get {name}: no such volume"
