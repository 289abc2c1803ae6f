"""A file system of the test's own that can be made full to the page, or to the last inode."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self

_PAGE = 4096


class SmallDisk:
    """A tmpfs at `path`, whose room is taken by ballast. A context manager.

    Its blocks are pages, taken when they are written: what fails for want of the n-th page or inode fails
    there each time, which a file system with delayed allocation does not promise.
    """

    def __init__(self, path: Path, size: int = 64 << 20, inodes: int = 1500) -> None:
        self.path = path
        self._options = f"size={size},nr_inodes={inodes},mode=0711"
        self._ballast = path / ".ballast"
        self._files: list[Path] = []

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", self._options, "tmpfs", self.path], check=True
        )
        self._ballast.touch()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.path], check=True)
        self.path.rmdir()

    def leave_pages(self, count: int) -> None:
        """Take all space but `count` pages of 4 KiB."""
        facts = os.statvfs(self.path)
        spare = facts.f_bavail * facts.f_frsize // _PAGE - count
        with self._ballast.open("r+b") as file:
            held = os.fstat(file.fileno()).st_size
            if spare > 0:
                os.posix_fallocate(file.fileno(), held, spare * _PAGE)
            else:
                os.truncate(file.fileno(), max(held + spare * _PAGE, 0))

    def leave_inodes(self, count: int) -> None:
        """Take all inodes but `count`; there is space."""
        for _ in range(os.statvfs(self.path).f_ffree - count):
            path = self.path / f".ballast-{len(self._files)}"
            path.touch()
            self._files.append(path)
        while os.statvfs(self.path).f_ffree < count:
            self._files.pop().unlink()

    def empty(self) -> None:
        """Give all room back."""
        os.truncate(self._ballast, 0)
        while self._files:
            self._files.pop().unlink()
