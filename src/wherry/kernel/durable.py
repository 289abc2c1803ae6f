"""The one way something becomes permanent: write, sync, rename, sync of the folder.

A file is synced by itself. A tree is synced with its whole file system: one syncfs(2) costs one
flush of what is dirty, an fsync(2) per file costs a journal commit each (9,500 files: many seconds).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wherry.kernel.failpoints import failpoint
from wherry.kernel.paths import sync_filesystem
from wherry.kernel.space import no_room

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{12}", re.DOTALL)
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@contextmanager
def full(subject: str, where: Path | None = None) -> Generator[None]:
    """Turn an OSError for lack of space (ENOSPC, EDQUOT) inside the block into Full.

    `where` is a place on the file system that is named.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_room(subject, where) from problem


def commit_file(fd: int, temporary: Path, final: Path) -> None:
    """Make the file `fd`, written as `temporary`, permanent as `final`, which it replaces."""
    failpoint("durable.before-sync")
    os.fsync(fd)
    failpoint("durable.before-rename")
    os.rename(temporary, final)
    failpoint("durable.after-rename")
    sync_directory(final.parent)


def commit_tree(temporary: Path, final: Path) -> None:
    """Make the directory `temporary` and all in it permanent as `final`, which must be free.

    Raises OSError: ENOTEMPTY or EEXIST where `final` exists.
    """
    fd = os.open(temporary, _DIRECTORY)
    try:
        failpoint("durable.before-sync")
        sync_filesystem(fd)
    finally:
        os.close(fd)
    failpoint("durable.before-rename")
    os.rename(temporary, final)
    failpoint("durable.after-rename")
    sync_directory(final.parent)


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Make `data` the permanent content of `path`: readers see the old or the new, never a part.

    Raises Full, OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with full(str(path), path.parent):
        fd = os.open(temporary, _FRESH, mode)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fchmod(fd, mode)
            commit_file(fd, temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)


def is_temporary(name: str) -> bool:
    """Whether a file's name is one under which `write_file` prepares another: what a crash left."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep_temporaries(folder: Path) -> None:
    """Remove what a crash left of `write_file` in `folder`; for when nobody else writes there."""
    for name in os.listdir(folder):
        if is_temporary(name):
            (folder / name).unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in the directory `path` permanent."""
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
