"""What opens URLs for the engine: http and https, through the daemon's own proxies, and nothing else.

Connections are made as those to registries are, so proxies of HTTP and of SOCKS 5 serve both. Loaded with
the first URL that someone asks for: urllib is 2 MB of an engine's memory.
"""

from __future__ import annotations

import http.client
import os
import urllib.request
from typing import Final, cast

from wherry.model.errors import Invalid, WherryError
from wherry.model.urls import is_web
from wherry.registry.dialling import proxy_header, reach
from wherry.registry.endpoints import Origin, Proxies, Trust
from wherry.registry.stopping import Stop

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


def _proxies() -> Proxies:
    """Return those of the environment: `daemon.engine.export_proxies` has put the daemon's own there."""

    def one(name: str) -> str:
        return os.environ.get(name) or os.environ.get(name.lower()) or ""

    return Proxies(one("HTTP_PROXY"), one("HTTPS_PROXY"), one("NO_PROXY"))


class _Connection(http.client.HTTPConnection):
    """A connection that goes through the proxy for its host."""

    scheme = "http"

    def connect(self) -> None:
        origin = Origin(self.scheme, self.host, self.port)
        try:
            self.sock = reach(origin, Trust(), _proxies(), Stop())
        except WherryError as error:  # hints are for registries, and the URL is told already
            raise OSError(error.message.removeprefix(f"{origin}: ")) from None
        self.sock.settimeout(self.timeout)


class _Secure(_Connection):
    scheme = "https"
    default_port = http.client.HTTPS_PORT


class _Web(urllib.request.AbstractHTTPHandler):
    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        through = proxy_header(Origin.parse(req.full_url), _proxies())
        if through is not None:
            req.selector = f"http://{req.host}{req.selector}"
            if through:
                req.add_unredirected_header("Proxy-Authorization", through)
        return self.do_open(_Connection, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, req)


class Opener:
    """Opens URLs. Redirects are followed, ten of them and only to http and https."""

    def __init__(self) -> None:
        # Neither file: nor ftp: URLs.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            _Web(),
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
