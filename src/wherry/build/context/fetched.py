"""Contexts that are elsewhere: repositories, archives and lone Dockerfiles by HTTP. For `ContextStore`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wherry.build.context.store import ContextStore, Fetch
from wherry.build.context.tarred import receive_tar
from wherry.build.remote.files import LateWeb
from wherry.build.remote.git import Git, parse_git
from wherry.model.build import ContextKind, ContextRef
from wherry.model.errors import Invalid
from wherry.storage.layers.compression import decompressed
from wherry.storage.layers.reader import TarReader

_LARGEST_DOCKERFILE: Final = 16 << 20


def fetchers(folder: Path) -> Mapping[ContextKind, Fetch]:
    """Return what fetches git and web contexts, working in `folder`."""
    git = Git(folder / "git")
    web = LateWeb(folder / "downloads")

    def from_git(store: ContextStore, ref: ContextRef) -> tuple[str, str]:
        value = ref.value
        if value.startswith("github.com/"):
            value = f"https://{value}"
            if not value.partition("#")[0].endswith(".git"):
                head, mark, fragment = value.partition("#")
                value = f"{head}.git{mark}{fragment}"
        source = parse_git(value)
        if source is None:
            raise Invalid(f"no git repository: {ref.value}")
        commit = git.resolve(source)
        keep = ref.keep_git_dir
        with (
            git.checkout(source, keep_git_dir=keep) as (path, epoch),
            store.adopting(epoch) as (target, _),
        ):
            shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
            for directory, names, files in os.walk(target):
                for name in (*names, *files):
                    os.utime(os.path.join(directory, name), (epoch, epoch), follow_symlinks=False)
        return target.parent.name, commit

    def from_web(store: ContextStore, ref: ContextRef) -> tuple[str, str]:
        found = web.get(ref.value)
        with store.adopting() as (target, digests), open(found.path, "rb") as file:
            try:
                archive = TarReader(decompressed(file)[1], strict_end=False).next_entry()
            except Invalid:
                archive = None
            file.seek(0)
            if archive is not None:
                receive_tar(file, target, digests)
            elif os.fstat(file.fileno()).st_size > _LARGEST_DOCKERFILE:
                raise Invalid(f"{ref.value}: neither an archive nor a Dockerfile")
            else:
                (target / "Dockerfile").write_bytes(file.read())
        return target.parent.name, ""

    return {ContextKind.GIT: from_git, ContextKind.URL: from_web}
