"""Requests made from the OpenAPI file, right ones and wrong ones: never a 500, a hang or a leak.

WHERRY_FUZZ_SECONDS says for how long (30 without it), WHERRY_FUZZ_SEED with which seed: a number, or
`random`. Without it every run sends the same.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest

from tests.contract.specification import find_file
from tests.engine.boxes import SLEEP
from tests.harness.clients import Client
from tests.harness.engine import Engine

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

# Bodies that are no JSON: what is sent is made here.
for _kind in ("application/x-tar", "application/octet-stream", "text/plain"):
    schemathesis.openapi.media_type(_kind, st.binary(max_size=600))

SECONDS = float(os.environ.get("WHERRY_FUZZ_SECONDS", "30"))
ANSWER_WITHIN = 15.0
ROUND = 6
"""Requests of one operation in a row."""
# They go on until what they wait for happens, so that saying nothing is right of them.
ENDLESS = ("/attach", "/wait", "/logs", "/events", "/stats", "/session", "/exec/{id}/start")
# What is not here (501), what a full disk or a missing swarm says, and what registries out of reach say.
FINE = (501, 503, 507)
GROWTH = 96 << 20
"""Bytes that the daemon may have grown by: caches and the allocator's arenas, not one request's share."""


class Target:
    """The engine that is fuzzed, with things in it that requests may name."""

    def __init__(self, engine: Engine, docker: Client, wherry: Client, image: str) -> None:
        self.engine, self.docker, self.wherry, self.image = engine, docker, wherry, image
        self.box = self.volume = self.network = ""
        self.exec = ""
        self.renew()

    def renew(self) -> None:
        """Make anew what requests have removed or stopped."""
        if self.docker("image", "inspect", self.image, check=False).returncode:
            self.wherry("image", "bootstrap", self.image)
        if self.docker("inspect", self.box or "-", check=False).returncode:
            self.box = f"fuzz-{secrets.token_hex(4)}"
            self.volume = self.network = self.box
            self.docker("run", "-d", "--name", self.box, self.image, *SLEEP)
            self.docker("volume", "create", self.volume)
            self.docker("network", "create", self.network)
        self.docker("start", self.box, check=False)

    def name(self, path: str) -> str:
        """Return something real that the first parameter of `path` may name."""
        kinds = {"volumes": self.volume, "networks": self.network, "images": self.image}
        return kinds.get(path.split("/")[1], self.box)


def harmless(body: Any) -> Any:
    """Return a body of create without the machine's own folders, devices and namespaces."""
    if isinstance(body, dict):
        dangerous = ("Binds", "Mounts", "Privileged", "Devices", "PidMode", "CgroupParent")
        return {key: harmless(value) for key, value in body.items() if key not in dangerous}
    return body


def send(target: Target, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
    """Return status and the answer's beginning; status 0 for a stream that says nothing yet."""
    connection = http.client.HTTPConnection("engine", timeout=ANSWER_WITHIN)
    connection.sock = socket.socket(socket.AF_UNIX)
    endless = any(part in path for part in ("/attach", "/wait", "/logs", "/events", "/stats"))
    endless = endless or path.endswith("/start") or "/session" in path
    connection.sock.settimeout(0.3 if endless else ANSWER_WITHIN)
    try:
        connection.sock.connect(str(target.engine.socket))
        headers = {"Content-Type": kind} if kind else {}
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, b"" if answer.status == 101 else answer.read(65536)
    except TimeoutError:
        if endless:
            return 0, b""
        raise
    finally:
        connection.close()


def footprint(engine: Engine) -> tuple[int, int]:
    """Return the daemon's descriptors, and its memory in bytes."""
    proc = Path(f"/proc/{engine.pid}")
    pages = int((proc / "statm").read_text().split()[1])
    return len(list((proc / "fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")


def ask(target: Target, case: Any, chance: random.Random, wrong: list[str]) -> None:
    """Send what was generated, with real names in half of the cases; note what must not be."""
    path = case.operation.path
    for name, value in (case.path_parameters or {}).items():
        real = chance.random() < 0.5
        text = target.name(path) if real else unquote(str(value))
        path = path.replace(f"{{{name}}}", quote(text, safe="/" if real else ""))
    query = {key: value for key, value in (case.query or {}).items() if value is not None}
    if "t" in query:
        # A stop that waits for as long as it was told to is right (for ever, if negative), and nothing that
        # can be waited for: a container with a thousandth of a processor takes its time.
        query["t"] = chance.choice(["0", "1", "x", str(query["t"])[:0]])
    path = f"/v1.51{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
    body, kind = case.body, case.media_type or ""
    if isinstance(body, bytes):
        data = body
    elif isinstance(body, dict | list | str | int | float | bool) or body is None:
        cleaned = harmless(body)
        if isinstance(cleaned, dict) and case.operation.path == "/containers/create":
            cleaned["Image"] = target.image
        data = json.dumps(cleaned).encode("utf-8", "surrogatepass")
    else:
        data = b""
    method = case.operation.method.upper()
    try:
        status, said = send(target, method, path, data, kind)
    except (OSError, http.client.HTTPException) as error:
        wrong.append(f"{method} {path} {data[:300]!r}: {error!r}")
        return
    if status >= 500 and status not in FINE:
        wrong.append(f"{method} {path} {data[:300]!r}: {status} {said[:300]!r}")


@pytest.fixture
def target(new_engine: Any, docker_for: Any, wherry_for: Any) -> Iterator[Target]:
    engine = new_engine()
    yield Target(engine, docker_for(engine), wherry_for(engine), "busybox")


@pytest.mark.timeout(SECONDS + 120)
def test_no_request_breaks_it(target: Target) -> None:
    path = find_file()
    if path is None:
        pytest.skip("the OpenAPI file is not here: WHERRY_API_SPEC=FILE names it")
    operations = [found.ok() for found in schemathesis.openapi.from_path(path).get_all_operations()]
    chosen = os.environ.get("WHERRY_FUZZ_SEED", "20250101")
    number = first = random.randrange(1 << 30) if chosen == "random" else int(chosen)
    chance = random.Random(number)
    wrong: list[str] = []
    asked = 0
    until = time.monotonic() + SECONDS
    before = None
    while time.monotonic() < until:
        chance.shuffle(operations)
        for operation in operations:
            number += 1

            @seed(number)
            @settings(
                max_examples=ROUND, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
            )  # fmt: skip
            @given(case=operation.as_strategy())
            def some(case: Any) -> None:
                nonlocal asked
                asked += 1
                ask(target, case, chance, wrong)

            some()
            if time.monotonic() > until:
                break
        target.renew()
        # What the first round fills stays: pools, modules, caches.
        before = before or footprint(target.engine)
    assert before is not None
    assert not wrong, f"of {asked} requests (seed {first}):\n" + "\n".join(sorted(set(wrong)))
    deadline = time.monotonic() + 30
    while footprint(target.engine)[0] > before[0] + 8 and time.monotonic() < deadline:
        time.sleep(0.2)
    after = footprint(target.engine)
    print(
        f"{asked} requests of {len(operations)} operations, seed {first}:"
        f" descriptors {before[0]}, then {after[0]}; {before[1] >> 20} MiB, then {after[1] >> 20} MiB"
    )
    assert after[0] <= before[0] + 8, f"descriptors: {before[0]}, then {after[0]}"
    assert after[1] <= before[1] + GROWTH, f"memory: {before[1]}, then {after[1]}"
    assert "Traceback" not in target.engine.log.read_text(errors="replace")
