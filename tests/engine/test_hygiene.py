"""What containers leave when they are gone: nothing, whether they ended well, badly or never began."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, eventually
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.leaks import processes_naming

IMAGE = "bb:1"
RUN = ["run", "--rm", "--network", "none"]


@pytest.fixture(scope="module")
def own(
    nothing_left: None, docker_for: Callable[[Engine], Client]
) -> Iterator[tuple[Engine, Client]]:
    """An engine that nobody else uses meanwhile, and the docker client bound to it."""
    with Engine() as engine:
        docker = docker_for(engine)
        docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
        docker(*RUN, IMAGE, "true")
        yield engine, docker


def pids(engine: Engine) -> list[int]:
    """The engine's processes: daemon, keeper, supervisor, warm slots."""
    return sorted(processes_naming(str(engine.exec_root)))


def of_each(engine: Engine, name: str) -> Iterator[str]:
    """Yield what /proc says of each of them in the file `name`; of those that end meanwhile nothing."""
    for pid in pids(engine):
        with suppress(OSError):
            yield Path(f"/proc/{pid}/{name}").read_text()


def descriptors(engine: Engine) -> int:
    """How many descriptors all of the engine's processes hold."""
    total = 0
    for pid in pids(engine):
        try:
            total += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
    return total


def files(engine: Engine) -> set[str]:
    """The entries of the data root that belong to containers."""
    root = engine.data_root
    found = {str(p.relative_to(root)) for p in root.glob("containers/*")}
    return found | {str(p.relative_to(root)) for p in root.glob("tmp/*/*")}


def mounts(engine: Engine) -> int:
    """How many mounts of the host are the engine's."""
    return Path("/proc/self/mountinfo").read_text().count(str(engine.root))


@dataclass(frozen=True, slots=True)
class Held:
    """What an engine has; descriptors of all of its processes."""

    processes: int
    descriptors: int
    files: set[str]
    mounts: int


class Account:
    """What an engine holds at one moment."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.held = self.now = self._count()
        alike = 0
        while alike < 5:  # warm slots are made when there is nothing else to do
            time.sleep(0.05)
            now = self._count()
            alike = alike + 1 if now == self.held else 0
            self.held = now

    def _count(self) -> Held:
        return Held(
            processes=len(pids(self.engine)),
            descriptors=descriptors(self.engine),
            files=files(self.engine),
            mounts=mounts(self.engine),
        )

    def is_settled(self) -> bool:
        """Whether the engine holds no more than it held, a few descriptors of idle connections aside.

        It may be less: on a busy machine a warm slot is made again when there is time.
        """
        now, held = self._count(), self.held
        self.now = now
        return (
            now.descriptors <= held.descriptors + 3
            and now.processes <= held.processes
            and now.mounts <= held.mounts
            and now.files <= held.files
        )

    def check(self) -> None:
        """AssertionError when it does not settle."""
        try:
            eventually(self.is_settled, 20)
        except AssertionError:
            pytest.fail(f"held {self.held}\nnow  {self.now}", pytrace=False)


def test_forty_containers(own: tuple[Engine, Client]) -> None:
    engine, docker = own
    account = Account(engine)
    for _ in range(8):
        running = [docker.popen(*RUN, IMAGE, "sh", "-c", "echo x; exit 3") for _ in range(5)]
        for process in running:
            process.communicate(timeout=30)
    account.check()


@pytest.mark.parametrize(
    "words",
    [
        [IMAGE, "nosuchprogram"],
        [IMAGE, "/etc/passwd"],
        ["-w", "/etc/passwd", IMAGE, "true"],
        ["-u", "nosuch", IMAGE, "true"],
        ["--device", "/dev/nosuch", IMAGE, "true"],
        ["--sysctl", "kernel.panic=1", IMAGE, "true"],
        ["--tmpfs", "/t:nonsense=1", IMAGE, "true"],
        ["--mount", "type=bind,src=/no/such,dst=/x", IMAGE, "true"],
        ["--pid", "container:nosuch", IMAGE, "true"],
        ["-v", "/dev/null:/proc/self/x", IMAGE, "true"],
        ["-t", IMAGE, "nosuchprogram"],
        ["--init", IMAGE, "nosuchprogram"],
    ],
)
def test_starts_that_fail(own: tuple[Engine, Client], words: list[str]) -> None:
    engine, docker = own
    account = Account(engine)
    for _ in range(3):
        assert docker(*RUN, *words, check=False).returncode != 0
    account.check()


@pytest.fixture
def owned(own: tuple[Engine, Client]) -> Iterator[Boxes]:
    """Containers in that engine, removed at the test's end."""
    with Boxes(own[1], IMAGE) as boxes:
        yield boxes


def test_execs_that_fail_and_succeed(own: tuple[Engine, Client], owned: Boxes) -> None:
    engine, docker = own
    name = owned.sleeper()
    docker("exec", "-t", name, "true")
    account = Account(engine)
    for words in (["true"], ["nosuchprogram"], ["sh", "-c", "exit 5"], ["/etc/passwd"]) * 3:
        docker("exec", name, *words, check=False)
        docker("exec", "-t", name, *words, check=False)
    account.check()


def test_clients_that_leave(own: tuple[Engine, Client], owned: Boxes) -> None:
    engine, docker = own
    name = owned.sh("while :; do echo x; sleep 0.01; done")
    account = Account(engine)
    verbs = (["attach", "--no-stdin", name], ["logs", "-f", name], ["stats", name], ["events"])
    for words in verbs * 3:
        process = docker.popen(*words)
        time.sleep(0.05)
        process.kill()
        process.communicate()
    account.check()


def test_images_leave_their_layers(own: tuple[Engine, Client], owned: Boxes) -> None:
    engine, docker = own

    def layers() -> set[str]:
        return {path.name for path in (engine.data_root / "layers").iterdir()}

    before = layers()
    name, image = owned.sh("head -c 100000 /dev/urandom >/file"), owned.image_name()
    docker("wait", name)
    docker("commit", name, image)
    assert layers() > before
    docker("rm", name)
    docker("rmi", image)
    eventually(lambda: layers() == before)


def test_idle_engine_uses_no_processor(own: tuple[Engine, Client], owned: Boxes) -> None:
    engine, _ = own
    owned.sleeper()
    Account(engine)

    def ticks() -> int:
        total = 0
        for text in of_each(engine, "stat"):
            fields = text.rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total

    def idle() -> bool:
        before = ticks()
        time.sleep(1)
        return ticks() - before <= 3  # hundredths of a second

    # What has just been done may not be over, and some seconds later it tidies up.
    eventually(idle, 30)


def test_memory_when_idle(own: tuple[Engine, Client]) -> None:
    """All engine processes together stay under 80 MB: proportional shares, as smaps tells them."""
    engine, _ = own
    Account(engine)
    total = sum(
        int(line.split()[1])
        for text in of_each(engine, "smaps_rollup")
        for line in text.splitlines()
        if line.startswith("Pss:")
    )
    assert total < 80_000, f"{total} kB"
