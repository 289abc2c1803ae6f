"""The client's configuration: its folder, and what config.json there says. Docker's client has the same.

The folder is --config, DOCKER_CONFIG, or ~/.docker. Source: docker(1), "Configuration files".
"""

from __future__ import annotations

import os
import sys

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
    "allProxy": "ALL_PROXY",
}


def find_folder(chosen: str) -> str:
    """Return the folder of the client's configuration; `chosen` is what --config says."""
    return chosen or os.environ.get("DOCKER_CONFIG", "") or os.path.expanduser("~/.docker")


class Configuration:
    """One folder and its config.json, which is read when it is first asked of."""

    __slots__ = ("_document", "_problem", "folder", "path")

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, "config.json")
        self._document: Object | None = None
        self._problem: Failure | None = None

    @property
    def document(self) -> Object:
        """What config.json holds; empty where there is none, and, with a warning, where it is not to be read."""
        if self._document is None:
            try:
                self._document = _read(self.path)
            except Failure as problem:
                # As with Docker's client: only what would replace the file stops at it.
                sys.stderr.write(f"WARNING: Error loading config file: {problem.text}\n")
                self._document, self._problem = {}, problem
        return self._document

    def text(self, name: str) -> str:
        """Return a setting that is text (`psFormat`, `detachKeys`), empty where it is not set."""
        found = self.document.get(name)
        return found if isinstance(found, str) else ""

    def table(self, name: str) -> Object:
        """Return a setting that is an object, made when it is not there. Raises Failure."""
        found = self.document.setdefault(name, {})
        if not isinstance(found, dict):
            raise Failure(f"{self.path}: {name} is no object")
        return found  # pyright: ignore[reportUnknownVariableType]

    def headers(self) -> dict[str, str]:
        """Return what goes with every request: `HttpHeaders`. Raises Failure."""
        found = self.document.get("HttpHeaders")
        if not found:
            return {}
        headers = self.table("HttpHeaders")
        for name, value in headers.items():
            if not isinstance(value, str) or not f"{name}{value}".isprintable():
                raise Failure(f"{self.path}: HttpHeaders: {name} is no header")
        # The engine is told by each command what it needs.
        return {name: value for name, value in headers.items() if name.lower() != "user-agent"}

    def proxies(self, host: str) -> dict[str, str]:
        """Return the variables that containers and builds of the engine at `host` are given."""
        if not self.document.get("proxies"):
            return {}
        tables = self.table("proxies")
        chosen: object = tables.get(host) or tables.get("default") or {}
        found: dict[str, str] = {}
        if isinstance(chosen, dict):
            for key, name in _PROXIES.items():
                value: object = chosen.get(key)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                if isinstance(value, str) and value:
                    found |= {name: value, name.lower(): value}
        return found

    def prune_filters(self) -> list[tuple[str, str]]:
        """Return the conditions that every prune has besides its own: `pruneFilters`."""
        given: object = self.document.get("pruneFilters") or []
        texts: list[object] = given if isinstance(given, list) else []  # pyright: ignore[reportUnknownVariableType]
        parts = [text.partition("=") for text in texts if isinstance(text, str)]
        return [(name, value) for name, equals, value in parts if equals]

    def write(self) -> None:
        """Replace the file, whole or not at all, readable by its owner only. Raises Failure."""
        from json import dumps

        if self._problem is not None:
            raise self._problem

        os.makedirs(self.folder, 0o700, exist_ok=True)
        # A file that is a link into another folder stays one.
        path = os.path.realpath(self.path)
        temporary = f"{path}.{os.getpid()}"
        document = {key: value for key, value in self.document.items() if value != {}}
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(dumps(document, indent="\t"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def _read(path: str) -> Object:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    from wherry.client import wire

    try:
        document: Any = wire.decode(content) if content.strip() else {}
    except ValueError as error:
        raise Failure(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Failure(f"{path} holds no JSON object")
    return document  # pyright: ignore[reportUnknownVariableType]
