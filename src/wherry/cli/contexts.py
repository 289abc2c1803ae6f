"""Contexts: engines by name, kept where Docker's client keeps them, so that both know the same ones.

    FOLDER/contexts/meta/<sha256 of the name>/meta.json    {"Name", "Metadata", "Endpoints": {"docker": …}}
    FOLDER/contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem
    FOLDER/wherry.json                                     {"currentContext": NAME}, wherry's own choice

FOLDER is that of the client's configuration. Which one is in use is not shared: a Docker Desktop's choice
must not send wherry's commands there. Source: docker-context(1).
"""

from __future__ import annotations

import json
import os
import re

from wherry.cli.failure import Failure
from wherry.client.address import Credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, cast
else:

    def cast(_kind: object, value: object) -> object:
        """`typing` takes 5 ms to load."""
        return value


DEFAULT = "default"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")
_FILES = ("ca", "cert", "key")


class Context:
    """One context: its name, what is said of it, and the engine's endpoint."""

    __slots__ = ("description", "folder", "host", "name", "skip_verify")

    def __init__(
        self, name: str, host: str, description: str = "", *, skip_verify: bool = False
    ) -> None:
        self.name = name
        self.host = host
        self.description = description
        self.skip_verify = skip_verify
        self.folder = ""
        """Where its TLS files lie; empty without any."""

    def tls_files(self) -> list[str]:
        """Return the names of the TLS files that are there."""
        if not self.folder:
            return []
        return [
            f"{name}.pem"
            for name in _FILES
            if os.path.exists(os.path.join(self.folder, f"{name}.pem"))
        ]

    def credentials(self) -> Credentials | None:
        """Return the TLS material, None where there is none and verifying is not switched off."""
        found = self.tls_files()
        if not found and not self.skip_verify:
            return None
        paths = {name[:-4]: os.path.join(self.folder, name) for name in found}
        return Credentials(
            ca=paths.get("ca", ""),
            cert=paths.get("cert", ""),
            key=paths.get("key", ""),
            verify=not self.skip_verify,
        )

    def to_json(self) -> dict[str, Any]:
        """Return meta.json's content."""
        metadata = {"Description": self.description} if self.description else {}
        endpoint: dict[str, Any] = {"Host": self.host, "SkipTLSVerify": self.skip_verify}
        return {"Name": self.name, "Metadata": metadata, "Endpoints": {"docker": endpoint}}


def read_meta(name: str, meta: dict[str, Any]) -> Context:
    """Return the context that a meta.json describes, under the name `name`; what is not said is empty."""
    endpoints: dict[str, Any] = meta.get("Endpoints") or {}
    endpoint: dict[str, Any] = endpoints.get("docker") or {}
    metadata: dict[str, Any] = meta.get("Metadata") or {}
    description = str(metadata.get("Description") or "")
    skip = bool(endpoint.get("SkipTLSVerify"))
    return Context(name, str(endpoint.get("Host") or ""), description, skip_verify=skip)


class ContextStore:
    """The contexts below one configuration folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._meta = os.path.join(folder, "contexts", "meta")
        self._tls = os.path.join(folder, "contexts", "tls")
        self._choice = os.path.join(folder, "wherry.json")

    def names(self) -> list[str]:
        """Return the names of all, sorted."""
        try:
            entries = os.listdir(self._meta)
        except FileNotFoundError:
            return []
        found = (_read(os.path.join(self._meta, entry, "meta.json")) for entry in entries)
        return sorted(str(meta["Name"]) for meta in found if meta and meta.get("Name"))

    def find(self, name: str) -> Context | None:
        """Return the context called `name`, or None."""
        meta = _read(os.path.join(self._meta, _digest(name), "meta.json"))
        if meta is None:
            return None
        context = read_meta(name, meta)
        tls = os.path.join(self._tls, _digest(name), "docker")
        context.folder = tls if os.path.isdir(tls) else ""
        return context

    def get(self, name: str) -> Context:
        """Return the context called `name`. Raises Failure."""
        found = self.find(name)
        if found is None:
            raise Failure(
                f'context "{name}": context not found: open '
                f"{os.path.join(self._meta, _digest(name), 'meta.json')}: no such file or directory"
            )
        return found

    def save(self, context: Context, tls: dict[str, bytes] | None) -> None:
        """Keep a context; `tls` (file name to content) replaces its files, None leaves them."""
        digest = _digest(context.name)
        if tls is not None:
            folder = os.path.join(self._tls, digest)
            _remove(folder)
            if tls:
                os.makedirs(os.path.join(folder, "docker"), mode=0o700)
                for name, content in tls.items():
                    _write(os.path.join(folder, "docker", name), content)
        os.makedirs(os.path.join(self._meta, digest), mode=0o755, exist_ok=True)
        text = json.dumps(context.to_json(), separators=(",", ":"))
        _write(os.path.join(self._meta, digest, "meta.json"), text.encode(), 0o644)

    def remove(self, name: str) -> None:
        """Forget a context and its files."""
        _remove(os.path.join(self._meta, _digest(name)))
        _remove(os.path.join(self._tls, _digest(name)))

    def places(self, name: str) -> tuple[str, str]:
        """Return the folders of the context called `name`: of its description, of its TLS files."""
        return os.path.join(self._meta, _digest(name)), os.path.join(self._tls, _digest(name))

    def chosen(self) -> str:
        """Return the name in use, `default` where none was chosen."""
        return str((_read(self._choice) or {}).get("currentContext") or DEFAULT)

    def choose(self, name: str) -> None:
        """Use `name` from now on."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        _write(self._choice, json.dumps({"currentContext": name}).encode() + b"\n")


def check_name(name: str) -> None:
    """Raise Failure for a name that cannot be one."""
    if name == DEFAULT:
        raise Failure('"default" is a reserved context name')
    if not _NAME.fullmatch(name):
        raise Failure(
            f'context name "{name}" is invalid, names are validated against regexp "^{_NAME.pattern}$"'
        )


def _digest(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode()).hexdigest()


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            found: object = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Failure(f"cannot read {path}: {error}") from None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _write(path: str, content: bytes, mode: int = 0o600) -> None:
    temporary = f"{path}.tmp{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    os.replace(temporary, path)


def _remove(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
