"""Fixtures for every test. Nothing here starts an engine until a test asks for one."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.clients import Client, find_docker
from tests.harness.engine import Engine, script
from tests.harness.hosts import Host
from tests.harness.leaks import LOCK, processes_naming, read_footprint, wait_for_nothing_beyond

# The same examples every time, however busy the machine is.
settings.register_profile(
    "wherry", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("wherry")

# A shell that starts the run in the background has it ignore SIGINT, and all its children with it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every process that a test starts inherits it, so that what this run left can be told from others'.
TOKEN = f"wherry-tests-{secrets.token_hex(8)}"


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail the run when it leaves a process, mount, cgroup, link, table or folder behind.

    While another run of the tests is going on, only this run's own processes are accounted for.
    """
    os.environ["WHERRY_TEST_RUN"] = TOKEN
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        before = read_footprint(TOKEN)
        yield
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = [f"processes: {pid} {name}" for pid, name in processes_naming(TOKEN).items()]
        else:
            left = wait_for_nothing_beyond(before, TOKEN)
    if left:
        pytest.fail("the tests left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def engine(nothing_left: None) -> Iterator[Engine]:
    """One private engine for the whole run. Tests that stop or break an engine use `new_engine`."""
    with Engine() as engine:
        yield engine


@pytest.fixture
def new_engine(nothing_left: None) -> Iterator[Callable[..., Engine]]:
    """A function that starts another private engine (its arguments: more options of wherryd).

    `host=` is a host of the test's to start it on. All of them are gone when the test ends.
    """
    with ExitStack() as stack:

        def make(*options: str, host: Host | None = None) -> Engine:
            return stack.enter_context(Engine(*options, host=host))

        yield make


@pytest.fixture(scope="session")
def client_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home for the clients: no contexts, no credentials."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def docker_for(client_home: Path) -> Callable[[Engine], Client]:
    """A function from an engine to the unmodified docker client bound to it."""
    command = find_docker()
    if command is None:
        pytest.fail("there is no docker client here: `make test` fetches one", pytrace=False)
    return lambda engine: Client([command], engine.host, client_home)


@pytest.fixture(scope="session")
def wherry_for(client_home: Path) -> Callable[[Engine], Client]:
    """A function from an engine to the wherry command bound to it."""
    return lambda engine: Client([script("wherry")], engine.host, client_home)


@pytest.fixture(scope="session")
def docker(engine: Engine, docker_for: Callable[[Engine], Client]) -> Client:
    """The unmodified docker client on the shared engine."""
    return docker_for(engine)


@pytest.fixture(scope="session")
def wherry(engine: Engine, wherry_for: Callable[[Engine], Client]) -> Client:
    """The wherry command on the shared engine."""
    return wherry_for(engine)


@pytest.fixture(scope="session")
def busybox(wherry: Client) -> str:
    """The name of a busybox image in the shared engine, made once."""
    wherry("image", "bootstrap", "busybox")
    return "busybox"


@pytest.fixture(scope="session")
def debian(
    wherry: Client,
    wherry_for: Callable[[Engine], Client],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The name of a Debian image in the shared engine, made once from the package mirror.

    By another engine: the shared one has a network of its own, from which no mirror is reached. Workers
    beside each other, each with an engine, share what one of them made.
    """
    name = "debian:bookworm-slim"
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (saved := folder / "debian.tar").exists():
            make_debian(wherry_for, saved, name)
    wherry("load", "-i", str(saved))
    return name


def make_debian(
    wherry_for: Callable[[Engine], Client],
    saved: Path,
    name: str,
    *options: str,
    timeout: float = 200,
) -> None:
    """Make a Debian image with an engine that reaches the mirror, and save it as `saved`."""
    with Engine.on_the_machine() as maker:
        wherry_for(maker)("image", "bootstrap", name, *options, timeout=timeout)
        wherry_for(maker)("save", "-o", f"{saved}.part", name)
    os.rename(f"{saved}.part", saved)
