"""COPY and ADD carried out: what a step brings, one digest for it, and its files put into a stage's tree.

CopyStep, AddStep + Tree > selection > digest (into the step's key), or > placement (into the layer)
"""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from wherry.build import owners
from wherry.build.context.listing import Found, Summary, open_file
from wherry.build.context.store import StoredTree
from wherry.build.files import Target, Tree
from wherry.build.modes import Chmod
from wherry.build.placement import Placement
from wherry.build.remote.files import Downloaded, LateWeb, file_name
from wherry.build.remote.git import Git, GitSource, parse_git
from wherry.build.selection import Picked, below, pick
from wherry.build.steps import AddStep, CopyStep
from wherry.kernel.paths import follow_in_root
from wherry.model.errors import Invalid
from wherry.model.urls import is_web
from wherry.storage.layers.compression import decompressed
from wherry.storage.layers.entries import OwnerMap
from wherry.storage.layers.extract import extract
from wherry.storage.layers.reader import TarReader
from wherry.storage.layers.xattrs import read_xattrs, to_archive

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REMEMBERED: Final = 4096
_HEREDOC_MODE: Final = 0o644
_DOWNLOAD_MODE: Final = 0o600


class Copying:
    """A `files.Copier`. Digests are remembered by what stands for the tree, so asking again costs nothing."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where downloads and clones lie while a build needs them."""
        self._web = LateWeb(folder / "downloads")
        self._git = Git(folder / "git")
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[object, ...], str] = OrderedDict()

    def digest(self, step: CopyStep | AddStep, source: Tree | None) -> str:
        """Return what stands for all that the step would bring. See `files.Copier`."""
        summary = Summary()
        for name in (step.destination, step.chown, step.chmod, *step.excludes):
            summary.text(os.fsencode(name))
        for file in step.files:
            summary.text(b"heredoc", os.fsencode(file.name), os.fsencode(file.content))
        for remote in _remotes(step):
            summary.text(b"remote", os.fsencode(self._remote_digest(step, remote)))
        if local := _locals(step):
            if source is None:
                raise Invalid("no files to copy from", hint=" ".join(local))
            summary.text(self._local_digest(step, local, source).encode())
        return f"sha256:{summary.hex()}"

    def _local_digest(self, step: CopyStep | AddStep, local: tuple[str, ...], source: Tree) -> str:
        parents = isinstance(step, CopyStep) and step.parents
        key = (source.digest, local, step.excludes, parents)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        contents: Mapping[bytes, bytes] = (
            source.contents if isinstance(source, StoredTree) else dict[bytes, bytes]()
        )
        summary = Summary()
        with source.open() as root:
            for text in local:
                for picked in pick(root, text, parents=parents, excludes=step.excludes):
                    top = picked.parents or picked.name
                    with _found(root, picked) as found:
                        if not picked.is_directory:
                            summary.add(top, found, contents.get(picked.path))
                            continue
                        if parents:
                            summary.add(top, found)
                        summary.text(b"directory", picked.parents)
                    prefix = picked.path + b"/" if picked.path else b""
                    for found in below(root, picked, step.excludes):
                        summary.add(found.path, found, contents.get(prefix + found.path))
        digest = summary.hex()
        with self._lock:
            self._known[key] = digest
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return digest

    def _remote_digest(self, step: CopyStep | AddStep, remote: str | GitSource) -> str:
        checksum = step.checksum if isinstance(step, AddStep) else ""
        if isinstance(remote, GitSource):
            keep = isinstance(step, AddStep) and step.keep_git_dir
            commit = self._git.resolve(remote)
            if checksum and not commit.startswith(checksum):
                raise Invalid(f"expected checksum to match {checksum}, got {commit}")
            return f"git {remote.url} {commit} {remote.folder} {keep}"
        if checksum:
            return f"web {remote} {checksum}"
        found = self._web.get(remote)
        return f"web {file_name(remote, found)} {found.digest} {found.mtime}"

    def copy(self, step: CopyStep | AddStep, source: Tree | None, target: Target) -> None:
        """Bring the files. See `files.Copier`."""
        placement = Placement(
            target.root,
            owners.look_up(step.chown, target.users),
            Chmod.parse(step.chmod),
            target.epoch,
        )
        copy = _Copy(step, placement)
        if isinstance(step, CopyStep) and isinstance(source, StoredTree):
            placement.linking, copy.contents_of = target.linking, source.contents
        opened: AbstractContextManager[int] = source.open() if source else nullcontext(-1)
        with opened as root:
            for remote in _remotes(step):
                self._remote(copy, remote)
            for text in _locals(step):
                copy.local(root, text)
            for file in step.files:
                name = os.fsencode(file.name).rpartition(b"/")[2]
                placement.data(os.fsencode(file.content), copy.place(name), _HEREDOC_MODE)
            placement.finish()

    def _remote(self, copy: _Copy, remote: str | GitSource) -> None:
        step = copy.step
        if isinstance(remote, GitSource):
            keep = isinstance(step, AddStep) and step.keep_git_dir
            with self._git.checkout(remote, keep_git_dir=keep) as (path, _):
                fd = os.open(path, _DIRECTORY)
                try:
                    copy.contents(fd, Picked(b"", b"", b"", True), copy.top())
                finally:
                    os.close(fd)
            return
        assert isinstance(step, AddStep)
        found = self._web.get(remote, step.checksum, again=False)
        if step.unpack:
            fd = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                copy.unpack(fd)
            finally:
                os.close(fd)
            return
        copy.download(found, file_name(remote, found))


class _Copy:
    """One step being carried out."""

    def __init__(self, step: CopyStep | AddStep, placement: Placement) -> None:
        self.step = step
        self._placement = placement
        self._resolved = placement.resolve(step.destination)
        self._parents = isinstance(step, CopyStep) and step.parents
        self.contents_of: Mapping[bytes, bytes] = {}

    def top(self) -> bytes:
        """Return the destination as a directory, made where it is missing."""
        self._placement.directory(self._resolved)
        return self._resolved

    def place(self, name: bytes) -> bytes:
        """Return where a file called `name` goes, its parent being there."""
        # Of several files that go to what is no directory the last one stays, as with BuildKit.
        named = self.step.destination.endswith(("/", "/."))
        if named or self._placement.is_directory(self._resolved):
            top = self.top()
            return top + b"/" + name if top else name
        self._placement.directory(self._resolved.rpartition(b"/")[0])
        return self._resolved

    def local(self, root: int, text: str) -> None:
        """Bring what one source names."""
        for picked in pick(root, text, parents=self._parents, excludes=self.step.excludes):
            if picked.parents:
                self._with_parents(root, picked)
            elif picked.is_directory:
                self._check_no_file()
                self.contents(root, picked, self.top())
            elif not self._unpacked(root, picked):
                with _found(root, picked) as found:
                    self._begin(root, b"")
                    self._placement.one(found, self.place(picked.name))

    def _begin(self, root: int, prefix: bytes) -> None:
        if self._placement.linking is not None:
            self._placement.linking.begin(root, prefix, self.contents_of)

    def _check_no_file(self) -> None:
        placement = self._placement
        try:
            status = os.stat(self._resolved or b".", dir_fd=placement.root, follow_symlinks=False)
        except OSError:
            return
        if not stat.S_ISDIR(status.st_mode):
            raise Invalid(f"cannot copy to non-directory: /{os.fsdecode(self._resolved)}")

    def contents(self, root: int, picked: Picked, top: bytes) -> None:
        """Bring what is in a directory into the directory `top`."""
        self._begin(root, picked.path)
        status = os.stat(picked.path or b".", dir_fd=root, follow_symlinks=False)
        self._placement.tree(below(root, picked, self.step.excludes), top, status)

    def _with_parents(self, root: int, picked: Picked) -> None:
        """Bring a file or directory with the directories that it is named with, as they are."""
        here = self.top()
        parts = picked.parents.split(b"/")
        for depth in range(1, len(parts) + picked.is_directory):
            here = here + b"/" + parts[depth - 1] if here else parts[depth - 1]
            named = filter(None, (picked.before, *parts[:depth]))
            path = follow_in_root(root, b"/".join(named))
            status = os.stat(path, dir_fd=root, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                self._placement.directory(here)
                continue
            fd = os.open(path, _DIRECTORY, dir_fd=root)
            try:
                self._placement.like(here, status, to_archive(read_xattrs(fd)))
            finally:
                os.close(fd)
        if picked.is_directory:
            self.contents(root, picked, here)
            return
        self._begin(root, b"")
        with _found(root, picked) as found:
            path = here + b"/" + parts[-1] if here else parts[-1]
            self._placement.one(found, path)

    def _unpacked(self, root: int, picked: Picked) -> bool:
        """Whether it was an archive that ADD takes apart, and now is."""
        if not isinstance(self.step, AddStep) or self.step.unpack is False:
            return False
        with _found(root, picked) as found:
            if not stat.S_ISREG(found.status.st_mode):
                return False
            fd = open_file(found.parent, found.name)
            try:
                if not _is_archive(fd):
                    return False
                os.lseek(fd, 0, os.SEEK_SET)
                self.unpack(fd)
            finally:
                os.close(fd)
        return True

    def unpack(self, archive: int) -> None:
        """Take an archive apart into the destination. Owners are the archive's unless --chown says else."""
        placement = self._placement
        placement.directory(self._resolved, mode=0o755)
        placement.keep(self._resolved)
        owner: OwnerMap | None = None
        if (given := placement.owner) is not None:
            owner = _always(given)
        with open(archive, "rb", closefd=False) as file:
            extract(
                decompressed(file)[1],
                placement.root,
                b"/" + self._resolved,
                owner=owner,
                clamp_mtime=placement.epoch,
            )

    def download(self, found: Downloaded, name: str) -> None:
        """Bring a file that came from the web."""
        fd = os.open(found.path.parent, _DIRECTORY)
        try:
            base = os.fsencode(found.path.name)
            item = Found(base, fd, base, os.stat(base, dir_fd=fd))
            path = self.place(os.fsencode(name))
            self._placement.downloaded(item, path, _DOWNLOAD_MODE, found.mtime)
        finally:
            os.close(fd)


def _always(owner: tuple[int, int]) -> OwnerMap:
    return lambda uid, gid: owner


def _remotes(step: CopyStep | AddStep) -> list[str | GitSource]:
    if isinstance(step, CopyStep):
        return []
    found: list[str | GitSource] = []
    for text in step.sources:
        if (git := parse_git(text)) is not None:
            found.append(git)
        elif is_web(text):
            found.append(text)
    return found


def _locals(step: CopyStep | AddStep) -> tuple[str, ...]:
    if isinstance(step, CopyStep):
        return step.sources
    return tuple(text for text in step.sources if not is_web(text) and parse_git(text) is None)


@contextmanager
def _found(root: int, picked: Picked) -> Generator[Found]:
    """Give what was picked, as `listing` has it."""
    above, _, name = picked.path.rpartition(b"/")
    fd = os.open(above or b".", _DIRECTORY, dir_fd=root)
    try:
        name = name or b"."
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        yield Found(picked.path, fd, name, status)
    finally:
        os.close(fd)


def _is_archive(fd: int) -> bool:
    with open(fd, "rb", closefd=False) as file:
        try:
            return TarReader(decompressed(file)[1], strict_end=False).next_entry() is not None
        except Invalid:
            return False
