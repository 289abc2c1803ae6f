"""Steps, trees and listings for tests of COPY and ADD."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wherry.build.copying import Copying
from wherry.build.dockerfile.syntax import Instruction, Span
from wherry.build.files import Target
from wherry.build.steps import AddStep, Common, CopyStep, FromContext
from wherry.model.images import ImageConfig

COMMON = Common(Instruction("COPY", (), "COPY", Span(1, 1)), "", "", ImageConfig())


@dataclass(frozen=True)
class FolderTree:
    """A plain folder as a Tree: what a stage's result is to COPY."""

    path: Path
    digest: str = ""
    epoch: int | None = None

    @contextmanager
    def open(self) -> Generator[int]:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)


def copy_step(*sources: str, to: str, **more: object) -> CopyStep:
    return CopyStep(COMMON, tuple(sources), to, FromContext(), **more)  # type: ignore[arg-type]


def add_step(*sources: str, to: str, **more: object) -> AddStep:
    return AddStep(COMMON, tuple(sources), to, **more)  # type: ignore[arg-type]


def perform(
    copying: Copying,
    step: CopyStep | AddStep,
    source: Path | None,
    root: Path,
    epoch: int | None = None,
) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        copying.copy(step, FolderTree(source) if source else None, Target(fd, fd, epoch))
    finally:
        os.close(fd)


def listing(root: Path) -> dict[str, str]:
    """What is below `root`: `path: mode uid:gid [seconds]`, links with where they lead."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        text = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
        if path.is_symlink():
            text += f" -> {os.readlink(path)}"
        found[str(path.relative_to(root))] = text
    return found
