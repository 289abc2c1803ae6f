"""A registry as a process of its own, and a client that speaks HTTP to it byte by byte."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 20.0
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


@dataclass
class Reply:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["errors"][0]["code"])


class Client:
    """Requests to one registry; a connection for each."""

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, token: str = "", basic: str = ""
    ) -> None:
        self.port = port
        self.tls = tls
        self.authorization = f"Bearer {token}" if token else f"Basic {basic}" if basic else ""

    def connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=SECONDS, context=self.tls
            )
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def __call__(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, **fields: str
    ) -> Reply:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if self.authorization:
            headers.setdefault("Authorization", self.authorization)
        connection = self.connect()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes) -> socket.socket:
        """Return a connection on which `data` was sent."""
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        stream.sendall(data)
        return stream

    def push(self, repository: str, data: bytes, digest: str = "") -> str:
        digest = digest or sha256(data)
        reply = self("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        assert reply.status == 201, reply
        return digest

    def begin(self, repository: str) -> str:
        reply = self("POST", f"/v2/{repository}/blobs/uploads/")
        assert reply.status == 202, reply
        return reply.headers["Location"]

    def put(self, repository: str, reference: str, data: bytes, kind: str = OCI) -> Reply:
        return self("PUT", f"/v2/{repository}/manifests/{reference}", data, Content_Type=kind)

    def image(self, repository: str, *tags: str, seed: bytes = b"", **more: object) -> bytes:
        """Push an image of one layer under `tags`, or by digest; return its manifest."""
        layer, config = b"layer" + seed, b'{"seed": "%s"}' % seed.hex().encode()
        for blob in (layer, config):
            self.push(repository, blob)
        data = manifest(config, layer, **more)
        for tag in tags or (sha256(data),):
            reply = self.put(repository, tag, data)
            assert reply.status == 201, reply
        return data


def descriptor(data: bytes, kind: str, **more: object) -> dict[str, object]:
    return {"mediaType": kind, "digest": sha256(data), "size": len(data)} | more


def manifest(config: bytes, /, *layers: bytes, **more: object) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(layer, LAYER) for layer in layers],
        }
        | more
    ).encode()


def index(*manifests: bytes, **more: object) -> bytes:
    entries = [descriptor(data, OCI) for data in manifests]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries} | more
    ).encode()


class Running:
    """One process."""

    def __init__(self, process: subprocess.Popen[str], port: int, metrics: int = 0) -> None:
        self.process = process
        self.port = port
        self.metrics = metrics
        self.client = Client(port)

    def resident(self) -> int:
        """Return the most memory it ever had, bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10

    def wait(self) -> int:
        return self.process.wait(SECONDS)


@contextmanager
def registry(
    root: Path, *flags: str, failpoints: str = "", prefix: tuple[str, ...] = ()
) -> Iterator[Running]:
    """Serve `root` on a port of its own choice; killed at the end."""
    program = Path(sys.executable).with_name("wherry-registry")
    listen = () if any(flag.startswith("--listen") for flag in flags) else ("--listen=127.0.0.1:0",)
    process = subprocess.Popen(
        [*prefix, str(program), *listen, "--root", str(root), *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"WHERRY_FAILPOINTS": failpoints},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening on" in line, line or "it ended"
        port = int(line.rpartition(":")[2])
        metrics = 0
        if any(flag.startswith("--metrics-listen") for flag in flags):
            metrics = int(process.stdout.readline().rpartition(":")[2].split("/")[0])
        yield Running(process, port, metrics)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
