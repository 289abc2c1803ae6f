"""Debian's docker-registry on a loopback port, and images to put into registries."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_UNPACKED = Path(__file__).resolve().parents[2] / ".venv/docker-registry/usr/bin/docker-registry"
_START_SECONDS = 20.0

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def find_docker_registry() -> str | None:
    """Return the program: on PATH, or where set-up unpacks it."""
    return shutil.which("docker-registry") or (str(_UNPACKED) if _UNPACKED.exists() else None)


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class DockerRegistry:
    """One docker-registry over `folder`. A context manager; `host` is what images' names begin with."""

    def __init__(
        self,
        folder: Path,
        *,
        htpasswd: str = "",
        tls: tuple[str, str] | None = None,
        client_authority: str = "",
    ) -> None:
        """`tls` is a certificate and its key; by `client_authority` clients must show one too."""
        program = find_docker_registry()
        assert program, "there is no docker-registry here: `make test` fetches one"
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.tls = tls
        self._folder = folder
        self._command = [program, "serve", str(folder / "config.yml")]
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(folder / "store")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.host, "secret": "tests"},
        }
        if tls:
            config["http"] = {
                "addr": self.host,
                "secret": "tests",
                "tls": {"certificate": tls[0], "key": tls[1]}
                | ({"clientcas": [client_authority]} if client_authority else {}),
            }
        if htpasswd:
            (folder / "htpasswd").write_text(htpasswd)
            path = str(folder / "htpasswd")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": path}}
        # JSON is YAML.
        (folder / "config.yml").write_text(json.dumps(config))

    def __enter__(self) -> DockerRegistry:
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    @property
    def base(self) -> str:
        """The URL without a path."""
        return f"{'https' if self.tls else 'http'}://{self.host}"


@dataclass(frozen=True)
class MadeImage:
    """An image as blobs and manifest."""

    config: bytes
    layers: tuple[bytes, ...]
    manifest: bytes

    @property
    def id(self) -> str:
        """The image's id, as every engine has it."""
        return digest_of(self.config)

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.manifest)

    @property
    def blobs(self) -> dict[str, bytes]:
        """Everything but the manifest, by digest."""
        return {digest_of(data): data for data in (self.config, *self.layers)}


def digest_of(data: bytes) -> str:
    """Return the sha256 digest."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_of(files: dict[str, bytes]) -> bytes:
    """Return an uncompressed layer with these files, the same for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def make_image(
    layers: Sequence[dict[str, bytes]],
    *,
    architecture: str = "amd64",
    variant: str = "",
    compress: bool = True,
    media_type: str = MANIFEST,
    **config: object,
) -> MadeImage:
    """Return an image with these layers' files; `config` is the container's part of its configuration."""
    plain = [layer_of(files) for files in layers]
    blobs = [gzip.compress(data, 1, mtime=0) if compress else data for data in plain]
    document: dict[str, object] = {
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in plain]},
    }
    if variant:
        document["variant"] = variant
    encoded = json.dumps(document).encode()
    kind = LAYER if compress else "application/vnd.docker.image.rootfs.diff.tar"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": CONFIG, "digest": digest_of(encoded), "size": len(encoded)},
            "layers": [{"mediaType": kind, "digest": digest_of(b), "size": len(b)} for b in blobs],
        }
    ).encode()
    return MadeImage(encoded, tuple(blobs), manifest)


def index_of(*images: tuple[MadeImage, str, str]) -> bytes:
    """Return an index of (image, architecture, variant)."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                {
                    "mediaType": MANIFEST,
                    "digest": image.digest,
                    "size": len(image.manifest),
                    "platform": {"os": "linux", "architecture": architecture, "variant": variant},
                }
                for image, architecture, variant in images
            ],
        }
    ).encode()


def upload(base: str, repository: str, image: MadeImage, tag: str) -> None:
    """Put an image into a registry without authentication."""
    for digest, data in image.blobs.items():
        begun = request("POST", f"{base}/v2/{repository}/blobs/uploads/", b"")
        location = begun.headers["Location"]
        location = location if "://" in location else base + location
        joint = "&" if "?" in location else "?"
        request("PUT", f"{location}{joint}digest={digest}", data, "application/octet-stream")
    put_manifest(base, repository, image.manifest, tag)


def put_manifest(base: str, repository: str, data: bytes, tag: str) -> None:
    """Put a manifest or index under a tag or its digest."""
    media_type = json.loads(data)["mediaType"]
    request("PUT", f"{base}/v2/{repository}/manifests/{tag}", data, media_type)


def fetch_digest(base: str, repository: str, tag: str) -> str:
    """Return the digest of the manifest that a registry has under a tag."""
    accept = ", ".join((MANIFEST, INDEX, OCI_MANIFEST, "application/vnd.oci.image.index.v1+json"))
    wanted = urllib.request.Request(
        f"{base}/v2/{repository}/manifests/{tag}", headers={"Accept": accept}
    )
    with urllib.request.urlopen(wanted, timeout=20) as answer:
        return digest_of(answer.read())


def request(method: str, url: str, data: bytes, content_type: str = ""):
    """Send one request; AssertionError with the answer's body where it is refused."""
    headers = {"Content-Type": content_type} if content_type else {}
    wanted = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        return urllib.request.urlopen(wanted, timeout=20)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {url}: {error.code} {error.read()!r}") from None
