"""Files by HTTP for ADD and for contexts: each kept by its digest, asked for again with what names its version.

Redirects are followed, a few of them and only to http and https. The size is bounded by the disk alone.
"""

from __future__ import annotations

import email.utils
import http.client
import os
import secrets
import threading
import urllib.error
from email.message import Message
from pathlib import Path
from typing import Final

from wherry.build.remote.files import Downloaded
from wherry.images.web import Opener
from wherry.kernel.hashing import sha256
from wherry.model.errors import Invalid, NotFound, Unavailable
from wherry.storage.durable import full
from wherry.storage.leftovers import remove_leftovers

_CHUNK: Final = 1 << 20


class Web:
    """Downloads under `root`; what another process left there is swept."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(root)
        self._lock = threading.Lock()
        self._known: dict[str, Downloaded] = {}
        self._opener = Opener()

    def get(self, url: str, checksum: str = "", *, again: bool = True) -> Downloaded:
        """Return the file, downloaded unless its version is here. Blocks.

        Without `again` the server is not asked about a file that was downloaded before.

        Raises Unavailable, NotFound, Invalid for a content that is not of `checksum` (`sha256:…`), Full.
        """
        with self._lock:
            known = self._known.get(url)
        if known is not None and known.path.exists():
            if known.digest == checksum or (not again and not checksum):
                return known
        tag = known.tag if known is not None and known.path.exists() else ""
        try:
            with self._opener.open(url, known=tag) as answer:
                found = self._store(url, answer)
        except urllib.error.HTTPError as problem:
            problem.close()
            if problem.code == 304 and known is not None:
                found = known
            elif problem.code in (404, 410):
                raise NotFound("file", url, hint=f"the server answers {problem.code}") from None
            else:
                raise Unavailable(f"invalid response status {problem.code}: {url}") from None
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ValueError,
        ) as problem:
            reason = getattr(problem, "reason", problem)
            raise Unavailable(f"{url}: {reason}") from None
        if checksum and found.digest != checksum:
            raise Invalid(f"digest mismatch {found.digest}: {checksum}", hint=url)
        with self._lock:
            self._known[url] = found
        return found

    def _store(self, url: str, answer: http.client.HTTPResponse) -> Downloaded:
        temporary = self._root / f".{secrets.token_hex(8)}"
        hasher = sha256()
        announced = answer.headers.get("Content-Length")
        size = 0
        try:
            with full(f"download of {url}"), open(temporary, "xb") as file:
                while data := answer.read(_CHUNK):
                    hasher.update(data)
                    file.write(data)
                    size += len(data)
            if announced is not None and announced.isdecimal() and int(announced) != size:
                raise Unavailable(
                    f"{url}: the connection ended early, {size} of {announced} bytes came"
                )
            path = self._root / hasher.hexdigest()
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return Downloaded(
            path,
            f"sha256:{hasher.hexdigest()}",
            _modified(answer.headers),
            _disposition(answer.headers),
            answer.headers.get("ETag", ""),
        )


def _modified(headers: Message) -> int | None:
    text = headers.get("Last-Modified")
    if not text:
        return None
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None


def _disposition(headers: Message) -> str:
    message = Message()
    message["Content-Disposition"] = headers.get("Content-Disposition", "")
    return (message.get_filename() or "").rpartition("/")[2]
