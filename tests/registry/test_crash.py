"""kill -9 at every failpoint and at any moment: what was acknowledged is there, what is there is whole."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.registry.serving import OCI, Client, descriptor, registry, sha256

# Of the 21 records and blobs that `push_all` makes permanent, these too and not the first alone.
LATER = tuple(f"durable.before-rename=kill:{n}" for n in (2, 6, 11, 16, 20))
POINTS = (
    "registry.after-write",
    "registry.before-commit",
    "registry.after-commit",
    "registry.before-record",
    "registry.after-record",
    "registry.before-manifest",
    "registry.before-tag",
    "durable.before-sync",
    "durable.before-rename",
    "durable.after-rename",
    *LATER,
)


def push_all(client: Client, seed: bytes) -> None:
    """Do all that changes something: an image in chunks, a mount, a referrer, a deletion."""
    layer = seed * 100_000
    place = client.begin("app")
    client("PATCH", place, layer[:200_000])
    client("PATCH", place, layer[200_000:])
    client("PUT", f"{place}?digest={sha256(layer)}")
    client("POST", f"/v2/copy/blobs/uploads/?mount={sha256(layer)}&from=app")
    data = client.image("app", "moving", seed=seed)
    client.image("app", seed=seed + b"signature", subject=descriptor(data, OCI))
    gone = client.image("app", "gone", seed=seed + b"gone")
    client("DELETE", f"/v2/app/manifests/{sha256(gone)}")


def check_whole(client: Client, root: Path) -> None:
    """Every blob is what its name says, every tag's manifest has all that it names."""
    for path in (root / "blobs" / "sha256").iterdir():
        assert sha256(path.read_bytes()) == f"sha256:{path.name}"
    for name in client("GET", "/v2/_catalog").json["repositories"]:
        tags = client("GET", f"/v2/{name}/tags/list")
        for tag in tags.json["tags"] if tags.status == 200 else ():
            check_image(client, name, tag)


def check_image(client: Client, name: str, reference: str) -> bytes:
    reply = client("GET", f"/v2/{name}/manifests/{reference}")
    assert reply.status == 200
    assert sha256(reply.body) == reply.headers["Docker-Content-Digest"]
    for item in (reply.json["config"], *reply.json["layers"]):
        blob = client("GET", f"/v2/{name}/blobs/{item['digest']}")
        assert (blob.status, sha256(blob.body)) == (200, item["digest"])
    return reply.body


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(tmp_path: Path, point: str) -> None:
    with registry(tmp_path) as running:
        acknowledged = running.client.image("app", "v1", "moving")
    failpoints = point if "=" in point else f"{point}=kill"
    with registry(tmp_path, failpoints=failpoints) as running:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            push_all(running.client, b"second")
        assert running.wait() == -signal.SIGKILL
    with registry(tmp_path) as running:
        check_whole(running.client, tmp_path)
        assert check_image(running.client, "app", "v1") == acknowledged
        push_all(running.client, b"second")
        check_whole(running.client, tmp_path)
        assert check_image(running.client, "app", "moving") != acknowledged


def test_killed_in_a_deletion(tmp_path: Path) -> None:
    with registry(tmp_path, failpoints="registry.before-delete=kill") as running:
        data = running.client.image("app", "v1", "v2")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            running.client("DELETE", f"/v2/app/manifests/{sha256(data)}")
    with registry(tmp_path) as running:
        # The tags went first: none names what is not there.
        assert running.client("GET", "/v2/app/tags/list").json["tags"] == []
        assert check_image(running.client, "app", sha256(data)) == data


def test_killed_in_a_collection(tmp_path: Path) -> None:
    flags = ("--gc-grace=0", "--gc-interval=1")
    with registry(tmp_path) as running:
        data = running.client.image("app", "v1")
        running.client.push("app", b"nobody's")
    with registry(tmp_path, *flags, failpoints="registry.before-collect=kill") as running:
        assert running.wait() == -signal.SIGKILL
    with registry(tmp_path) as running:
        assert check_image(running.client, "app", "v1") == data
        assert running.client.push("app", b"nobody's")


def test_an_upload_goes_on_after_a_crash(tmp_path: Path) -> None:
    data = os.urandom(500_000)
    with registry(tmp_path) as running:
        place = running.client.begin("app")
        running.client("PATCH", place, data[:300_000])
    with registry(tmp_path) as running:
        reply = running.client("GET", place)
        assert reply.headers["Range"] == "0-299999"
        reply = running.client("PATCH", place, data[300_000:], Content_Range="300000-499999")
        assert reply.status == 202
        assert running.client("PUT", f"{place}?digest={sha256(data)}").status == 201


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Three clients push without a pause, the registry is killed again and again."""
    numbers = itertools.count()
    acknowledged: dict[str, bytes] = {}
    chance = random.Random(5)

    def push(client: Client) -> None:
        try:
            while True:
                tag = f"v{next(numbers)}"
                acknowledged[tag] = client.image("app", tag, seed=tag.encode() * 5000)
        except (http.client.HTTPException, OSError):
            return

    for _ in range(6):
        before = len(acknowledged)
        with registry(tmp_path) as running:
            threads = [threading.Thread(target=push, args=(running.client,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(acknowledged) > before)  # noqa: B023
            time.sleep(chance.random() * 0.05)
            running.process.kill()
            for thread in threads:
                thread.join(20)
    with registry(tmp_path) as running:
        for tag, data in acknowledged.items():
            assert check_image(running.client, "app", tag) == data
        check_whole(running.client, tmp_path)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_one_process_a_root(tmp_path: Path) -> None:
    with registry(tmp_path):
        with pytest.raises(AssertionError, match="ended"):
            with registry(tmp_path):
                pass


def test_stopped_politely(tmp_path: Path) -> None:
    with registry(tmp_path) as running:
        data = os.urandom(1 << 20)
        digest = running.client.push("a", data)
        place = running.client.begin("a")
        with running.client.raw(
            f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc".encode()
        ) as stream:
            wait_for(lambda: running.client("GET", place).headers["Range"] == "0-2")
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(OSError):
                while True:
                    running.client("GET", "/v2/")
            stream.sendall(b"def")
            assert b" 202 " in stream.recv(100)
        assert running.wait() == 0
    with registry(tmp_path) as running:
        assert running.client("GET", f"/v2/a/blobs/{digest}").body == data
        done = running.client("PUT", f"{place}?digest={sha256(b'abcdef')}")
        assert done.status == 201
