"""Which files of a tree a COPY takes: source paths and patterns to what they name, links followed inside.

Rules of Docker 28.5: a pattern that matches nothing brings nothing, a plain path must be there; a named
link is followed; `--exclude` is about what lies below a named directory, never about what is named itself.
With --parents it is about paths below the pivot, and a link that is named stays one, as BuildKit picks
by patterns then.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wherry.build.context.listing import Found, walk
from wherry.build.context.views import ignoring
from wherry.build.wildcards import compiled, has_wildcards
from wherry.kernel.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    follow_in_root,
    open_in_root,
    split,
)
from wherry.model.errors import NotFound
from wherry.model.ignore import Matcher

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH


class MissingSource(NotFound):
    """A source that is not in the tree."""

    def __init__(self, source: str) -> None:
        super().__init__("file in the build context", source)
        self.message = f'"/{_inside(source)}": not found'


@dataclass(frozen=True, slots=True)
class Picked:
    """One thing to copy: where it lies, resolved, and what it is called at the destination."""

    path: bytes
    """Of the file itself, no link in it; b"" is the tree's root."""
    name: bytes
    """Its last component as it was named."""
    parents: bytes
    """With `--parents`: what of its path the destination gets, the name included; else b""."""
    is_directory: bool
    before: bytes = b""
    """With `--parents`: what of its path the destination does not get, as it was named."""


def pick(
    root: int, source: str, *, parents: bool = False, excludes: tuple[str, ...] = ()
) -> list[Picked]:
    """Return what `source` names below `root`, in order. Raises MissingSource, Invalid."""
    picked = _named(root, source, parents=parents)
    matcher = excluding(excludes) if parents else None
    if not matcher:
        return picked
    return [one for one in picked if not one.parents or _stays(matcher, one)]


def _stays(matcher: Matcher, picked: Picked) -> bool:
    name = os.fsdecode(picked.parents)
    return not matcher.ignored(name) or (picked.is_directory and matcher.descend(name))


def _named(root: int, source: str, *, parents: bool) -> list[Picked]:
    plain = _inside(source)
    pivot = _pivot(source) if parents else 0
    if not has_wildcards(source):
        return [_one(root, plain, source, pivot, parents)]
    parts = plain.split("/")
    first = next(i for i, part in enumerate(parts) if has_wildcards(part))
    head = os.fsencode("/".join(parts[:first]))
    found = sorted(_matches(root, head, parts[first:]), key=lambda path: path.split(b"/"))
    if not found and _exists(root, plain):
        found = [os.fsencode(plain)]
    return [_one(root, os.fsdecode(path), source, pivot, parents) for path in found]


def below(root: int, picked: Picked, excludes: tuple[str, ...]) -> Iterator[Found]:
    """Yield what a named directory brings, without what `--exclude` leaves out."""
    matcher = excluding(excludes)
    if not matcher:
        return walk(root, picked.path)
    ignored = ignoring(matcher)
    above = picked.parents + b"/" if picked.parents else b""

    def wanted(path: bytes, is_directory: bool) -> tuple[bool, bool]:
        return ignored(above + path, is_directory)

    return walk(root, picked.path, wanted)


def excluding(excludes: tuple[str, ...]) -> Matcher:
    """Return what `--exclude` leaves out. One that begins with a slash leaves out nothing, as with Docker."""
    return Matcher(text for text in excludes if not text.lstrip("! ").startswith("/"))


def _inside(source: str) -> str:
    """Return the path as text: `..` ends at the root."""
    done: list[str] = []
    for part in source.split("/"):
        if part == "..":
            del done[-1:]
        elif part not in ("", "."):
            done.append(part)
    return "/".join(done)


def _pivot(source: str) -> int:
    """Return how many leading components `/./` keeps from the destination."""
    head, mark, _ = source.lstrip("/").partition("/./")
    if head.startswith("./"):
        head = head[2:]
    return len(split(os.fsencode(_inside(head)))) if mark else 0


def _one(root: int, path: str, source: str, pivot: int, parents: bool) -> Picked:
    named = os.fsencode(path)
    real = follow_in_root(root, named)
    if parents and named:
        above, _, last = named.rpartition(b"/")
        real = b"/".join(filter(None, (follow_in_root(root, above), last)))
    try:
        status = os.stat(real or b".", dir_fd=root, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingSource(source) from None
    if (stat.S_ISLNK(status.st_mode) and not parents) or stat.S_ISSOCK(status.st_mode):
        raise MissingSource(source)  # links in a circle; nobody listens at a socket
    name = named.rpartition(b"/")[2]
    is_directory = stat.S_ISDIR(status.st_mode)
    if not parents:
        return Picked(real, name, b"", is_directory)
    parts = split(named)
    kept, before = b"/".join(parts[pivot:]), b"/".join(parts[:pivot])
    return Picked(real, name, kept, is_directory, before)


def _exists(root: int, path: str) -> bool:
    try:
        os.stat(follow_in_root(root, os.fsencode(path)), dir_fd=root, follow_symlinks=False)
    except OSError:
        return False
    return True


def _matches(root: int, head: bytes, patterns: list[str]) -> Iterator[bytes]:
    """Yield the paths below `head` that match, component by component; links are not walked through."""
    real = follow_in_root(root, head)
    try:
        fd = open_in_root(root, real or b".", _DIRECTORY, resolve=_STRICT)
    except OSError:
        return
    try:
        names = sorted(map(os.fsencode, os.listdir(fd)))
        pattern = patterns[0]
        if pattern == "**":
            yield from _any_depth(root, real, head, patterns, names, fd)
            return
        wanted = compiled(pattern)
        for name in names:
            if not wanted.fullmatch(os.fsdecode(name)):
                continue
            path = head + b"/" + name if head else name
            if len(patterns) == 1:
                yield path
            elif stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                yield from _matches(root, path, patterns[1:])
    finally:
        os.close(fd)


def _any_depth(
    root: int, real: bytes, head: bytes, patterns: list[str], names: list[bytes], fd: int
) -> Iterator[bytes]:
    del real
    yield from _matches(root, head, patterns[1:] or ["*"])
    for name in names:
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            yield from _matches(root, head + b"/" + name if head else name, patterns)
