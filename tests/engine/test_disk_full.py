"""A disk that is full at the first write, the second, …: a clear error, nothing lost, nothing half.

Every request is made with 0 pages of room, then with 1, 2, … until it succeeds, and so fails at each of its
writes; then likewise with inodes. WHERRY_FULL=1 leaves no number out; without it they grow faster.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.engine.boxes import eventually
from tests.engine.raw import Answer, Api
from tests.engine.tars import busybox_tar, file, tar_of
from tests.harness.clients import Client
from tests.harness.engine import Engine, wait_until_gone
from tests.harness.registry import MANIFEST, MadeImage, make_image
from tests.harness.small_disk import SmallDisk
from wherry.model.frames import Demultiplexer

IMAGE = "bb:1"
SLEEP = ("sleep", "3600")
MOST = 400
"""Pages or inodes that every request here can do with."""


def amounts() -> Iterator[int]:
    """How much room to leave: every number, or the first ones and then fewer and fewer."""
    if os.environ.get("WHERRY_FULL"):
        yield from range(MOST)
    number = 0
    while number < MOST:
        yield number
        number += max(1, number // 4)


class Repository(http.server.BaseHTTPRequestHandler):
    """Answers pulls of one image."""

    image: MadeImage
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        kind, data = "application/octet-stream", self.image.blobs.get(name, b"{}")
        if "/manifests/" in self.path:
            kind, data = MANIFEST, self.image.manifest
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Docker-Content-Digest", self.image.digest)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def repository(engine: Engine, image: MadeImage) -> Iterator[str]:
    """The address of a registry on the engine's host."""
    assert engine.network is not None
    handler = type("Handler", (Repository,), {"image": image})
    server = http.server.ThreadingHTTPServer(("", 0), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = engine.network.listen("127.0.0.1", 5000)
    server.socket.settimeout(None)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield "127.0.0.1:5000"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Scene:
    """An engine on a small disk; `api` and `docker` speak to it."""

    engine: Engine
    disk: SmallDisk
    api: Api
    docker: Client
    registry: str
    saved: bytes
    count: Iterator[int]

    def post(self, path: str, body: object = None, /, **query: object) -> Answer:
        """POST, with the newest version."""
        search = urlencode(query)
        return self.api("POST", path, body, version="v1.51", timeout=30, search=search)

    def tar(self, method: str, path: str, data: bytes, search: str) -> Answer:
        """Send an archive."""
        return self.api(
            method, path, data, version="v1.51", kind="application/x-tar", timeout=30, search=search
        )

    def known(self) -> object:
        """What the engine says it has."""
        get = self.api
        return [
            sorted(
                (c["Names"], c["State"], c["Labels"])
                for c in get("GET", "/containers/json", all=1).json()
            ),
            sorted(str(i["RepoTags"]) for i in get("GET", "/images/json").json()),
            sorted(v["Name"] for v in get("GET", "/volumes").json()["Volumes"] or ()),
            sorted(n["Name"] for n in get("GET", "/networks").json()),
        ]

    def files(self) -> set[str]:
        """What is below the data root, but for cut-off downloads and what is being removed.

        What containers have of their own is theirs, whether they start or not.
        """
        own = {c["Id"] for c in self.api("GET", "/containers/json", all=1).json()}
        left = {"trash", ".trash", "partial", *own}
        found: set[str] = set()
        for folder, folders, names in os.walk(self.disk.path):
            here = os.path.relpath(folder, self.disk.path)
            folders[:] = [name for name in folders if name not in left]
            found |= {os.path.normpath(f"{here}/{n}") for n in (*folders, *names)}
        return {name for name in found if not name.startswith(".ballast")}


@pytest.fixture(scope="module")
def scene(nothing_left: None, docker_for: Callable[[Engine], Client]) -> Iterator[Scene]:
    """An engine that found its disk full when it started, so that it could set nothing aside."""
    root = Path(tempfile.mkdtemp(prefix="wherry-", dir="/var/tmp"))
    pulled = make_image([{"a": b"x" * 9000}, {"b": os.urandom(9000)}])
    small = tar_of([file(f"f{n}", os.urandom(3000)) for n in range(4)])
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(SmallDisk(root / "data"))
        engine = stack.enter_context(Engine(root=root))
        docker = docker_for(engine)
        docker.raw("import", "-", "other:1", stdin=small)
        saved = docker.raw("save", "other:1").stdout
        docker("rmi", "other:1")
        docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
        docker("network", "create", "net0")
        docker("volume", "create", "vol0")
        docker("run", "-d", "--name", "box", "--init", "--network", "none", IMAGE, *SLEEP)
        for name in ("idle", "fresh"):
            docker("create", "--name", name, "--init", "--network", "none", IMAGE, *SLEEP)
        registry = stack.enter_context(repository(engine, pulled))
        disk.leave_pages(0)
        engine.restart()
        disk.empty()
        yield Scene(
            engine, disk, Api(str(engine.socket)), docker, registry, saved, itertools.count()
        )
    root.rmdir() if root.exists() else None


def create(scene: Scene) -> Answer:
    body = {"Image": IMAGE, "Cmd": ["true"], "Labels": {"a": "b" * 9000}}
    return scene.post("/containers/create", body, name="made")


def start(scene: Scene) -> Answer:
    return scene.post("/containers/idle/start")


def execute(scene: Scene) -> Answer:
    body = {"Cmd": ["echo", "x" * 9000], "AttachStdout": True}
    made = scene.post("/containers/box/exec", body)
    if made.status != 201:
        return made
    return scene.post(f"/exec/{made.json()['Id']}/start", {"Detach": False})


def copy(scene: Scene) -> Answer:
    folder = f"copy-{next(scene.count)}"
    data = tar_of([file(f"{folder}/f{n}", b"x" * 9000) for n in range(3)])
    return scene.tar("PUT", "/containers/fresh/archive", data, "path=/tmp")


def commit(scene: Scene) -> Answer:
    return scene.post("/commit", {}, container="box", repo="committed")


def imported(scene: Scene) -> Answer:
    data = tar_of([file("f", os.urandom(9000))])
    return scene.tar("POST", "/images/create", data, "fromSrc=-&repo=imported")


def load(scene: Scene) -> Answer:
    return scene.tar("POST", "/images/load", scene.saved, "")


def volume(scene: Scene) -> Answer:
    return scene.post("/volumes/create", {"Name": "vol1", "Labels": {"a": "b" * 9000}})


def network(scene: Scene) -> Answer:
    return scene.post("/networks/create", {"Name": "net1", "Labels": {"a": "b" * 9000}})


def connect(scene: Scene) -> Answer:
    return scene.post("/networks/net0/connect", {"Container": "box"})


def tag(scene: Scene) -> Answer:
    return scene.post(f"/images/{IMAGE}/tag", repo="t" * 120, tag="1")


def rename(scene: Scene) -> Answer:
    return scene.post("/containers/idle/rename", name="i" * 120)


def update(scene: Scene) -> Answer:
    body = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": next(scene.count) + 1}}
    return scene.post("/containers/box/update", body)


def pull(scene: Scene) -> Answer:
    return scene.post("/images/create", fromImage=f"{scene.registry}/some", tag="1")


def build(scene: Scene) -> Answer:
    text = b"FROM bb:1\nRUN echo hi >/x\nCOPY Dockerfile /y\n"
    data = tar_of([file("Dockerfile", text)])
    return scene.tar("POST", "/build", data, "t=built&networkmode=none")


def restart(scene: Scene) -> Answer:
    return scene.post("/containers/box/restart", t=0)


def kill(scene: Scene) -> Answer:
    return scene.post("/containers/box/kill")


def remove(scene: Scene) -> Answer:
    return scene.api("DELETE", "/containers/fresh", force=1)


def untag(scene: Scene) -> Answer:
    return scene.api("DELETE", f"/images/{'t' * 120}:1")


REQUESTS: dict[str, tuple[Callable[[Scene], Answer], str, str]] = {
    # What is asked, what makes it possible (again), what takes it back.
    "create": (create, "", "rm made"),
    "start": (start, "", "stop -t 1 idle"),
    "exec": (execute, "", ""),
    "copy": (copy, "", ""),
    "commit": (commit, "", "rmi committed"),
    "import": (imported, "", "rmi imported"),
    "load": (load, "", "rmi other:1"),
    "volume": (volume, "", "volume rm vol1"),
    "network": (network, "", "network rm net1"),
    "tag": (tag, "", f"rmi {'t' * 120}:1"),
    "rename": (rename, "", f"rename {'i' * 120} idle"),
    "update": (update, "", ""),
    "pull": (pull, "", "rmi 127.0.0.1:5000/some:1"),
    "build": (build, "", "rmi built"),
    "restart": (restart, "start box", ""),
    "kill": (kill, "start box", "start box"),
    "remove": (remove, "", "create --name fresh --init --network none bb:1 sleep 3600"),
    "untag": (untag, f"tag {IMAGE} {'t' * 120}:1", ""),
}
# They do several things, and what was done before the disk was full stays done.
STEPWISE = ("restart", "copy")


def failure(answer: Answer) -> str:
    """What the answer says went wrong, "" for nothing."""
    if answer.status >= 400:
        assert answer.status == 507, answer
        return answer.message
    last = answer.body.strip().rpartition(b"\n")[2]
    return str(json.loads(last)["error"]) if last.startswith(b'{"error') else ""


@pytest.mark.parametrize("room", ["pages", "inodes"])
@pytest.mark.parametrize("name", REQUESTS)
def test_full_at_every_write(scene: Scene, name: str, room: str) -> None:
    ask, ready, undo = REQUESTS[name]
    leave = scene.disk.leave_pages if room == "pages" else scene.disk.leave_inodes
    docker = scene.docker
    if ready:
        docker(*ready.split())
    before, pid = scene.known(), scene.engine.pid
    files = scene.files()
    said = ""
    for amount in amounts():
        leave(amount)
        began = time.monotonic()
        answer = ask(scene)
        took = time.monotonic() - began
        said = failure(answer)
        after = scene.known()
        scene.disk.empty()
        assert took < 30, (amount, took)
        if not said:
            break
        if "non-zero code" not in said:  # a program of the build's own found the disk full
            assert "no space left on" in said.lower(), said
            assert "prune" in said, said
        if name in STEPWISE:
            if ready:
                docker(*ready.split())
        else:
            assert after == before, (amount, said)
        assert name in ("build", *STEPWISE) or scene.files() <= files, (
            amount, said, sorted(scene.files() - files)
        )  # fmt: skip
    else:
        pytest.fail(f"it never succeeds: {said}")
    if undo:
        eventually(lambda: docker(*undo.split(), check=False).returncode == 0)
    assert scene.engine.pid == pid and scene.engine.answers()
    # Whatever failed: what ran, runs, and what was acknowledged is there for the next daemon too.
    assert docker.line("exec", "box", "echo", "alive") == "alive"
    assert "Traceback" not in scene.engine.log.read_text(errors="replace")


def test_all_is_there_for_the_next_daemon(scene: Scene) -> None:
    before = scene.known()
    scene.disk.leave_pages(0)
    scene.engine.crash()
    scene.engine.start()
    after = scene.known()
    scene.disk.empty()
    assert after == before


@contextlib.contextmanager
def small_engine(
    docker_for: Callable[[Engine], Client],
) -> Iterator[tuple[Engine, SmallDisk, Client]]:
    """An engine of the test's own with the image and a container `box` that ends at SIGTERM."""
    root = Path(tempfile.mkdtemp(prefix="wherry-", dir="/var/tmp"))
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(SmallDisk(root / "data"))
        engine = stack.enter_context(Engine(root=root))
        stack.callback(disk.empty)
        docker = docker_for(engine)
        docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
        yield engine, disk, docker
    root.rmdir() if root.exists() else None


def stop(engine: Engine) -> str:
    """`wherryd stop`, which must succeed; what it printed."""
    stopped = engine.stop()
    said = stopped.stderr.decode()
    assert stopped.returncode == 0, said
    assert not wait_until_gone(f"{engine.root}/"), said
    return said


@pytest.mark.parametrize("broken", [False, True])
def test_stop_where_nothing_can_be_written(
    nothing_left: None, docker_for: Callable[[Engine], Client], broken: bool
) -> None:
    with small_engine(docker_for) as (engine, disk, docker):
        docker("run", "-d", "--name", "box", "--init", IMAGE, *SLEEP)
        docker("run", "-d", "--name", "own", "--network", "none", "--restart", "always", IMAGE,
               "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")  # fmt: skip
        engine.halt()  # which gives back the room that it had set aside
        database = disk.path / "wherry.db"
        kept = database.read_bytes()
        if broken:
            database.write_bytes(b"nonsense" * 1000)
        disk.leave_pages(0)
        said = stop(engine)
        disk.empty()
        if broken:
            assert "is not usable as a database" in said
            database.write_bytes(kept)
        engine.start()
        states = {
            c["Names"][0]: c["State"]
            for c in Api(str(engine.socket))("GET", "/containers/json", all=1).json()
        }
        assert states["/box"] == "exited"
        assert set(states) == {"/box", "/own"}


def test_a_full_disk_refuses_a_daemon_by_name(
    nothing_left: None, docker_for: Callable[[Engine], Client]
) -> None:
    with small_engine(docker_for) as (engine, disk, _):
        engine.halt()
        disk.leave_pages(0)
        with pytest.raises(AssertionError, match="no space left on the device: the database"):
            engine.start()
        engine.process = None
        disk.empty()
        engine.start()


LOST = "bytes of output are missing here: the disk was full"
SAYS = """echo first; while read n; do yes "line $(printf %0100d 0)" | head -n $n; echo "said $n"; done"""


def test_logs_on_a_full_disk(nothing_left: None, docker_for: Callable[[Engine], Client]) -> None:
    with small_engine(docker_for) as (engine, disk, docker):
        docker("run", "-di", "--name", "box", "--network", "none", IMAGE, "sh", "-c", SAYS)
        eventually(lambda: "first" in docker("logs", "box").stdout)
        api = Api(str(engine.socket))
        with api.upgrade("/containers/box/attach?stream=1&stdin=1&stdout=1") as box:
            output = b""

            def say(lines: int) -> None:
                nonlocal output
                box.sendall(b"%d\n" % lines)
                while b"said %d\n" % lines not in output:
                    piece = box.recv(1 << 16)
                    assert piece, "the container ended"
                    output += piece

            disk.leave_pages(4)
            say(3000)  # the container is not held up, and who is attached misses nothing
            # The head of a frame may stand in the midst of a word.
            assert (
                b"".join(map(bytes, (data for _, data in Demultiplexer().feed(output)))).count(
                    b"line "
                )
                == 3000
            )
            disk.leave_pages(0)
            assert docker("logs", "box").stdout.startswith("first\n")
            disk.empty()

            def marked() -> bool:
                say(1)
                return LOST in docker("logs", "box").stderr

            eventually(marked)
        told = docker("logs", "box")
        assert told.stdout.startswith("first\nline 0") and told.stdout.endswith("said 1\n")
        engine.crash()
        engine.start()
        again = docker("logs", "box")
        assert (again.stdout, again.stderr) == (told.stdout, told.stderr)
