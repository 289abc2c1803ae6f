"""`--use-api-socket`: the socket is mounted, and the credentials go along, as with Docker's client."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_engine import Answer, FakeEngine
from tests.harness.clients import Client, find_docker
from tests.harness.engine import script

AUTH = {"registry.test": {"auth": base64.b64encode(b"user:secret").decode()}}


def _asked(program: str, folder: Path, *words: str) -> dict[str, Any]:
    """What the command asks an engine for."""
    with FakeEngine(folder / "s") as engine:
        engine.route("POST", "/containers/create", Answer.of({"Id": "x"}, 201))
        engine.route("PUT", "/containers/x/archive", Answer())
        subprocess.run(
            [program, "-H", engine.url, "create", "--use-api-socket", *words],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_CONFIG": str(folder)},
            timeout=30,
            check=True,
            capture_output=True,
        )
        found: dict[str, Any] = {}
        for request in engine.requests:
            if request.path == "/containers/create":
                found |= {
                    "env": request.json["Env"],
                    "mounts": request.json["HostConfig"]["Mounts"],
                }
            elif request.path == "/containers/x/archive":
                with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
                    found["query"] = request.query
                    for entry in tar:
                        file = tar.extractfile(entry)
                        assert file is not None
                        found[entry.name] = (entry.mode, json.load(file))
        return found


@pytest.mark.parametrize("words", [("img",), ("-e", "DOCKER_CONFIG=/x", "img")])
@pytest.mark.parametrize("auths", [{}, AUTH])
def test_the_socket_and_the_credentials_are_given(
    docker: Client, tmp_path: Path, auths: dict[str, Any], words: tuple[str, ...]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    ours = _asked(script("wherry"), tmp_path, *words)
    assert ours["mounts"][0]["Target"] == "/var/run/docker.sock"
    assert ("query" in ours) == (bool(auths) and len(words) == 1)
    if docker.version >= (28, 2):
        (tmp_path / "s").unlink()
        assert ours == _asked(find_docker() or "docker", tmp_path, *words)


def test_another_machines_socket_is_none(tmp_path: Path) -> None:
    words = ["-H", "tcp://127.0.0.1:1", "create", "--use-api-socket", "img"]
    done = subprocess.run(
        [script("wherry"), *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert "can only be used with unix sockets" in done.stderr
