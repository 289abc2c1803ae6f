"""`ssh://`: both clients reach the engine through `system dial-stdio`, over an ssh of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.clients import Client, find_docker
from tests.harness.engine import Engine, script

RUN = ("run", "--rm", "--network", "none")

# What ssh does with its arguments, without the network between: options, host, and a command for a shell.
SSH = """#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    -l|-p|-o) shift 2 ;;
    -T|-o?*) shift ;;
    --) shift; break ;;
    *) break ;;
  esac
done
echo "$1" >> "{log}"
shift
[ "$1" = -- ] && shift
PATH="{bin}:$PATH" WHERRY_HOST="{host}" DOCKER_HOST="{host}" exec sh -c "$*"
"""


@pytest.fixture
def over_ssh(
    engine: Engine, busybox: str, tmp_path: Path, client_home: Path
) -> Callable[[str], Client]:
    """A function from a program to its client, which thinks that the engine is elsewhere."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "wherry").symlink_to(script("wherry"))
    (there / "docker").symlink_to(script("wherry"))
    (here / "ssh").write_text(SSH.format(log=tmp_path / "log", bin=there, host=engine.host))
    (here / "ssh").chmod(0o755)

    def make(program: str) -> Client:
        client = Client([program], "ssh://me@far.example", client_home)
        client.env["PATH"] = f"{here}:{os.environ['PATH']}"
        return client

    return make


@pytest.mark.parametrize("program", ["docker", "wherry"])
def test_a_client_works_through_ssh(
    program: str, over_ssh: Callable[[str], Client], busybox: str, tmp_path: Path
) -> None:
    client = over_ssh((find_docker() or "") if program == "docker" else script("wherry"))
    assert "wherry" in client("version").stdout.lower()
    assert client(*RUN, busybox, "echo", "far").stdout == "far\n"
    data = os.urandom(1 << 20)
    assert client.raw(*RUN, "-i", busybox, "cat", stdin=data).stdout == data
    assert "far.example" in (tmp_path / "log").read_text()


def test_no_ssh_at_all_is_said(client_home: Path, tmp_path: Path) -> None:
    client = Client([script("wherry")], "ssh://far.example", client_home)
    client.env["PATH"] = str(tmp_path)
    done = client("ps", check=False)
    assert done.returncode == 1 and "cannot run ssh" in done.stderr


def test_dial_stdio_carries_requests_and_their_ends(engine: Engine, wherry: Client) -> None:
    request = b"GET /_ping HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n"
    done = wherry.raw("system", "dial-stdio", stdin=request)
    assert done.stdout.startswith(b"HTTP/1.1 200") and done.stdout.endswith(b"OK")
