"""Files by HTTP, as those use them who may never need one: `web` is loaded with the first."""

from __future__ import annotations

import threading
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.model.errors import Invalid

if TYPE_CHECKING:
    from wherry.build.remote.web import Web


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is here."""

    path: Path
    digest: str
    """`sha256:…`"""
    mtime: int | None
    """Last-Modified, in seconds; None where the server does not say."""
    name: str = ""
    """What the server calls it (Content-Disposition)."""
    tag: str = ""
    """Its ETag."""


def file_name(url: str, found: Downloaded) -> str:
    """Return what the file of a URL is called. Raises Invalid for a URL without a name."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    name = path.rpartition("/")[2] or found.name
    if not name or name in (".", ".."):
        raise Invalid(f"cannot determine filename from url: {url}")
    return name


class LateWeb:
    """A `web.Web` that is made when the first file is asked for: TLS is 3 MB of an engine's memory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._web: Web | None = None

    def get(self, url: str, checksum: str = "", *, again: bool = True) -> Downloaded:
        """See `web.Web.get`."""
        with self._lock:
            if self._web is None:
                from wherry.build.remote.web import Web

                self._web = Web(self._root)
        return self._web.get(url, checksum, again=again)
