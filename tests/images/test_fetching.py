"""Archives that the engine fetches for `import URL`: what is taken, and what is refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.transfer.socks_server import SocksServer
from wherry.daemon.config import Config
from wherry.daemon.engine import export_proxies
from wherry.images import fetching
from wherry.images.fetching import fetched, parse_source
from wherry.model.errors import Full, Invalid, NotFound, Unavailable, WherryError
from wherry.model.views import Progress

CONTENT = bytes(range(256)) * 40000


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self._answer(302, b"", ("Location", "/file"))
        elif self.path == "/away":
            self._answer(302, b"", ("Location", "file:///etc/passwd"))
        elif self.path == "/other":
            self._answer(302, b"", ("Location", "ftp://127.0.0.1/x"))
        elif self.path == "/loop":
            self._answer(302, b"", ("Location", "/loop"))
        elif self.path == "/short":
            self._answer(200, CONTENT[:100], ("Content-Length", "200"))
        elif self.path == "/huge":
            self._answer(200, b"", ("Content-Length", str(1 << 60)))
        elif self.path == "/endless":
            self._answer(200, CONTENT)
        elif self.path == "/file":
            self._answer(200, CONTENT, ("Content-Length", str(len(CONTENT))))
        else:
            self._answer(int(self.path[1:]), b"")

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The URL of a server of the test's own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(30)


def _read(url: str, report: Callable[[Progress], None] = lambda _: None) -> bytes:
    with fetched(url, lambda: None, report) as download:
        out = bytearray()
        while data := download.read():
            out += data
        return bytes(out)


def test_a_file_comes_whole_and_is_told_of(base: str) -> None:
    told: list[Progress] = []
    assert _read(f"{base}/file", told.append) == CONTENT
    assert told[0].status == f"Downloading from {base}/file"
    assert (told[-1].current, told[-1].total) == (len(CONTENT), len(CONTENT))
    assert _read(f"{base}/moved") == CONTENT
    assert _read(f"{base}/endless") == CONTENT


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/404", NotFound),
        ("/500", Unavailable),
        ("/loop", Unavailable),
        ("/short", Unavailable),
        ("/away", Unavailable),
        ("/other", Invalid),
        ("/huge", Full),
    ],
)
def test_what_cannot_be_had_is_told(base: str, path: str, kind: type[WherryError]) -> None:
    with pytest.raises(kind, match="http://"):
        _read(base + path)


def test_the_length_is_bounded_where_none_was_announced(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_LARGEST", 1000)
    with pytest.raises(Full, match="more than 1000 bytes"):
        _read(f"{base}/endless")


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="refused"):
            _read(f"http://127.0.0.1:{closed.getsockname()[1]}/x")


def test_who_waits_no_longer_ends_the_download(base: str) -> None:
    def gone() -> None:
        raise Unavailable("gone")

    with fetched(f"{base}/file", gone, lambda _: None) as download:
        with pytest.raises(Unavailable, match="gone"):
            download.read()


@pytest.mark.parametrize(
    "text", ["ftp://x/y", "file:///etc/passwd", "http://", "a b", "http://x\n"]
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(Invalid):
        parse_source(text)


def test_a_host_alone_is_asked_by_http() -> None:
    assert parse_source("host.test/x.tar") == "http://host.test/x.tar"
    assert parse_source("HTTPS://host.test/x.tar") == "HTTPS://host.test/x.tar"


class TestProxies:
    """By the environment, where the daemon puts what daemon.json says."""

    @pytest.fixture(autouse=True)
    def no_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
            for variable in (name, name.lower()):
                monkeypatch.setenv(variable, "")  # recorded, so that it is undone
                monkeypatch.delenv(variable)

    def test_socks(self, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
        port = base.rpartition(":")[2]
        with SocksServer(("me", "päss:word")) as proxy:
            url = f"socks5://me:p%C3%A4ss%3Aword@127.0.0.1:{proxy.port}"
            monkeypatch.setenv("http_proxy", url)
            assert _read(f"http://far.invalid:{port}/moved") == CONTENT
            assert set(proxy.asked) == {(3, "far.invalid", int(port))}
            proxy.verdict = 2
            with pytest.raises(Unavailable, match="far.invalid.*: not allowed by its rules"):
                _read(f"http://far.invalid:{port}/file")

    def test_http(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, str]] = []

        class Proxy(_Handler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers.get("Proxy-Authorization", "")))
                self._answer(200, b"by proxy", ("Content-Length", "8"))

            def do_CONNECT(self) -> None:
                asked.append((self.path, self.headers.get("Proxy-Authorization", "")))
                self._answer(403, b"", ("Content-Length", "0"))

        server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            url = f"http://me:pass@127.0.0.1:{server.server_address[1]}"
            export_proxies(Config(http_proxy=url, https_proxy=url, no_proxy="0.0.0.0"))
            assert _read("http://far.invalid:81/a?b=c") == b"by proxy"
            with pytest.raises(Unavailable, match="proxy .* refused far.invalid:443: 403"):
                _read("https://far.invalid/a")
            with pytest.raises(Unavailable, match="connection refused"):
                _read("http://0.0.0.0:1/")
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        shown = "Basic bWU6cGFzcw=="
        assert asked == [("http://far.invalid:81/a?b=c", shown), ("far.invalid:443", shown)]
