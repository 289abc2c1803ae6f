"""A registry in this process that says what a test tells it to, and counts what it sent.

By default it is honest: blobs with ranges, manifests by tag and digest, uploads that can be resumed.
A test replaces single answers.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.harness.registry import MadeImage, digest_of

Answer = Callable[["Handler"], bool]
"""Answers a request itself and returns True, or leaves it to the honest way."""
_PIECE = 64 << 10


class Liar:
    """The registry. A context manager; `host` is what images' names begin with."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.sent: Counter[str] = Counter()
        """Bytes of blobs that went out, by digest."""
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.lies: list[tuple[str, str, Answer]] = []
        self.after_piece: Callable[[str, int], object] | None = None
        """Called with a blob's digest and how much of it went out in all, after each piece."""
        self.lock = threading.Lock()
        liar = self

        class Bound(Handler):
            registry = liar

        self._server = ThreadingHTTPServer((address, 0), Bound)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.host = f"{address}:{self.port}"
        self.base = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Liar:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, image: MadeImage, *tags: str) -> None:
        """Have an image, under its digest and these tags."""
        self.blobs |= image.blobs
        self.manifests[image.digest] = image.manifest
        for tag in tags:
            self.manifests[tag] = image.manifest

    def lie(self, pattern: str, answer: Answer, method: str = "GET") -> None:
        """Answer requests whose path matches `pattern` otherwise."""
        self.lies.append((method, pattern, answer))

    def count(self, method: str, pattern: str) -> int:
        """Return how many requests came."""
        wanted = re.compile(f"{method} .*{pattern}")
        return sum(1 for line in self.requests if wanted.search(line))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    registry: Liar
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        # What lies in the sender's buffer was not sent: it shall be little.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass

    def answer(
        self, status: int, data: bytes = b"", content_type: str = "application/json", **more: str
    ) -> bool:
        """Send a whole answer; underscores in names of headers are dashes."""
        self.send_response(status)
        if "Content_Length" not in more and "Transfer_Encoding" not in more:
            self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", content_type)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        return True

    def refuse(self, status: int, code: str, message: str = "", **more: str) -> bool:
        """Send an error of the specification."""
        body = {"errors": [{"code": code, "message": message}]}
        return self.answer(status, json.dumps(body).encode(), **more)

    def body(self) -> bytes:
        """Read the request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self) -> None:
        registry = self.registry
        with registry.lock:
            registry.requests.append(f"{self.command} {self.path}")
            registry.headers.append({k.lower(): v for k, v in self.headers.items()})
        for method, pattern, answer in registry.lies:
            if method == self.command and re.search(pattern, self.path) and answer(self):
                return
        self._honest()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _honest(self) -> None:
        path, _, query = self.path.partition("?")
        parts = path.split("/")
        if path == "/v2/":
            self.answer(200, b"{}")
        elif parts[-2] == "manifests":
            self._manifest(parts[-1])
        elif "/blobs/uploads/" in path:
            self._upload(path, query)
        elif parts[-2] == "blobs":
            self._blob(parts[-1])
        elif path.endswith("/tags/list"):
            tags = [tag for tag in self.registry.manifests if ":" not in tag]
            self.answer(200, json.dumps({"name": "x", "tags": tags}).encode())
        else:
            self.refuse(404, "NAME_UNKNOWN", "repository name not known to registry")

    def _manifest(self, reference: str) -> None:
        registry = self.registry
        if self.command == "PUT":
            data = self.body()
            registry.manifests[reference] = registry.manifests[digest_of(data)] = data
            self.answer(201, Docker_Content_Digest=digest_of(data))
            return
        data = registry.manifests.get(reference)
        if data is None:
            self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        kind = json.loads(data).get("mediaType", "application/octet-stream")
        self.answer(200, data, kind, Docker_Content_Digest=digest_of(data))

    def _blob(self, digest: str) -> None:
        registry = self.registry
        data = registry.blobs.get(digest)
        if data is None:
            self.refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start >= len(data) and asked:
            self.refuse(416, "RANGE_INVALID")
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        for offset in range(start, len(data), _PIECE):
            piece = data[offset : offset + _PIECE]
            self.wfile.write(piece)
            with registry.lock:
                registry.sent[digest] += len(piece)
            if registry.after_piece is not None:
                registry.after_piece(digest, registry.sent[digest])

    def _upload(self, path: str, query: str) -> None:
        uploads = self.registry.uploads
        identifier = path.rpartition("/")[2]
        if self.command == "POST":
            identifier = f"u{len(self.registry.requests)}"
            uploads[identifier] = bytearray()
            self.answer(202, Location=f"{path}{identifier}", Range="0-0")
            return
        held = uploads.get(identifier)
        if held is None:
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command == "PATCH":
            left = int(self.headers["Content-Length"])
            while left and (piece := self.rfile.read1(min(left, _PIECE))):  # pyright: ignore
                held += piece
                left -= len(piece)
                with self.registry.lock:
                    self.registry.sent["upload"] += len(piece)
                if self.registry.after_piece is not None:
                    self.registry.after_piece("upload", self.registry.sent["upload"])
        if self.command == "PUT":
            held += self.body()
            digest = query.rpartition("digest=")[2].replace("%3A", ":")
            algorithm, _, wanted = digest.partition(":")
            if hashlib.new(algorithm, held).hexdigest() != wanted:
                self.refuse(400, "DIGEST_INVALID")
                return
            self.registry.blobs[digest] = bytes(uploads.pop(identifier))
            self.answer(201)
            return
        end = f"0-{max(len(held) - 1, 0)}"
        self.answer(204 if self.command == "GET" else 202, Location=path, Range=end)
