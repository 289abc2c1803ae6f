"""SIGHUP: what daemon.json says anew is so at once, in `info`, in events, and where images come from."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.registry import DockerRegistry


def test_registries_labels_and_switches_change_while_the_daemon_runs(
    nothing_left: None,
    docker_for: Callable[[Engine], Client],
    wherry_for: Callable[[Engine], Client],
    tmp_path: Path,
) -> None:
    file = tmp_path / "daemon.json"
    file.write_text("{}")
    with (
        DockerRegistry(tmp_path / "registry") as registry,
        Engine.on_the_machine("--config-file", str(file)) as engine,
    ):
        docker = docker_for(engine)
        wherry_for(engine)("image", "bootstrap", "busybox")
        # The first request for a registry makes what is to follow the new settings.
        there = f"{registry.host}/library/wherry-reloaded:1"
        docker("tag", "busybox", there)
        docker("push", there)
        docker("rmi", there)
        assert _info(docker)["Labels"] == []
        file.write_text(
            json.dumps(
                {
                    "registry-mirrors": [f"http://{registry.host}"],
                    "insecure-registries": ["r.example:5000", "10.9.0.0/16"],
                    "labels": ["rack=7"],
                    "debug": True,
                    "live-restore": False,
                    "max-concurrent-downloads": 1,
                    "max-concurrent-uploads": 1,
                    "max-download-attempts": 2,
                    "shutdown-timeout": 3,
                }
            )
        )
        event = _reload(engine, docker)
        assert event["Actor"]["Attributes"] == {
            "debug": "true",
            "insecure-registries": '["::1/128","127.0.0.0/8","r.example:5000","10.9.0.0/16"]',
            "labels": '["rack=7"]',
            "live-restore": "false",
            "max-concurrent-downloads": "1",
            "max-concurrent-uploads": "1",
            "max-download-attempts": "2",
            "name": os.uname().nodename,
            "registry-mirrors": f'["http://{registry.host}"]',
            "shutdown-timeout": "3",
        }
        info = _info(docker)
        assert (info["Labels"], info["Debug"], info["LiveRestoreEnabled"]) == (
            ["rack=7"],
            True,
            False,
        )
        found = info["RegistryConfig"]
        assert found["Mirrors"] == [f"http://{registry.host}/"]
        assert "10.9.0.0/16" in found["InsecureRegistryCIDRs"]
        assert found["IndexConfigs"]["r.example:5000"]["Secure"] is False
        # Docker Hub has no such image: the mirror was asked.
        docker("pull", "wherry-reloaded:1")
        docker("push", there, check=False)
        # What is wrong changes nothing.
        file.write_text('{"labels": ["no equals sign"]}')
        os.kill(engine.pid, signal.SIGHUP)
        _until(lambda: "the configuration stays as it was" in engine.tail())
        assert _info(docker)["Labels"] == ["rack=7"]


def _info(docker: Client) -> dict[str, Any]:
    return json.loads(docker.line("info", "--format", "{{json .}}"))


def _reload(engine: Engine, docker: Client) -> dict[str, Any]:
    """Send SIGHUP and return the event that tells that it was done."""
    os.kill(engine.pid, signal.SIGHUP)
    found: list[str] = []

    def told() -> bool:
        words = ("--since", "10m", "--until", "0s", "--filter", "type=daemon")
        found[:] = docker.line("events", *words, "--format", "{{json .}}").splitlines()
        return bool(found)

    _until(told)
    event: dict[str, Any] = json.loads(found[-1])
    assert (event["Type"], event["Action"]) == ("daemon", "reload")
    return event


def _until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
