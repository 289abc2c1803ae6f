"""Cut anywhere, by whatever means, a transfer goes on from there: our own registry, a network, the engine.

The engine is killed a few times here; `WHERRY_KILLS=100` does it as often as the promise says.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients import Client, find_docker
from tests.harness.cutting import Cutter
from tests.harness.engine import Engine, script
from tests.harness.hosts import Host
from tests.harness.registry import MadeImage, digest_of, make_image
from tests.registry.serving import Running, registry
from tests.transfer.liar import Liar
from tests.transfer.stores import Stores
from tests.transfer.test_killed import Nursery
from wherry.images.transfer import download, upload
from wherry.model.ids import Reference
from wherry.registry import messages

MIB = 1 << 20
KILLS = int(os.environ.get("WHERRY_KILLS", "3"))


def image_of(megabytes: int, seed: int = 1) -> MadeImage:
    half = megabytes * MIB // 2
    chance = random.Random(seed)
    return make_image([{"a": chance.randbytes(half)}, {"b": chance.randbytes(half)}])


def size_of(image: MadeImage) -> int:
    return sum(map(len, image.layers))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with registry(tmp_path_factory.mktemp("ours"), "--metrics-listen=127.0.0.1:0") as running:
        yield running


def received(running: Running) -> int:
    """Return the bytes of blobs that the registry was sent, ever."""
    text = running.client("GET", "/metrics").body.decode()
    found = re.search(r"^\w*received_bytes\w* ([\d.e+]+)$", text, re.MULTILINE)
    assert found, text
    return int(float(found[1]))


def pulled_and_named(stores: Stores, image: MadeImage, name: str) -> None:
    """Have an image in the stores, named for a registry that has it not."""
    with Liar() as liar:
        liar.add(image, "1")
        made = stores.pull(f"{liar.host}/a:1").image
    stores.store.tag(made.id, Reference.parse(name))
    stores.places._database.query("DELETE FROM blob_places")  # pyright: ignore


def test_a_push_to_our_registry_killed_again_and_again(tmp_path: Path, ours: Running) -> None:
    image, chance, nursery = image_of(16), random.Random(3), Nursery()
    try:
        with Cutter(ours.port) as cutter:
            name = f"{cutter.host}/killed/push:1"
            with Stores(tmp_path) as stores:
                pulled_and_named(stores, image, name)
            before, killed, aim = received(ours), 0, [0]

            def passed(_: int) -> None:
                if killed < 12 and cutter.there >= aim[0]:
                    nursery.kill()

            cutter.passed = passed
            while True:
                aim[0] = cutter.there + chance.randrange(0, size_of(image) // 10)
                code = nursery.run("push", tmp_path, name)
                if code == 0:
                    break
                assert code == -signal.SIGKILL
                killed += 1
            # Less often than asked for: what lies in the sockets goes on after a kill.
            assert killed >= 2
            assert received(ours) - before - size_of(image) < killed * MIB
    finally:
        nursery.close()
    whole(ours, "killed/push", image)


def whole(ours: Running, name: str, image: MadeImage) -> None:
    """Fail unless the registry has the image, byte for byte."""
    client = ours.client
    assert client("GET", f"/v2/{name}/manifests/1").body == image.manifest
    for digest, data in image.blobs.items():
        assert client("GET", f"/v2/{name}/blobs/{digest}").body == data


def test_connections_to_our_registry_cut_anywhere(
    new_stores: Callable[[str], Stores], ours: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(download, "_RETRY_SECONDS", 0)
    image, chance = image_of(16, 2), random.Random(4)
    there, back = new_stores("there"), new_stores("back")
    with Cutter(ours.port) as cutter:
        name = f"{cutter.host}/cut/push:1"
        pulled_and_named(there, image, name)
        for verb in (lambda: there.push(name), lambda: back.pull(name)):
            before = cutter.there + cutter.back
            cuts, aim = [0], [before + MIB]

            def passed(total: int) -> bool:
                if cuts[0] >= 10 or total < aim[0]:  # noqa: B023
                    return False
                cuts[0] += 1  # noqa: B023
                aim[0] = total + MIB + chance.randrange(MIB)  # noqa: B023
                return True

            cutter.passed = passed
            again(verb)
            assert cuts[0] >= 5
            assert cutter.there + cutter.back - before - size_of(image) < cuts[0] * MIB
    whole(ours, "cut/push", image)
    assert str(back.store.named(Reference.parse(name))) == image.id


def again(verb: Callable[[], object]) -> None:
    """Do it until it is done, as a user would."""
    for _ in range(20):
        try:
            verb()
        except Exception:  # the next attempt is the test
            continue
        return
    verb()


@pytest.fixture
def runroot() -> Iterator[str]:
    # podman takes none of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="wherry-", dir="/var/tmp") as folder:
        yield folder


@pytest.mark.parametrize("program", ["skopeo", "podman"])
def test_other_clients_cut_while_they_push(
    ours: Running, tmp_path: Path, runroot: str, program: str
) -> None:
    """They begin anew; what is acknowledged is whole, and what is left over can be forgotten."""
    image, chance = image_of(8, 5), random.Random(6)
    with Liar() as source, Cutter(ours.port) as cutter:
        source.add(image, "1")
        aim = [MIB]

        def passed(_: int) -> bool:
            if cutter.there < aim[0] or aim[0] > 12 * MIB:
                return False
            aim[0] = cutter.there + chance.randrange(MIB, 4 * MIB)
            return True

        cutter.passed = passed
        name, target = f"cut/{program}", f"docker://{cutter.host}/cut/{program}:1"
        if program == "skopeo":
            command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"]
            command += ["--dest-tls-verify=false", "--preserve-digests"]
            command += [f"docker://{source.host}/a:1", target]
        else:
            roots = ["--root", str(tmp_path / "r"), "--runroot", runroot]
            podman = ["podman", *roots, "--storage-driver", "vfs"]
            base = f"{source.host}/a:1"
            subprocess.run(
                [*podman, "pull", "--tls-verify=false", base],
                check=True, capture_output=True, timeout=100,
            )  # fmt: skip
            command = [*podman, "push", "--tls-verify=false", base, target]

        def attempt() -> None:
            subprocess.run(command, check=True, capture_output=True, timeout=100)

        again(attempt)
    client = ours.client
    manifest = client("GET", f"/v2/{name}/manifests/1").json
    for part in (manifest["config"], *manifest["layers"]):
        data = client("GET", f"/v2/{name}/blobs/{part['digest']}").body
        assert (digest_of(data), len(data)) == (part["digest"], part["size"])


class Cable:
    """Two hosts and the cable between them: a registry on the one, who pulls and pushes on the other."""

    def __init__(self) -> None:
        self.near, self.far = Host("near"), Host("far")
        self.near.link("eth0", self.far, "eth0")
        self.near.address("eth0", "192.0.2.2/24")
        self.far.address("eth0", "192.0.2.1/24")

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def cable() -> Iterator[Cable]:
    cable = Cable()
    yield cable
    cable.close()


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_the_network_goes_away_and_comes_back(
    cable: Cable,
    new_stores: Callable[[str], Stores],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    """The link is down when the client looks again, and up by the time it looks once more."""
    monkeypatch.setattr(messages, "IDLE_SECONDS", 0.7)
    monkeypatch.setattr(messages, "HEAD_SECONDS", 0.7)
    monkeypatch.setattr(upload, "_RETRY_SECONDS", 1)
    monkeypatch.setattr(download, "_RETRY_SECONDS", 1)
    image, stores = image_of(8, 7), new_stores("data")
    stores.downloads._attempts = stores.pusher._attempts = 8  # pyright: ignore
    outages: list[int] = []

    def after(_: str, __: int) -> None:
        sent = sum(n for what, n in liar.sent.items() if what == "upload" or what in layers)
        if len(outages) < 2 and sent >= (len(outages) + 1) * size_of(image) // 3:
            outages.append(sent)
            cable.near.ip("link", "set", "eth0", "down")

    class Lines(list[Any]):
        def append(self, line: Any) -> None:
            super().append(line)
            if line.status.startswith("Retrying in"):
                cable.near.ip("link", "set", "eth0", "up")

    stores.lines = Lines()
    layers = {digest_of(layer) for layer in image.layers}
    with cable.far.inside():
        liar = Liar("192.0.2.1")
    with liar, cable.near.inside():
        liar.add(image, "1")
        name = f"{liar.host}/a/b:1"
        stores.settings = open_to(liar.host)
        if verb == "push":
            pulled = stores.pull(name).image
            name = f"{liar.host}/c/d:1"
            stores.store.tag(pulled.id, Reference.parse(name))
            liar.blobs.clear()
            liar.sent.clear()
        liar.after_piece = after
        stores.pull(name) if verb == "pull" else stores.push(name)
    assert len(outages) == 2
    sent = sum(liar.sent[one] for one in (layers if verb == "pull" else {"upload"}))
    assert sent - size_of(image) < len(outages) * MIB
    if verb == "push":
        assert liar.blobs.keys() == image.blobs.keys()


def open_to(host: str) -> Any:
    from wherry.registry.endpoints import RegistrySettings

    return RegistrySettings(insecure=(host,), folders=())


@pytest.fixture(params=["docker", "wherry"])
def command(request: pytest.FixtureRequest) -> str:
    return (find_docker() or "") if request.param == "docker" else script("wherry")


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_interrupted_with_ctrl_c(
    engine: Engine, command: str, client_home: Path, verb: str
) -> None:
    assert engine.network is not None
    image = image_of(8, 8 if "docker" in command else 9)
    client = Client([command], engine.host, client_home)
    with engine.network.inside(), Liar() as liar:
        liar.add(image, "1")
        name = f"{liar.host}/c/{verb}:1"
        if verb == "push":
            client("pull", f"{liar.host}/a:1")
            client("tag", f"{liar.host}/a:1", name)
            liar.blobs.clear()
            liar.sent.clear()
        reached, gone = threading.Event(), threading.Event()

        def after(_: str, __: int) -> None:
            if sum(liar.sent.values()) >= size_of(image) // 2 and not reached.is_set():
                reached.set()
                gone.wait(20)

        liar.after_piece = after
        running = client.popen(verb, name)
        try:
            assert reached.wait(20)
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=20)
        finally:
            gone.set()
            running.kill()
            running.wait()
        assert running.returncode
        liar.after_piece = None
        until_quiet(liar)
        client(verb, name)
        assert sum(liar.sent.values()) - size_of(image) < MIB + len(image.config)
        client("rmi", *{name, f"{liar.host}/a:1"} if verb == "push" else [name])


def until_quiet(liar: Liar) -> None:
    """Wait until no upload grows: the engine has heard that its client is gone."""
    deadline = time.monotonic() + 20
    before = -1
    while before != (now := sum(liar.sent.values())):
        assert time.monotonic() < deadline
        before = now
        time.sleep(0.2)


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_the_engine_killed_at_random_points(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client], verb: str
) -> None:
    image, chance = image_of(12, 10), random.Random(11)
    engine = new_engine()
    docker = docker_for(engine)
    assert engine.network is not None
    with engine.network.inside(), Liar() as liar:
        liar.add(image, "1")
        name = f"{liar.host}/k/{verb}:1"
        if verb == "push":
            docker("pull", f"{liar.host}/a:1")
            docker("tag", f"{liar.host}/a:1", name)
            liar.blobs.clear()
            liar.sent.clear()
        killed, aim, lock = [0], [0], threading.Lock()

        def after(_: str, __: int) -> None:
            with lock:
                process = engine.process
                if killed[0] < KILLS and process is not None and process.poll() is None:
                    if sum(liar.sent.values()) >= aim[0]:
                        killed[0] += 1
                        process.kill()
                        process.wait()

        liar.after_piece = after
        while True:
            share = size_of(image) // KILLS
            aim[0] = sum(liar.sent.values()) + chance.randrange(share // 2, share)
            before = killed[0]
            if docker(verb, name, check=False).returncode == 0:
                break
            with lock:
                assert killed[0] == before + 1
                engine.start()
        assert killed[0] >= min(KILLS, 3) - 1
        assert sum(liar.sent.values()) - size_of(image) < killed[0] * MIB + len(image.config)
        if verb == "push":
            assert liar.blobs.keys() == image.blobs.keys()
        else:
            assert docker.line("inspect", "-f", "{{.Id}}", name) == image.id
