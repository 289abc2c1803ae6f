"""Where a build's files are, and how they get to the engine: folders, archives, the rest by name."""

from __future__ import annotations

import os

from wherry.cli.failure import Failure
from wherry.cli.files import reason
from wherry.model.urls import is_web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from wherry.client.engine import Engine

    Object = dict[str, Any]

_PIECE = 1 << 20
_TAR = {"Content-Type": "application/x-tar"}
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_GIT_PREFIXES = ("git@", "git://", "ssh://", "github.com/")


def is_remote(text: str) -> bool:
    """Whether the engine fetches it: git or the web. A folder of that name goes first."""
    if os.path.isdir(text):
        return False
    return is_git(text) or is_web(text)


def is_git(text: str) -> bool:
    """Whether it names a git repository, as Docker tells."""
    head = text.partition("#")[0].partition("?")[0]
    web = is_web(text)
    return text.startswith(_GIT_PREFIXES) or (web and head.endswith(".git"))


def remote(text: str) -> Object:
    """Return the reference of a remote context."""
    return {"kind": "git" if is_git(text) else "url", "value": text}


class Standard:
    """Standard input, looked at before it is sent."""

    def __init__(self) -> None:
        self._head = b""
        while len(self._head) < 512 and (piece := os.read(0, _PIECE)):
            self._head += piece

    @property
    def is_archive(self) -> bool:
        """Whether it is tar, plain or compressed; else it is a Dockerfile."""
        return self._head.startswith(_PACKED) or self._head[257:262] == b"ustar"

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it."""
        if self._head:
            yield self._head
        while piece := os.read(0, _PIECE):
            yield piece

    def text(self) -> bytes:
        """Return all of it."""
        return b"".join(self.pieces())


def send_archive(engine: Engine, pieces: Iterator[bytes]) -> Object:
    """Send a context that is tar."""
    response = engine.open("POST", "/wherry/build/archive", None, pieces, _TAR)
    answer = _json(response.read())
    return {"kind": "tree", "value": answer["tree"], "ignore": answer["ignore"]}


def _json(content: bytes) -> Any:
    from wherry.client import wire

    return wire.decode(content)


def read_ignore(folder: str, dockerfile: str) -> tuple[str, ...]:
    """Return the lines of the Dockerfile's own .dockerignore, else of the folder's. Raises Failure."""
    for path in (f"{dockerfile}.dockerignore" if dockerfile else "", f"{folder}/.dockerignore"):
        if not path:
            continue
        try:
            with open(path, "rb") as file:
                content = file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise Failure(reason(error)) from None
        # Not at the top: it brings `re` and `typing`, which most builds have no use for.
        from wherry.model.ignore import parse

        return parse(content)
    return ()


def send_folder(engine: Engine, path: str, ignore: tuple[str, ...]) -> Object:
    """Bring the engine's copy of a folder up to date: what it has already is not sent again."""
    if not os.path.isdir(path):
        missing = not os.path.lexists(path)
        problem = "not found" if missing else "not a directory"
        raise Failure(f"unable to prepare context: path {path!r} {problem}")
    try:
        from wherry.client.foldersync import Folder
    except ImportError:
        return _packed(engine, path, ignore)
    try:
        folder = Folder(path, ignore)
        tree = _sync(engine, folder, os.path.realpath(path))
    except OSError as error:
        raise Failure(f"unable to prepare context: {reason(error)}") from None
    answer: Object = {"kind": "tree", "value": tree}
    epoch = commit_time(path)
    return answer if epoch is None else {**answer, "epoch": epoch}


def _packed(engine: Engine, path: str, ignore: tuple[str, ...]) -> Object:
    """All of a folder as tar."""
    from wherry.cli.tarstream import TarStream

    answer = send_archive(engine, iter(TarStream(path, "")))
    return {**answer, "ignore": list(ignore)}


def _sync(engine: Engine, folder: Any, key: str) -> str:
    digest: str = folder.digest()
    answer = _json(engine.open("POST", "/wherry/build/folder", {"digest": digest}, b"").read())
    if answer["tree"]:
        return answer["tree"]
    answer = _json(
        engine.open("POST", "/wherry/build/folder", {"key": key}, folder.manifest()).read()
    )
    if answer["tree"]:
        return answer["tree"]
    path = f"/wherry/build/folder/{answer['sync']}"
    response = engine.open("POST", path, None, folder.pieces(answer["wanted"]))
    return _json(response.read())["tree"]


def commit_time(path: str) -> int | None:
    """Return the seconds of the commit that a folder is a checkout of; None outside one."""
    at: str = os.path.realpath(path)
    while not os.path.exists(f"{at}/.git"):
        if at == "/":
            return None
        at = os.path.dirname(at)
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", at, "log", "-1", "--format=%ct"],
            capture_output=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.strip()
    return int(text) if done.returncode == 0 and text.isdigit() else None


def named(engine: Engine, where: str) -> Object:
    """Return the reference of a named context, its files sent where they are here."""
    scheme, found, rest = where.partition("://")
    if found and scheme == "docker-image":
        return {"kind": "image", "value": rest}
    if found and scheme == "oci-layout":
        folder, suffix = rest, ""
        for mark in ("@", ":"):
            head, cut, tail = folder.rpartition(mark)
            if cut and "/" not in tail:
                folder, suffix = head, f"{cut}{tail}{suffix}"
        tree = send_folder(engine, folder, ())
        return {"kind": "oci-layout", "value": f"{tree['value']}{suffix}"}
    if is_remote(where):
        return remote(where)
    path = where.removeprefix("local:")
    return send_folder(engine, path, read_ignore(path, ""))
