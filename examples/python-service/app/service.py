"""The answers."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path


def version() -> str:
    return (Path(__file__).parents[1] / "VERSION").read_text().strip()


def answer(path: str) -> tuple[int, dict[str, str]]:
    if path == "/health":
        return 200, {"status": "ok", "version": version()}
    if path.startswith("/hello/"):
        return 200, {"hello": path.removeprefix("/hello/")}
    return 404, {"error": f"nothing at {path}"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = answer(self.path)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
