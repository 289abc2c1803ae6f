"""Both clients on one engine: exit codes and output of some hundred commands are the same."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.clients import Client

LINES = [
    line
    for line in (Path(__file__).parent / "golden" / "beside.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
# Seconds pass between two commands, and lists of the clock show them: so often each line is tried.
TRIES = 4
NAMES = {name: f"beside-{name.lower()}" for name in ("ONE", "TWO", "THREE", "VOL", "NET")}
# A label is one: Docker's client shows several in the order of a map.
MAKE = """
volume create --label k=v VOL
network create --label q=w --subnet 10.213.0.0/24 NET
run -d --name ONE --network none -l a=b -v VOL:/d BOX sleep 1000
run -d --name TWO --network NET -p 127.0.0.1:8088:80 BOX sh -c PRINT
create --name THREE --network none BOX sh -c FAIL
""".strip().splitlines()
SCRIPTS = {
    "PRINT": "for i in 1 2 3; do echo out $i; done; echo err >&2; sleep 1000",
    "FAIL": "exit 3",
}


@pytest.fixture(scope="module")
def folder(
    docker: Client, wherry: Client, busybox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder for the commands; the engine has what they name."""
    if docker.version < (28, 2):
        pytest.skip("an older client says some of it in other words")
    folder = tmp_path_factory.mktemp("beside")
    (folder / "env").write_text("A=1\n# c\n\nB\n  C=2\nD=a b # x\nE=\n")
    (folder / "bad").write_text("A B=1\n")
    (folder / "file").write_text("x")
    try:
        for line in MAKE:
            words = {**NAMES, **SCRIPTS, "BOX": busybox}
            wherry(*(_filled(word, words) for word in line.split()))
        wherry("start", "-a", NAMES["THREE"], check=False)
        yield folder
    finally:
        wherry("rm", "-fv", NAMES["ONE"], NAMES["TWO"], NAMES["THREE"], check=False)
        wherry("volume", "rm", "-f", NAMES["VOL"], check=False)
        wherry("network", "rm", "-f", NAMES["NET"], check=False)


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\b[A-Z]{3,5}\b", lambda found: words.get(found[0], found[0]), text)


def _done(client: Client, line: str, folder: Path, version: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-c", line.replace("@", client.command[0])],
        env={**client.env, "PATH": os.environ["PATH"], "DOCKER_API_VERSION": version},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, _without_names(done.stderr)


def _without_names(text: str) -> str:
    """The words without the program's name, and without where Docker's client tells of more."""
    text = re.sub(r"\b(docker|Docker|wherry)\b(?!\.io)", "CLIENT", text)
    return re.sub(r"\b[0-9a-f]{64}\b", "ID", text)


@pytest.mark.parametrize("at", range(0, len(LINES), 10))
def test_both_clients_do_and_say_the_same(
    at: int, docker: Client, wherry: Client, busybox: str, folder: Path
) -> None:
    differing: list[str] = []
    # The same for both: from 1.51 on the engine counts an image's containers for a listing.
    version = docker.line("version", "-f", "{{.Client.APIVersion}}")
    with ThreadPoolExecutor(2) as pool:
        for line in LINES[at : at + 10]:
            shown = _filled(line, {**NAMES, "BOX": busybox})
            theirs, ours = (0, "", ""), (1, "", "")
            for _ in range(TRIES):
                both = [
                    pool.submit(_done, client, shown, folder, version)
                    for client in (docker, wherry)
                ]
                theirs, ours = (done.result() for done in both)
                if theirs == ours:
                    break
            else:
                differing.append(f"{shown}\n  docker: {theirs}\n  wherry: {ours}")
    assert not differing, "\n".join(differing)
