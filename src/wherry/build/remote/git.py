"""Repositories by git: contexts, and ADD's sources. The machine's own `git` fetches one commit and no more.

`URL#ref:folder`: the ref is a branch, a tag, a commit (or its unambiguous beginning) or empty, the folder a
path in the repository.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.kernel.paths import follow_in_root, remove_path
from wherry.model.errors import Invalid, NotFound, Unavailable, Unsupported
from wherry.model.urls import is_web
from wherry.storage.leftovers import remove_leftovers

_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SHORT: Final = re.compile(r"[0-9a-f]{4,39}")
_SCP: Final = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:(?!//)[^#]+")
_TIMEOUT: Final = 600.0
# Nothing of the machine's or a repository's settings runs a program (gitattributes filters, hooks, fsmonitor).
_ENVIRONMENT: Final = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "LC_ALL": "C",
    "HOME": "/nonexistent",
}


@dataclass(frozen=True, slots=True)
class GitSource:
    """A repository, a ref ("" is its HEAD), and a folder in it ("" is all)."""

    url: str
    ref: str = ""
    folder: str = ""


def parse_git(text: str) -> GitSource | None:
    """Return the repository that a source names; None where it is none.

    A URL is git's by its scheme, by `git@host:path`, or by a path that ends in `.git`.
    """
    url, _, fragment = text.partition("#")
    if is_web(url):
        if not url.partition("?")[0].endswith(".git"):
            return None
    elif not url.startswith(("git://", "ssh://", "git+")) and not _SCP.fullmatch(url):
        return None
    ref, _, folder = fragment.partition(":")
    if url.startswith("-") or ref.startswith("-"):
        raise Invalid(f"no repository: {text}")
    return GitSource(url.removeprefix("git+"), ref, folder.strip("/"))


class Git:
    """Fetches into folders under `root`; what another process left there is swept."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(root)
        self._resolved: dict[GitSource, str] = {}

    def resolve(self, source: GitSource) -> str:
        """Return the commit that the ref is now, which `checkout` then gives.

        Raises NotFound, Unavailable, Unsupported.
        """
        commit = source.ref if _COMMIT.fullmatch(source.ref) else self._ask(source)
        self._resolved[source] = commit
        return commit

    def _ask(self, source: GitSource) -> str:
        wanted = [source.ref or "HEAD"]
        if source.ref:
            wanted.append(f"{source.ref}^{{}}")
        out = self._git(("ls-remote", "--", source.url, *wanted)).decode(errors="replace")
        refs = {
            name: commit
            for commit, _, name in (line.partition("\t") for line in out.splitlines())
            if _COMMIT.fullmatch(commit)
        }
        ref = source.ref or "HEAD"
        for name in (
            ref,
            f"refs/tags/{ref}^{{}}",
            f"{ref}^{{}}",
            f"refs/heads/{ref}",
            f"refs/tags/{ref}",
        ):
            if name in refs and not (name == ref and f"{ref}^{{}}" in refs):
                return refs[name]
        if _SHORT.fullmatch(ref) and (commit := self._abbreviated(source)):
            return commit
        raise NotFound("git ref", source.ref or "HEAD", hint=source.url)

    def _abbreviated(self, source: GitSource) -> str:
        """Return the commit whose name begins as the ref, "" for none: no server tells, so all are fetched."""
        work = self._root / secrets.token_hex(8)
        work.mkdir(mode=0o700)
        try:
            self._git(("init", "--quiet", "--bare", "--template="), work)
            # Servers that know filters leave the files out.
            words = ("fetch", "--quiet", "--filter=tree:0", "--", source.url, "+refs/*:refs/*")
            self._git(words, work)
            found = self._git(("rev-parse", f"--disambiguate={source.ref}"), work).decode().split()
            kinds = [self._git(("cat-file", "-t", name), work).strip() for name in found]
        finally:
            remove_path(work)
        commits = [name for name, kind in zip(found, kinds, strict=True) if kind == b"commit"]
        if len(commits) > 1:
            raise Invalid(f"{source.ref} is the beginning of {len(commits)} commits")
        return commits[0] if commits else ""

    @contextmanager
    def checkout(
        self, source: GitSource, *, keep_git_dir: bool = False
    ) -> Generator[tuple[Path, int]]:
        """Give a folder with the files of the commit, and its time in seconds; gone afterwards.

        Raises as `resolve`.
        """
        commit = self._resolved.get(source) or self.resolve(source)
        work = self._root / secrets.token_hex(8)
        work.mkdir(mode=0o700)
        try:
            tree = work / "tree"
            tree.mkdir()

            def run(*words: str) -> bytes:
                return self._git(words, tree)

            run("init", "--quiet", "--template=")
            run("remote", "add", "origin", source.url)
            try:
                run("fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", commit)
            except Unavailable:
                # A server that gives out no commit by its name gives its branches and tags.
                run(
                    "fetch",
                    "--quiet",
                    "--tags",
                    "--",
                    "origin",
                    "+refs/heads/*:refs/remotes/origin/*",
                )
            run("-c", "core.symlinks=true", "checkout", "--quiet", "--detach", commit)
            if (tree / ".gitmodules").is_file():
                run("submodule", "update", "--init", "--recursive", "--depth=1", "--quiet")
            epoch = int(run("show", "-s", "--format=%ct", commit).decode().strip() or 0)
            if not keep_git_dir:
                # Not by rglob: that looks through a link, which may lead to a submodule or anywhere.
                for folder, folders, files in os.walk(tree):
                    if ".git" in folders or ".git" in files:
                        remove_path(Path(folder, ".git"))
            yield _folder(tree, source), epoch
        finally:
            remove_path(work)

    def _git(self, words: Sequence[str], folder: Path | None = None) -> bytes:
        program = shutil.which("git")
        if program is None:
            raise Unsupported("git is not on this machine", hint="install git")
        environment = {**os.environ, **_ENVIRONMENT}
        command = (program, "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*", *words)
        try:
            done = subprocess.run(
                command,
                cwd=folder or self._root,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"git {words[0]}: no answer within {_TIMEOUT:.0f} s") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise Unavailable(f"git {words[0]}: {said[-1] if said else done.returncode}")
        return done.stdout


def _folder(tree: Path, source: GitSource) -> Path:
    if not source.folder:
        return tree
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = follow_in_root(fd, os.fsencode(source.folder))
    finally:
        os.close(fd)
    path = tree / os.fsdecode(inside)
    if not path.exists() or not stat.S_ISDIR(path.lstat().st_mode):
        raise NotFound("folder in the repository", source.folder, hint=source.url)
    return path
