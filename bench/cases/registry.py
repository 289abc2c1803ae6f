"""Images from and to a registry: Debian's docker-registry, in each engine's own network namespace.

One folder of blobs serves both, so that both pull the same bytes. Engines reach it as 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bench.cases.archives import import_tar
from bench.cases.case import Settings, timed
from bench.engine import Engine
from bench.processes import engine_pids
from bench.rootfs import debian_tar
from bench.samples import Row

_UNPACKED = Path(".venv/docker-registry/usr/bin/docker-registry")
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_MADE = "bench-pushed:latest"
_LAYERS, _LAYER_SIZE = 10, 20 << 20


class Registry:
    """docker-registry over a folder, once for each network namespace that asks for it."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("docker-registry") or str(_UNPACKED.resolve())
        if not Path(program).exists():
            raise FileNotFoundError("docker-registry is missing: tools/setup --with-tests")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
            "http": {"addr": self.host, "secret": "bench"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "config.yml"
        path.write_text(json.dumps(config))
        self._command = [program, "serve", str(path)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, pid: int) -> None:
        """Serve in the network namespace of a process, unless that is done already."""
        namespace = Path(f"/proc/{pid}/ns/net").stat().st_ino
        if namespace in self._running:
            return
        command = ["nsenter", f"--net=/proc/{pid}/ns/net", *self._command]
        self._running[namespace] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Wait until the one in this namespace answers."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise TimeoutError("docker-registry does not answer")

    def stop(self) -> None:
        """End them all."""
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()

    def put(self, repository: str, layers: list[tuple[bytes, str]]) -> None:
        """Store an image of (blob, diff id) as the tag `1`."""
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(repository, config, _CONFIG),
            "layers": [self._blob(repository, blob, _LAYER) for blob, _ in layers],
        }
        url = f"http://{self.host}/v2/{repository}/manifests/1"
        _send("PUT", url, json.dumps(manifest).encode(), _MANIFEST)

    def _blob(self, repository: str, data: bytes, media_type: str) -> dict[str, object]:
        digest = _digest(data)
        url = f"http://{self.host}/v2/{repository}/blobs/uploads/"
        location = _send("POST", url, b"", "")
        _send("PUT", f"{location}&digest={digest}", data, "application/octet-stream")
        return {"mediaType": media_type, "digest": digest, "size": len(data)}


class PullPush:
    """Pull of a Debian tree in one layer and of ten layers of 20 MB; push of a tree made there."""

    rounds = 3

    def __init__(self, settings: Settings) -> None:
        self._tree = settings.tree or debian_tar(settings.cache)
        self._scratch = settings.scratch
        self._registry = Registry(settings.scratch / "registry")
        self._stored = False

    def prepare(self, engine: Engine) -> None:
        self._registry.start(engine.api.daemon_pid())
        if self._stored:
            return
        self._registry.start(os.getpid())
        self._registry.wait()
        self._registry.put("debian", [_compressed(self._tree.read_bytes(), 6)])
        self._registry.put("ten", [_compressed(_random_tar(n), 6) for n in range(_LAYERS)])
        self._stored = True

    def sample(self, engine: Engine) -> dict[Row, float]:
        figures: dict[Row, float] = {}
        size = f"{self._tree.stat().st_size / 1e6:.0f} MB"
        names = {"debian": f"pull of Debian, {size}, gzip", "ten": "pull of ten layers of 20 MB"}
        for repository, label in names.items():
            name = f"{self._registry.host}/{repository}"
            engine.remove_image(f"{name}:1")
            figures |= self._timed(engine, label, "/images/create", fromImage=name, tag=1)
            engine.remove_image(f"{name}:1")
        # Never the same layer twice: both engines remember what a registry has.
        tree = self._scratch / f"push-{engine.name}.tar"
        name = f"{self._registry.host}/pushed-{secrets.token_hex(4)}"
        try:
            _with_random_file(self._tree, tree)
            import_tar(engine, tree, _MADE)
            engine.api.call("POST", f"/images/{_MADE}/tag", repo=name, tag=1)
            figures |= self._timed(engine, f"push of a tree, {size}", f"/images/{name}/push", tag=1)
        finally:
            engine.remove_image(f"{name}:1")
            engine.remove_image(_MADE)
            tree.unlink(missing_ok=True)
        return figures

    def _timed(self, engine: Engine, label: str, path: str, **query: object) -> dict[Row, float]:
        pids = engine_pids(engine.api, engine.pattern)
        before = _processor(pids)
        with timed() as watch:
            answer = engine.api.post(path, **query)
        used = _processor(pids) - before
        if b'"error"' in answer:
            raise ValueError(answer.decode(errors="replace").strip()[-300:])
        return {
            Row(label, "s", 2): watch.seconds,
            Row(f"{label}: processor", "s", 2): used,
        }

    def finish(self, engine: Engine) -> None:
        self._registry.stop()


def _processor(pids: set[int]) -> float:
    """Return the processor seconds of processes and of their children that have ended: Docker unpacks
    in such."""
    total = 0
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/stat") as file:
            total += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def _send(method: str, url: str, data: bytes, content_type: str) -> str:
    headers = {"Content-Type": content_type} if content_type else {}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.headers.get("Location", "")


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _compressed(tar: bytes, level: int) -> tuple[bytes, str]:
    encoder = zlib.compressobj(level, zlib.DEFLATED, 31)
    return encoder.compress(tar) + encoder.flush(), _digest(tar)


def _random_tar(seed: int) -> bytes:
    out = io.BytesIO()
    source = random.Random(seed)
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(20):
            data = b"".join(_blocks(source, _LAYER_SIZE // 20))
            info = tarfile.TarInfo(f"layer{seed}/{number}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _blocks(source: random.Random, size: int) -> Iterator[bytes]:
    """Yield what programs are like: blocks that compress badly, and blocks of words."""
    words = [secrets.token_hex(3).encode() for _ in range(1000)]
    for _ in range(size // 8192):
        yield source.randbytes(4096)
        yield b" ".join(source.choices(words, k=585))[:4096]


def _with_random_file(tree: Path, target: Path) -> None:
    shutil.copy(tree, target)
    with tarfile.open(target, "a") as tar:
        data = secrets.token_bytes(1024)
        info = tarfile.TarInfo("bench-push")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
