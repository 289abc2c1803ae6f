"""Completion in the shells themselves: what Tab offers, names of the engine's things among them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.fake_engine import Answer, FakeEngine
from tests.harness.engine import script
from wherry.cli.verbs import completion

DEADLINE = 60.0
CONTAINER = {"Id": "a" * 64, "Names": ["/web-1"], "Image": "i", "Command": "c", "Created": 0}
IMAGE = {"Id": f"sha256:{'b' * 64}", "RepoTags": ["box:v1"], "Created": 0, "Size": 1}
NETWORK = {"Id": "c" * 64, "Name": "net-1", "Driver": "bridge", "Scope": "local", "Created": ""}
# What is typed before Tab (ENGINE is `-H` and the engine), and one of the words that are offered.
TYPED = [
    ("contai", "container"),
    ("container st", "stats"),
    ("run --memory-swapp", "--memory-swappiness"),
    ("-l info ps --no", "--no-trunc"),
    ("ENGINE rm web", "web-1"),
    ("ENGINE container rm -f web", "web-1"),
    ("ENGINE rmi bo", "box"),
    ("ENGINE network rm net", "net-1"),
    ("ENGINE run --network net", "net-1"),
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    """An engine that has one of each."""
    with FakeEngine(tmp_path / "s") as engine:
        engine.route("GET", "/containers/json", Answer.of([CONTAINER]))
        engine.route("GET", "/images/json", Answer.of([IMAGE]))
        engine.route("GET", "/networks", Answer.of([NETWORK]))
        yield engine


def _shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} here: tools/setup --with-tests installs it")
    return found


def _env(folder: Path) -> dict[str, str]:
    path = f"{Path(script('wherry')).parent}:/usr/bin:/bin"
    # An engine of the environment would be asked by mistake.
    nowhere = f"unix://{folder}/none"
    return {"PATH": path, "HOME": str(folder), "TERM": "dumb", "DOCKER_HOST": nowhere}


@pytest.mark.parametrize(("typed", "word"), TYPED)
def test_fish_offers(engine: FakeEngine, tmp_path: Path, typed: str, word: str) -> None:
    fish = _shell("fish")
    (tmp_path / "c.fish").write_text(completion.render_fish())
    line = "wherry " + typed.replace("ENGINE", f"-H {engine.url}")
    done = subprocess.run(
        [fish, "-c", f"source {tmp_path}/c.fish; complete -C '{line}'"],
        env=_env(tmp_path),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    offered = [entry.partition("\t")[0].partition(":")[0] for entry in done.stdout.splitlines()]
    assert word in offered, done.stderr


@pytest.mark.parametrize(("typed", "word"), TYPED)
def test_bash_offers(engine: FakeEngine, tmp_path: Path, typed: str, word: str) -> None:
    (tmp_path / "c.bash").write_text(completion.render_bash())
    ask = f"""
    source {tmp_path}/c.bash
    compopt() {{ :; }}
    COMP_WORDS=(wherry {typed.replace("ENGINE", f"-H {engine.url}")})
    COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); _wherry; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        [_shell("bash"), "-c", ask],
        env=_env(tmp_path),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert word in [entry.partition(":")[0] for entry in done.stdout.split()], done.stderr


@pytest.mark.parametrize(("typed", "word"), TYPED)
def test_zsh_offers(engine: FakeEngine, tmp_path: Path, typed: str, word: str) -> None:
    zsh = _shell("zsh")
    (tmp_path / "_wherry").write_text(completion.render_zsh())
    (tmp_path / ".zshrc").write_text(
        f"fpath=({tmp_path} $fpath)\nautoload -U compinit\ncompinit -u -D\nPS1='READY> '\n"
        "LISTMAX=0\n"
        "show() { print -r -- \"<${BUFFER}>\"; exit }\nzle -N show\nbindkey '^X' show\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(zsh, [zsh, "-i"], {**_env(tmp_path), "ZDOTDIR": str(tmp_path)})
    try:
        _until(terminal, b"READY> ")
        line = "wherry " + typed.replace("ENGINE", f"-H {engine.url}")
        os.write(terminal, line.encode() + b"\t\x18")
        # What alone is offered is typed out, several are listed.
        assert word in _until(terminal, b">\r\n").decode(errors="replace")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _until(terminal: int, words: bytes) -> bytes:
    end, seen = time.monotonic() + DEADLINE, b""
    while words not in seen:
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                break
    return seen
