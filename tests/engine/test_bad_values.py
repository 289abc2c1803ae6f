"""Hostile values in the path, the query and the body of every route: an answer each time, and never a defect."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.engine.raw import Api
from tests.engine.tars import busybox_tar
from tests.harness.clients import Client
from tests.harness.engine import Engine

OPERATIONS = Path(__file__).parents[1] / "contract" / "operations.txt"
LONG = "a" * 7000
VALUES = (
    "%00",
    "a%00b",
    "%ED%A0%80",  # a lone surrogate, as UTF-8 has none
    "%FF%FE",
    "-1",
    "9" * 400,
    "1e999",
    "..%2F..%2Fetc",
    "%0D%0AX-Y:%20z",
    LONG,
    "{{.}}",
    "",
)
QUERIES = (
    "all=%00&limit={v}&size={v}&filters={v}&since={v}&until={v}&tail={v}&t={v}&signal={v}&stdout=1",
    "path={v}&name={v}&repo={v}&tag={v}&fromImage={v}&fromSrc={v}&container={v}&condition={v}&term={v}",
    "h={v}&w={v}&force={v}&v={v}&link={v}&ps_args={v}&platform={v}&names={v}&changes={v}&type={v}",
    "filters=%7B%22label%22%3A%5B%22{v}%22%5D%2C%22until%22%3A%5B%22{v}%22%5D%7D&until=1",
)
NAMES = (
    *("Image", "Cmd", "Env", "Name", "Container", "Driver", "DriverOpts", "Labels", "HostConfig"),
    *("Memory", "NanoCpus", "RestartPolicy", "NetworkingConfig", "IPAM", "ExposedPorts", "User"),
    *("Healthcheck", "StopTimeout", "ConsoleSize", "Options", "username", "serveraddress"),
)
GOOD = {"containers": "box", "images": "bb:1", "volumes": "vol0", "networks": "net0"}
DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000


def bodies() -> Iterator[bytes]:
    """JSON that is well-formed and means nothing good."""
    for value in ('"\\u0000"', '"\\ud800"', "-1", "9" * 400, "1e999", "[[[]]]", '{"":{"":null}}'):
        yield ("{" + ",".join(f'"{name}":{value}' for name in NAMES) + "}").encode()
    yield json.dumps(dict.fromkeys(NAMES, LONG)).encode()
    yield b'{"Image":"a","Image":1,"image":null,"Name":"x","Name":"y"}'
    yield DEEP
    yield b'{"HostConfig":' + b"[" * 5000 + b"]" * 5000 + b"}"
    yield b'\xff{"Image":"\xed\xa0\x80"}'


def operations() -> list[tuple[str, str]]:
    """Method and pattern of every documented route."""
    lines = (line.split() for line in OPERATIONS.read_text().splitlines())
    return [(line[0], line[1]) for line in lines if len(line) == 2]


def status(api: Api, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request as it stands; 0 where the engine sends a stream that does not end."""
    with api.connect(10) as connection:
        length = f"Content-Type: application/json\r\nContent-Length: {len(body or b'')}\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n{length}\r\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head.encode() + (body or b""))
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        if answer.status < 400:
            return answer.status, b""
        return answer.status, answer.read(4096)


def requests() -> Iterator[tuple[str, str, bytes | None]]:
    """Every route with hostile names, then with a good one and hostile queries and bodies; removals last."""
    for method, pattern in sorted(operations(), key=lambda one: "DELETE" in one[0]):
        path = f"/v1.51{pattern}"
        good = re.sub(r"\{\w+\}", GOOD.get(pattern.split("/")[1], "nobody"), path)
        for value in VALUES:
            if "{" in path:
                yield method, re.sub(r"\{\w+\}", value, path), None
        for number, value in enumerate(VALUES):
            query = QUERIES[number % len(QUERIES)].replace("{v}", value)
            yield method, f"{good}?{query}&{query.split('&', 1)[0]}", None
        if method in ("POST", "PUT"):
            for body in bodies():
                yield method, good, body


def test_every_route_answers_hostile_values(
    nothing_left: None, docker_for: Callable[[Engine], Client]
) -> None:
    wrong: list[object] = []
    with Engine() as engine:
        api, docker = Api(str(engine.socket)), docker_for(engine)
        docker.raw("import", "-c", "CMD sh", "-", "bb:1", stdin=busybox_tar())
        docker("network", "create", "net0")
        docker("volume", "create", "vol0")
        # It ends at once, so that nobody waits for it.
        docker("create", "--name", "box", "--network", "none", "-v", "vol0:/v", "bb:1", "true")
        for method, target, body in requests():
            try:
                found, said = status(api, method, target, body)
            except (OSError, http.client.HTTPException) as error:
                wrong.append((method, target[:200], (body or b"")[:80], repr(error)))
                continue
            # 501 and 503 are what is not there, and swarm's; 500 is Docker's own for many a mistake.
            defect = b"internal error of wherry" in said
            if found >= 500 and (found not in (500, 501, 503) or defect):
                wrong.append((method, target[:200], (body or b"")[:80], found, said[:300]))
        assert not wrong, "\n".join(map(str, wrong[:30]))
        assert engine.answers()
        assert "Traceback" not in engine.log.read_text(errors="replace")
