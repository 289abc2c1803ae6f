"""Measure one registry, or two alternately: `python -m bench.registry --a HOST:PORT [--b HOST:PORT]`.

Pushes and pulls blobs over several connections at once, as clients do, and asks for a manifest over
and over. Content goes from a file to the socket by sendfile(2) and is thrown away on arrival, so that
the client costs little. Prints the table that `bench.run` prints.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import read_usage
from bench.samples import Row, Table

_REPOSITORY: Final = "bench/registry"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A registry, and the process whose time and memory count (0: none)."""

    name: str
    address: str
    pid: int

    def request(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> http.client.HTTPResponse:
        """Return the answer to a small request, read whole; raise RuntimeError for a refusal."""
        connection = http.client.HTTPConnection(self.address, timeout=120)
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:200]!r}")
        return answer

    def peak(self) -> float:
        """Return the most memory that the process ever had, MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6

    def cpu(self) -> float:
        """Return the processor seconds that the process has used."""
        return sum(read_usage({self.pid}).cpu.values()) if self.pid else 0.0


@dataclass(frozen=True, slots=True)
class Blob:
    """A file and its digest."""

    path: Path
    digest: str
    size: int


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    options = _parser().parse_args(argv)
    targets = [Target(options.name_a, options.a, options.pid_a)]
    if options.b:
        targets.append(Target(options.name_b, options.b, options.pid_b))
    table = Table(tuple(target.name for target in targets))
    with tempfile.TemporaryDirectory(prefix="bench-registry-") as folder:
        for number in range(options.rounds):
            for target in targets if number % 2 == 0 else reversed(targets):
                blobs = make_blobs(Path(folder), options.blobs, options.mb << 20)
                measure(target, blobs, table)
    if all(target.pid for target in targets):
        for target in targets:
            table.add(
                Row("memory at its most, with all of this", "MB RSS"), target.name, target.peak()
            )
    print(table.render())
    return 0


def make_blobs(folder: Path, count: int, size: int) -> list[Blob]:
    """Return fresh content, which no registry has yet."""
    made: list[Blob] = []
    for number in range(count):
        path = folder / str(number)
        data = secrets.token_bytes(min(size, _CHUNK)) * (size // min(size, _CHUNK))
        path.write_bytes(data)
        made.append(Blob(path, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)))
    return made


def measure(target: Target, blobs: list[Blob], table: Table) -> None:
    """Push and pull `blobs` at once, then pull a manifest many times."""
    total = sum(blob.size for blob in blobs) / 1e6
    what = f"{len(blobs)} blobs of {blobs[0].size / 1e6:.0f} MB at once"
    for verb, work in (("push", push), ("pull", pull)):
        before = target.cpu()
        seconds = at_once([lambda blob=blob, work=work: work(target, blob) for blob in blobs])
        table.add(Row(f"{verb} {what}", "MB/s", 0), target.name, total / seconds)
        if target.pid:
            used = (target.cpu() - before) / total * 1e3
            table.add(Row(f"{verb}: processor time", "s/GB", 2), target.name, used)
    half = len(blobs) // 2 or 1
    fresh = [Blob(blob.path, _salted(blob.path), blob.size) for blob in blobs[:half]]
    jobs = [lambda blob=blob: push(target, blob) for blob in fresh]
    jobs += [lambda blob=blob: pull(target, blob) for blob in blobs[half:]]
    table.add(Row("pushes and pulls mixed", "MB/s", 0), target.name, total / at_once(jobs))
    push_manifest(target)
    many = 300
    seconds = at_once([lambda: pull_manifests(target, many)] * 4)
    table.add(Row("a manifest, over 4 connections", "/s", 0), target.name, 4 * many / seconds)


def _salted(path: Path) -> str:
    """Change the file's beginning and return its new digest."""
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(16))
        file.seek(0)
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def at_once(jobs: list[Callable[[], None]]) -> float:
    """Run all jobs at once, a thread each; return the seconds. Raises what one of them raised."""
    problems: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if problems:
        raise problems[0]
    return seconds


def push(target: Target, blob: Blob) -> None:
    """Push as Docker does: POST, one PATCH, PUT."""
    place = _path(target.request("POST", f"/v2/{_REPOSITORY}/blobs/uploads/"))
    connection = http.client.HTTPConnection(target.address, timeout=120)
    connection.putrequest("PATCH", place)
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(blob.size))
    connection.endheaders()
    with blob.path.open("rb") as file:
        connection.sock.sendfile(file)
    answer = connection.getresponse()
    answer.read()
    place = _path(answer)
    mark = "&" if "?" in place else "?"
    target.request("PUT", f"{place}{mark}digest={blob.digest}")
    connection.close()


def _path(answer: http.client.HTTPResponse) -> str:
    if answer.status >= 400:
        raise RuntimeError(f"an upload was answered with {answer.status}")
    place = answer.headers["Location"]
    return place if place.startswith("/") else "/" + place.split("/", 3)[3]


def pull(target: Target, blob: Blob) -> None:
    """Pull one blob."""
    connection = http.client.HTTPConnection(target.address, timeout=120)
    connection.request("GET", f"/v2/{_REPOSITORY}/blobs/{blob.digest}")
    answer = connection.getresponse()
    buffer = bytearray(_CHUNK)
    size = 0
    while count := answer.readinto(buffer):
        size += count
    connection.close()
    if size != blob.size:
        raise RuntimeError(f"{blob.digest}: {size} bytes came")


def push_manifest(target: Target) -> None:
    """Make sure that there is an image called `bench`."""
    config = b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    place = _path(target.request("POST", f"/v2/{_REPOSITORY}/blobs/uploads/"))
    mark = "&" if "?" in place else "?"
    target.request("PUT", f"{place}{mark}digest={digest}", config)
    descriptor = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest,
        "size": 2,
    }
    manifest: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": descriptor,
        "layers": [],
    }
    path = f"/v2/{_REPOSITORY}/manifests/bench"
    target.request("PUT", path, json.dumps(manifest).encode(), _MANIFEST)


def pull_manifests(target: Target, count: int) -> None:
    """Pull that image's manifest `count` times over one connection."""
    connection = http.client.HTTPConnection(target.address, timeout=120)
    for _ in range(count):
        path = f"/v2/{_REPOSITORY}/manifests/bench"
        connection.request("GET", path, headers={"Accept": _MANIFEST})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"a manifest was answered with {answer.status}")
    connection.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.registry", description=__doc__)
    add = parser.add_argument
    add("--a", metavar="HOST:PORT", required=True, help="the registry to measure against")
    add("--b", metavar="HOST:PORT", help="the registry to measure beside it")
    add("--name-a", default="docker-registry", help="its name in the table")
    add("--name-b", default="wherry", help="its name in the table")
    add("--pid-a", type=int, default=0, help="its process, for time and memory")
    add("--pid-b", type=int, default=0, help="its process, for time and memory")
    add("--blobs", type=int, default=8, help="how many at once (%(default)s)")
    add("--mb", type=int, default=20, help="size of each (%(default)s)")
    add("--rounds", type=int, default=5, help="samples of each (%(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
