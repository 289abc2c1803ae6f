"""What opens URLs for the engine: http and https, through the daemon's own proxies, and nothing else.

Loaded with the first URL that someone asks for: TLS is 3 MB of an engine's memory.
"""

from __future__ import annotations

import http.client
import urllib.request
from typing import Final, cast

from wherry.model.errors import Invalid
from wherry.model.urls import is_web

_TIMEOUT: Final = 60.0  # seconds without a byte
_AGENT: Final = "wherry"


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 10

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_web(newurl):  # urllib has made its scheme lower case
            raise Invalid(f"{req.full_url}: redirected to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # pyright: ignore[reportArgumentType]


class Opener:
    """Opens URLs. Redirects are followed, ten of them and only to http and https."""

    def __init__(self) -> None:
        # No proxies but the daemon's own, and neither file: nor ftp: URLs.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(),
        ):
            self._opener.add_handler(handler)

    def open(self, url: str, *, known: str = "") -> http.client.HTTPResponse:
        """Return the answer, to be closed; `known` is the ETag of what is here. Blocks.

        Raises urllib's HTTPError (304 for what is known), URLError and other OSErrors, HTTPException,
        ValueError, and Invalid for a redirect to elsewhere.
        """
        request = urllib.request.Request(url, headers={"User-Agent": _AGENT})
        if known:
            request.add_header("If-None-Match", known)
        return cast("http.client.HTTPResponse", self._opener.open(request, timeout=_TIMEOUT))
