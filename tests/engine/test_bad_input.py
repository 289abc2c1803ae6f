"""What no good client sends: the answer is right, the message clear, and the daemon unharmed."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.boxes import Boxes, eventually, running
from tests.engine.raw import Api
from tests.engine.tars import file, tar_of
from tests.harness.clients import Client


@pytest.fixture(autouse=True)
def unharmed(api: Api) -> Iterator[None]:
    """Whatever a test did: the engine answers afterwards."""
    yield
    assert api("GET", "/_ping", version="").body == b"OK"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b'{"Image": 1}', b'{"Image": "x", "Cmd": {"a": 1}}',
     b'{"Image":"x","Env":"A=1"}', b'{"Image":"x","HostConfig":[]}', b"\xff\xfe", b'{"Image":"x"} {',
     b'{"Image":"x","HostConfig":{"Memory":"lots"}}', b"[" * 100_000],
)  # fmt: skip
def test_create_with_a_bad_body(api: Api, body: bytes) -> None:
    answer = api("POST", "/containers/create", body)
    assert answer.status in (400, 404, 500)
    assert answer.message


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"Image": ""}, 400),
        ({"Image": "no-such-image-x"}, 404),
        ({"Image": "UPPER"}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"CapAdd": ["nonsense"]}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"Binds": ["/a:relative"]}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"NetworkMode": "container:"}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"Memory": 1000}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"RestartPolicy": {"Name": "x"}}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"IpcMode": "nonsense"}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"Runtime": "nonsense"}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"Isolation": "nonsense"}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "HostConfig": {"OomScoreAdj": 5000}}, 400),
        ({"Image": "{}", "Cmd": ["x"], "StopSignal": "nonsense"}, 400),
        ({"Image": "{}", "Cmd": ["x"], "WorkingDir": "relative"}, 400),
        ({"Image": "{}", "Cmd": ["x"], "Env": ["=x"]}, 400),
    ],
)
def test_create_refused(
    api: Api, busybox: str, boxes: Boxes, body: dict[str, object], status: int
) -> None:
    image = str(body["Image"]).replace("{}", busybox)
    answer = api("POST", "/containers/create", body | {"Image": image}, name=boxes.name())
    assert answer.status in (status, 500), answer.body  # Docker says 500 of a bad bind
    assert answer.message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nosuch"),
        ("GET", "/containers/x/nosuch"),
        ("POST", "/containers/json"),
        ("DELETE", "/version"),
        ("GET", "/containers/no-such-box/json"),
        ("POST", "/containers/no-such-box/start"),
        ("GET", "/images/no-such-image/json"),
        ("GET", "/containers/..%2fetc/json"),
    ],
)
def test_not_there(api: Api, method: str, path: str) -> None:
    assert api(method, path).status in (404, 405)


def test_load_of_nothing(api: Api) -> None:
    answer = api("POST", "/images/load")
    assert answer.status >= 400 or b'"error"' in answer.body


@pytest.mark.parametrize("version", ["v1.23", "v1.99", "v0.1", "v2.0"])
def test_versions_refused(api: Api, version: str) -> None:
    answer = api("GET", "/version", version=version)
    assert answer.status == 400
    assert b"version" in answer.body


@pytest.mark.parametrize("version", ["v1.24", "v1.30", "v1.40", "v1.47", "v1.51", ""])
def test_versions_answered(api: Api, version: str) -> None:
    assert api("GET", "/containers/json", version=version).status == 200


@pytest.mark.parametrize(
    "query",
    [{"filters": "{"}, {"filters": "[]"}, {"filters": '{"nonsense":["x"]}'}, {"limit": "x"}],
)
def test_queries_refused(api: Api, query: dict[str, Any]) -> None:
    answer = api("GET", "/containers/json", **query)
    assert answer.status in (400, 500) or (query == {"limit": "x"} and answer.status == 200)


def send(api: Api, data: bytes, seconds: float = 10) -> bytes:
    """Send bytes; return what comes back until the engine hangs up or is silent."""
    with api.connect(seconds) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
                if b"\r\n\r\n" in answer and b"close" in answer.lower():
                    break
        return answer


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0",
        b"GET /_ping HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1.47/containers/create HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /_ping HTTP/1.1\r\n : x\r\n\r\n",
    ],
)
def test_not_http(api: Api, data: bytes) -> None:
    answer = send(api, data, 3)
    assert answer == b"" or b" 400 " in answer or b" 505 " in answer or b" 411 " in answer, answer


def test_endless_header(api: Api) -> None:
    """A gigabyte of header is cut off early, not collected."""
    sent = 0
    with api.connect() as connection:
        connection.sendall(b"GET /_ping HTTP/1.1\r\nX: ")
        try:
            while sent < 1 << 30:
                sent += connection.send(b"x" * (1 << 20))
        except OSError:
            pass
    assert sent < 128 << 20


def test_endless_header_lines(api: Api) -> None:
    sent = 0
    with api.connect() as connection:
        connection.sendall(b"GET /_ping HTTP/1.1\r\n")
        try:
            while sent < 1 << 28:
                sent += connection.send(b"X-Name: value\r\n" * 10_000)
        except OSError:
            pass
    assert sent < 128 << 20


def test_long_path(api: Api) -> None:
    answer = send(api, b"GET /" + b"a" * (4 << 20) + b" HTTP/1.1\r\nHost: e\r\n\r\n", 5)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 431"))


def test_huge_body_declared(api: Api) -> None:
    head = (
        b"POST /v1.47/containers/create HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\n"
    )
    answer = send(api, head + b"Content-Length: 99999999999\r\n\r\n{}", 1)
    assert answer == b"" or b" 4" in answer[:16]


def test_huge_json_body(api: Api) -> None:
    answer = api(
        "POST", "/containers/create", b'{"Image":"' + b"x" * (24 << 20) + b'"}', timeout=30
    )
    assert answer.status in (400, 404, 413, 500)


def test_unfinished_requests(api: Api) -> None:
    """Two hundred connections that say half a line hold nobody up."""
    held = [api.connect() for _ in range(200)]
    try:
        for connection in held:
            connection.sendall(b"GET /_pi")
        assert api("GET", "/_ping", version="").status == 200
    finally:
        for connection in held:
            connection.close()


def test_pipelined_requests(api: Api) -> None:
    one = b"GET /_ping HTTP/1.1\r\nHost: e\r\n\r\n"
    last = b"GET /_ping HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n"
    with api.connect() as connection:
        connection.sendall(one * 5 + last)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 OK") == 6


# Clients that leave, or lag


def test_gone_during_attach(api: Api, boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("while :; do echo line; sleep 0.01; done")
    for _ in range(5):
        with api.upgrade(f"/containers/{name}/attach?stream=1&stdout=1&stderr=1") as connection:
            assert connection.recv(100)
    assert docker.line("inspect", "-f", "{{.State.Running}}", name) == "true"


def test_gone_during_logs(api: Api, boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("while :; do echo line; done")
    for _ in range(5):
        with api.connect() as connection:
            connection.sendall(
                f"GET /v1.47/containers/{name}/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: e\r\n\r\n".encode()
            )
            assert connection.recv(100)
    docker("kill", name)


def test_gone_during_exec(api: Api, boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    made = api(
        "POST",
        f"/containers/{name}/exec",
        {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True},
    )
    with api.upgrade(f"/exec/{made.json()['Id']}/start", {"Detach": False}) as connection:
        connection.sendall(b"hello\n")
        assert b"hello" in connection.recv(100)
    # Its input ended with the connection, so cat ends.
    eventually(lambda: "cat" not in docker.line("top", name, "-o", "pid,args"))


def test_gone_during_wait(api: Api, boxes: Boxes) -> None:
    name = boxes.sleeper()
    for _ in range(10):
        with api.connect() as connection:
            connection.sendall(
                f"POST /v1.47/containers/{name}/wait HTTP/1.1\r\nHost: e\r\n\r\n".encode()
            )
            assert connection.recv(100)  # the head comes before the end


@pytest.mark.parametrize(
    "path",
    ["/images/load", "/images/create?fromSrc=-&repo=wt-gone", "/containers/{}/archive?path=/"],
)
def test_gone_during_an_upload(api: Api, boxes: Boxes, path: str) -> None:
    name = boxes.sleeper()
    method = "PUT" if "archive" in path else "POST"
    with api.connect() as connection:
        connection.sendall(
            f"{method} /v1.47{path.format(name)} HTTP/1.1\r\nHost: e\r\nContent-Type: application/x-tar\r\n"
            "Content-Length: 100000000\r\n\r\n".encode()
            + tar_of([file("f", b"x" * 100_000)])[:50_000]
        )
    assert api("GET", "/images/wt-gone/json").status == 404


def test_gone_during_save_and_export(api: Api, boxes: Boxes) -> None:
    name = boxes.sleeper()
    for path in (f"/containers/{name}/export", f"/images/{boxes.image}/get"):
        with api.connect() as connection:
            connection.sendall(f"GET /v1.47{path} HTTP/1.1\r\nHost: e\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_reader_that_does_not_read(api: Api, boxes: Boxes, docker: Client, is_wherry: bool) -> None:
    """An attached client that reads nothing stops neither the container nor another client."""
    if not is_wherry:
        pytest.skip("Docker lets such a client stop the container")
    name = boxes.create(boxes.image, "sh", "-c", "seq 500000; echo end")
    with api.upgrade(f"/containers/{name}/attach?stream=1&stdout=1&stderr=1"):
        docker("start", name)
        assert docker.line("wait", name, timeout=30) == "0"
        assert docker.line("logs", "--tail", "1", name) == "end"


def test_slow_sender(api: Api) -> None:
    with api.connect() as connection:
        for byte in b"GET /_ping HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n":
            connection.sendall(bytes([byte]))
        connection.settimeout(30)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_expect_continue(api: Api, busybox: str) -> None:
    body = json.dumps({"Image": "no-such-image-x"}).encode()
    with api.connect() as connection:
        connection.sendall(
            b"POST /v1.47/containers/create HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        first = connection.recv(1000)
        assert first.startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        answer = first.partition(b"\r\n\r\n")[2]
        while piece := connection.recv(1000):
            answer += piece
        assert b" 404 " in answer


# Contradictions


@pytest.mark.parametrize("count", [1, 3])
def test_contradictory_requests(
    api: Api, boxes: Boxes, docker: Client, is_wherry: bool, count: int
) -> None:
    """Sixteen threads start, stop, kill, pause, update, rename and remove: all ends in a legal state.

    A container that was removed is made again, so that there is one most of the time.
    """
    names = [boxes.name() for _ in range(count)]
    seconds = f"{random.SystemRandom().randrange(10**6, 10**9)}"
    body = {"Image": boxes.image, "Cmd": ["sleep", seconds], "HostConfig": {"NetworkMode": "none"}}
    began = time.time()
    verbs: list[tuple[str, dict[str, Any]]] = [
        ("start", {}), ("stop", {"t": 0}), ("kill", {}), ("pause", {}), ("unpause", {}),
        ("restart", {"t": 0}), ("start", {}), ("resize", {"h": 1, "w": 1}), ("rename", {}),
        ("update", {}), ("rm", {"force": 1}), ("rm", {}), ("create", {}), ("create", {}),
    ]  # fmt: skip
    statuses: list[tuple[str, int]] = []
    until = time.monotonic() + 2.0

    def work(seed: int) -> None:
        chosen = random.Random(seed)
        while time.monotonic() < until:
            verb, query = chosen.choice(verbs)
            path = f"/containers/{chosen.choice(names)}"
            match verb:
                case "create":
                    made = api("POST", "/containers/create", body, name=chosen.choice(names))
                    statuses.append((verb, made.status))
                    continue
                case "rm":
                    answer = api("DELETE", path, timeout=60, **query)
                case "rename":
                    answer = api("POST", f"{path}/rename", name=chosen.choice(names))
                case "update":
                    limits = {"Memory": chosen.choice([32, 64]) << 20, "MemorySwap": -1}
                    answer = api("POST", f"{path}/update", limits)
                case _:
                    answer = api("POST", f"{path}/{verb}", timeout=60, **query)
            statuses.append((verb, answer.status))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive()
    wrong = {(verb, status) for verb, status in statuses if status >= 500}
    allowed = set() if is_wherry else {"resize", "restart", "pause", "unpause", "stop"}
    assert {verb for verb, _ in wrong} <= allowed, wrong
    happened = {(verb, status) for verb, status in statuses if status < 300}
    # Of one name alone there is no other.
    done = {"start", "rm", "create", "update"} | ({"rename"} if count > 1 else set())
    assert done <= {verb for verb, _ in happened}
    if is_wherry:  # Docker's are told late, in no order
        check_lives(api, began)
    # Whatever is left is in a state that it can be brought out of, and then gone without a trace.
    for name in names:
        if api("GET", f"/containers/{name}/json").status == 404:
            assert api("POST", "/containers/create", body, name=name).status == 201
        if docker.line("inspect", "-f", "{{.State.Paused}}", name) == "true":
            docker("unpause", name)
        docker("stop", "-t", "0", name)
        docker("start", name)
        state = json.loads(docker.line("inspect", "-f", "{{json .State}}", name))
        assert (state["Status"], state["Running"], state["Pid"] > 0) == ("running", True, True)
        assert docker.line("exec", name, "echo", "alive") == "alive"
        docker("rm", "-f", name)
        assert api("GET", f"/containers/{name}/json").status == 404
    # No process is left that no container accounts for.
    eventually(lambda: not running(f"sleep\0{seconds}"))


NEXT = {
    "": ("create",), "create": ("start", "destroy"), "start": ("die", "pause"), "pause": ("unpause", "die"),
    "unpause": ("die", "pause"), "die": ("start", "destroy"), "destroy": (),
}  # fmt: skip
"""What may happen to a container after what."""


def check_lives(api: Api, began: float) -> None:
    """AssertionError where what is told of a container since then is not a life that one can have."""
    answer = api("GET", "/events", since=began, until=time.time(), filters='{"type":["container"]}')
    lives: dict[str, list[str]] = {}
    for line in answer.body.splitlines():
        event = json.loads(line)
        if event["Action"] in NEXT:
            lives.setdefault(event["Actor"]["ID"], [""]).append(event["Action"])
    for life in lives.values():
        for before, after in itertools.pairwise(life):
            assert after in NEXT[before], life


def test_one_name_for_many(api: Api, boxes: Boxes) -> None:
    name = boxes.name()
    body = {"Image": boxes.image, "Cmd": ["true"]}
    made: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(api("POST", "/containers/create", body, name=name).status)
        )
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(made) == [201] + [409] * 9


def test_removed_by_many(api: Api, boxes: Boxes) -> None:
    name = boxes.sleeper()
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(api("DELETE", f"/containers/{name}", force=1).status)
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 204 in statuses
    assert set(statuses) <= {204, 404, 409}
    assert api("GET", f"/containers/{name}/json").status == 404


def test_removed_while_waited_for_and_attached(api: Api, boxes: Boxes) -> None:
    name = boxes.sleeper()
    codes: list[object] = []
    waiting = threading.Thread(
        target=lambda: codes.append(
            api("POST", f"/containers/{name}/wait", condition="removed").json()["StatusCode"]
        )
    )
    with api.upgrade(f"/containers/{name}/attach?stream=1&stdout=1") as connection:
        waiting.start()
        time.sleep(0.1)
        assert api("DELETE", f"/containers/{name}", force=1).status == 204
        connection.settimeout(20)
        while connection.recv(1000):
            pass
    waiting.join(30)
    assert codes == [137]


def test_hijack_with_bytes_in_the_same_packet(api: Api, boxes: Boxes, is_wherry: bool) -> None:
    """Input that comes together with the request's head belongs to the process."""
    if not is_wherry:
        pytest.skip("Docker loses them")
    name = boxes.create("-i", boxes.image, "cat")
    with api.connect() as connection:
        connection.sendall(
            f"POST /v1.47/containers/{name}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: e\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nearly\n".encode()
        )
        assert api("POST", f"/containers/{name}/start").status == 204
        data = b""
        while not data.endswith(b"early\n"):
            piece = connection.recv(1000)
            assert piece, data
            data += piece
        connection.shutdown(socket.SHUT_WR)
