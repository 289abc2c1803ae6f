"""`--metrics-addr`: what Prometheus reads; and the daemon's own log as JSON."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable

from tests.engine.boxes import eventually
from tests.harness.clients import Client
from tests.harness.engine import Engine

_LINE = re.compile(r'[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+-]+')


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _read(port: int, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_tell_of_containers_requests_and_the_process(
    nothing_left: None,
    docker_for: Callable[[Engine], Client],
    wherry_for: Callable[[Engine], Client],
) -> None:
    port = _free_port()
    options = ("--metrics-addr", f"127.0.0.1:{port}", "--log-format", "json")
    with Engine.on_the_machine(*options) as engine:
        _check(engine, port, docker_for, wherry_for)


def _check(
    engine: Engine,
    port: int,
    docker_for: Callable[[Engine], Client],
    wherry_for: Callable[[Engine], Client],
) -> None:
    wherry_for(engine)("image", "bootstrap", "busybox")
    docker = docker_for(engine)
    docker("run", "-d", "--network", "none", "busybox", "sleep", "600")
    docker("run", "--network", "none", "busybox", "true")
    docker("inspect", "nobody", check=False)

    def value(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", _read(port)[1], re.MULTILINE)
        return float(found[1]) if found else -1

    eventually(lambda: value('engine_daemon_container_states_containers{state="running"}') == 1)
    assert value('engine_daemon_container_states_containers{state="stopped"}') == 1
    assert value('wherry_events_total{kind="container",action="start"}') == 2
    assert value('wherry_api_answers_total{method="GET",status="404"}') >= 1
    assert value('wherry_api_request_seconds_count{method="POST",route="containers"}') >= 4
    assert value("process_resident_memory_bytes") > 1 << 20
    status, text = _read(port)
    assert status == 200
    for line in text.splitlines():
        assert line.startswith("# ") or _LINE.fullmatch(line), line
    assert _read(port, "/containers/json")[0] == 404, "the API is not served there"
    lines = [json.loads(line) for line in engine.log.read_text().splitlines()]
    assert any("has started" in line["msg"] and line["level"] == "info" for line in lines)
