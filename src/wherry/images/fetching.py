"""`docker import URL`: the archive is fetched by the engine, as it is read.

Redirects are followed, ten of them and only to http and https; neither `file:` nor `ftp:` is read. A
server may be silent for a minute; the length is bounded, and is what the server announced.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from wherry.images.web import Opener
from wherry.model.errors import Full, Invalid, NotFound, Unavailable
from wherry.model.urls import is_web
from wherry.model.views import Progress

_LARGEST: Final = 1 << 40
"""Bytes that are taken of one URL."""
_STEP: Final = 4 << 20


def parse_source(text: str) -> str:
    """Return the URL that `fromSrc` names; http where it names no scheme, as Docker does. Raises Invalid."""
    url = text if "://" in text else f"http://{text}"
    if not is_web(url.lower()):
        scheme = url.partition("://")[0]
        raise Invalid(f'Get "{url}": unsupported protocol scheme "{scheme}"')
    host = url.partition("://")[2].partition("/")[0]
    if not host or not url.isprintable() or " " in url or not url.isascii():
        raise Invalid(f"{url!r} is no URL", hint="http://host/archive.tar")
    return url


class Download:
    """The body of one answer, read as it comes. Raises Unavailable where it ends early."""

    def __init__(
        self,
        url: str,
        answer: http.client.HTTPResponse,
        check: Callable[[], None],
        report: Callable[[Progress], None],
    ) -> None:
        self._url = url
        self._answer = answer
        self._check = check
        self._report = report
        text = answer.headers.get("Content-Length") or ""
        self._length = int(text) if text.isdecimal() else 0
        self._size = 0
        self._told = 0
        if self._length > _LARGEST:
            raise Full(f"{url} has {self._length} bytes, more than {_LARGEST}")

    def read(self, n: int = 1 << 20, /) -> bytes:
        """Return at most `n` bytes, b"" at the end."""
        self._check()
        try:
            data = self._answer.read1(n)
        except (OSError, http.client.HTTPException) as problem:
            raise Unavailable(f"{self._url}: {problem}") from None
        self._size += len(data)
        if self._size > _LARGEST:
            raise Full(f"{self._url} sends more than {_LARGEST} bytes")
        if not data and self._size < self._length:
            raise Unavailable(
                f"{self._url}: the connection ended early, {self._size} of {self._length} bytes came"
            )
        if data and (self._size - self._told >= _STEP or self._size == self._length):
            self._told = self._size
            self._report(Progress("Downloading", "", self._size, self._length))
        return data


@contextmanager
def fetched(
    url: str, check: Callable[[], None], report: Callable[[Progress], None]
) -> Generator[Download]:
    """Open `url`, and give what is read of it. Blocks.

    `check` is called before each read, and raises where nobody waits any longer. Raises Unavailable,
    NotFound, Invalid, Full.
    """
    try:
        answer = Opener().open(url)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code in (404, 410):
            raise NotFound("file", url, hint=f"the server answers {problem.code}") from None
        raise Unavailable(f'Get "{url}": the server answers {problem.code}') from None
    except (OSError, http.client.HTTPException, ValueError) as problem:
        reason: object = getattr(problem, "reason", problem)
        if isinstance(reason, OSError) and reason.errno:
            reason = os.strerror(reason.errno).lower()
        raise Unavailable(f'Get "{url}": {reason}') from None
    with answer:
        report(Progress(f"Downloading from {url}"))
        yield Download(url, answer, check, report)
