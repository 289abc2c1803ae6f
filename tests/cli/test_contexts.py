"""`wherry context`, beside the unmodified docker client on one configuration folder."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.clients import find_docker
from tests.harness.engine import script

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("wherry", "context", "ls")` with a configuration folder of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    programs = {"wherry": script("wherry"), "docker": find_docker() or "docker"}

    def call(program: str, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        gone = ("DOCKER_", "WHERRY_HOST", "WHERRY_CONTEXT")
        env = {k: v for k, v in os.environ.items() if not k.startswith(gone)}
        env |= {"DOCKER_CONFIG": str(home), "HOME": str(home), **extra}
        return subprocess.run(
            [programs[program], *words],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return call


def test_both_clients_know_the_same_contexts(run: Run) -> None:
    for maker, reader, name in (("wherry", "docker", "one"), ("docker", "wherry", "two")):
        made = run(
            *(maker, "context", "create", name, "--description", "a box"),
            *("--docker", "host=tcp://192.0.2.1:2376,skip-tls-verify=true"),
        )
        assert (made.returncode, made.stdout) == (0, f"{name}\n")
        assert made.stderr == f'Successfully created context "{name}"\n'
        shown = run(reader, "context", "inspect", name)
        assert shown.stdout == run(maker, "context", "inspect", name).stdout
        found = json.loads(shown.stdout)[0]
        assert found["Endpoints"]["docker"] == {
            "Host": "tcp://192.0.2.1:2376",
            "SkipTLSVerify": True,
        }
    assert run("wherry", "context", "ls", "-q").stdout == "default\none\ntwo\n"


def test_a_server_is_verified_by_an_authority_that_is_there(run: Run) -> None:
    words = ("--tlsverify", "-H", "tcp://127.0.0.1:1", "ps")
    ours, theirs = (run(program, *words) for program in ("wherry", "docker"))
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
    assert "ca.pem: no such file or directory" in ours.stderr


def test_the_ready_made_context_looks_alike(run: Run) -> None:
    host = {"DOCKER_HOST": "unix:///var/run/docker.sock"}
    for words in (("inspect",), ("inspect", "-f", "json"), ("ls", "-q")):
        ours, theirs = (run(program, "context", *words, **host) for program in ("wherry", "docker"))
        assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)


def test_listings_look_alike(run: Run) -> None:
    run("wherry", "context", "create", "box", "--docker", "host=unix:///x")
    host = {"DOCKER_HOST": "unix:///var/run/docker.sock"}
    for words in ((), ("--format", "json"), ("--format", "{{.Name}} {{.Current}}")):
        ours = run("wherry", "context", "ls", *words, **host).stdout
        theirs = run("docker", "context", "ls", *words, **host).stdout
        assert [line.rstrip() for line in ours.splitlines()] == [
            line.rstrip() for line in theirs.splitlines()
        ]


@pytest.mark.parametrize(
    "words",
    [
        ("create", "default"),
        ("create", "a b"),
        ("create", "x", "--docker", "nonsense=1"),
        ("use", "nobody"),
        ("rm", "nobody"),
        ("rm", "default"),
        ("inspect", "nobody"),
    ],
)
def test_mistakes_are_told_in_the_same_words(run: Run, words: tuple[str, ...]) -> None:
    ours, theirs = (run(program, "context", *words) for program in ("wherry", "docker"))
    assert ours.returncode == theirs.returncode != 0
    assert ours.stderr.splitlines()[0] == theirs.stderr.splitlines()[0]


def test_the_one_in_use_is_used_and_kept_from_removal(run: Run) -> None:
    run("wherry", "context", "create", "box", "--docker", "host=tcp://127.0.0.1:1")
    assert run("wherry", "context", "use", "box").stdout == "box\n"
    assert run("wherry", "context", "show").stdout == "box\n"
    assert "tcp://127.0.0.1:1" in run("wherry", "ps").stderr
    assert "unix:///nowhere" in run("wherry", "-H", "unix:///nowhere", "ps").stderr
    assert "unix:///none" in run("wherry", "ps", DOCKER_HOST="unix:///none").stderr
    assert "tcp://127.0.0.1:1" in run("wherry", "-c", "box", "ps", DOCKER_HOST="unix:///x").stderr
    kept = run("wherry", "context", "rm", "box")
    assert kept.stderr == 'context "box" is in use, set -f flag to force remove\n'
    assert run("wherry", "context", "rm", "-f", "box").stdout == "box\n"
    assert run("wherry", "context", "show").stdout == "default\n"
    # What Docker's client uses is its own choice.
    assert run("docker", "context", "show").stdout == "default\n"


def test_an_exported_context_is_taken_by_the_other_client(run: Run, tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text(f"the {name}\n")
    where = f"host=tcp://192.0.2.1:2376,ca={tmp_path}/ca.pem,cert={tmp_path}/cert.pem,key={tmp_path}/key.pem"
    assert run("wherry", "context", "create", "box", "--docker", where).returncode == 0
    assert run("wherry", "context", "export", "box").returncode == 0
    assert run("wherry", "context", "export", "box").returncode == 1  # the file is there
    taken = run("docker", "context", "import", "copy", "box.dockercontext")
    assert taken.returncode == 0, taken.stderr
    material = json.loads(run("docker", "context", "inspect", "copy").stdout)[0]["TLSMaterial"]
    assert sorted(material["docker"]) == ["ca.pem", "cert.pem", "key.pem"]
    run("docker", "context", "export", "copy", "copy.tar")
    assert run("wherry", "context", "import", "third", "copy.tar").returncode == 0
    assert "tcp://192.0.2.1:2376" in run("wherry", "context", "inspect", "third").stdout


def test_rubbish_is_no_context(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rubbish").write_bytes(os.urandom(5000))
    done = run("wherry", "context", "import", "xx", "rubbish")
    assert done.returncode == 1 and "this is no exported context" in done.stderr
    assert run("wherry", "context", "ls", "-q").stdout == "default\n"


def test_description_and_host_are_changed(run: Run) -> None:
    run("wherry", "context", "create", "box", "--docker", "host=unix:///x")
    done = run("wherry", "context", "update", "box", "--description", "new")
    assert done.stderr == 'Successfully updated context "box"\n'
    run("wherry", "context", "update", "box", "--docker", "host=unix:///y")
    found = json.loads(run("docker", "context", "inspect", "box").stdout)[0]
    assert found["Metadata"] == {"Description": "new"}
    assert found["Endpoints"]["docker"]["Host"] == "unix:///y"
