"""The HTTP client against a real socket: framings, reuse, upgrades, refusals, broken peers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.fake_engine import Answer, FakeEngine
from wherry.client.address import parse_address
from wherry.client.engine import Engine, segment
from wherry.client.faults import KIND_OF_STATUS, Unreachable, fault_of
from wherry.model import errors


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path / "s") as engine:
        yield engine


@pytest.fixture
def engine(fake: FakeEngine) -> Engine:
    return Engine(parse_address(fake.url))


def test_json_there_and_back(fake: FakeEngine, engine: Engine) -> None:
    fake.route("POST", "/x", lambda request: Answer.of({"got": request.json, **request.query}))
    answer = engine.call("POST", "/x", {"q": "a b&c=é"}, {"n": [1, "é"]})
    assert answer == {"got": {"n": [1, "é"]}, "q": "a b&c=é"}
    assert fake.requests[0].headers["content-type"] == "application/json"


def test_one_connection_serves_requests_in_turn(fake: FakeEngine, engine: Engine) -> None:
    fake.route("GET", "/a", Answer.of(1))
    fake.route("GET", "/c", Answer(200, chunks=(b"[", b"2", b"]")))
    fake.route("DELETE", "/d", Answer(204))
    for _ in range(3):
        assert engine.get("/a") == 1
        assert engine.get("/c") == [2]
        assert engine.call("DELETE", "/d") is None
        assert engine.ping()["api-version"] == "1.51"
    assert fake.connections == 1


def test_an_unread_answer_gets_a_connection_of_its_own(fake: FakeEngine, engine: Engine) -> None:
    fake.route("GET", "/long", Answer(200, chunks=(b"a", b"b")))
    fake.route("GET", "/a", Answer.of(1))
    response = engine.open("GET", "/long")
    assert engine.get("/a") == 1
    assert response.read() == b"ab"
    assert fake.connections == 2


def test_a_connection_closed_meanwhile_is_made_again(fake: FakeEngine, engine: Engine) -> None:
    fake.route("GET", "/a", Answer.of(1))
    assert engine.get("/a") == 1
    fake.drop_connections()
    assert engine.get("/a") == 1


def test_close_delimited_bodies(fake: FakeEngine, engine: Engine) -> None:
    fake.route("GET", "/a", Answer(200, b"1", {"Connection": "close"}))
    assert engine.get("/a") == 1
    assert engine.get("/a") == 1
    assert fake.connections == 2


def test_lines_across_chunks(fake: FakeEngine, engine: Engine) -> None:
    fake.route("GET", "/e", Answer(200, chunks=(b'{"a":', b'1}\r\n{"a":2}', b"\n", b'{"a":3}')))
    assert [event["a"] for event in engine.events("GET", "/e")] == [1, 2, 3]


def test_streamed_body_goes_out_chunked(fake: FakeEngine, engine: Engine) -> None:
    fake.route("PUT", "/x", Answer(200))
    engine.open("PUT", "/x", None, iter([b"one", b"", b"two" * 100_000])).read()
    assert fake.requests[0].body == b"one" + b"two" * 100_000
    assert fake.requests[0].headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 406, 409, 413, 418, 500, 501, 503, 507]
)
def test_refusals_are_kinds_with_the_engines_message(
    fake: FakeEngine, engine: Engine, status: int
) -> None:
    fake.route("GET", "/x", Answer.of({"message": "No such container: web"}, status))
    with pytest.raises(errors.WherryError) as caught:
        engine.get("/x")
    assert caught.value.message == "No such container: web"
    assert str(caught.value) == "No such container: web"
    expected = KIND_OF_STATUS.get(status, errors.Invalid)
    assert isinstance(caught.value, expected)
    assert any(issubclass(expected, kind) for kind in errors.KINDS)


def test_a_refusal_without_json_still_says_something() -> None:
    with pytest.raises(errors.Internal, match="boom"):
        raise fault_of(599, "boom")


def test_plain_text_refusal(fake: FakeEngine, engine: Engine) -> None:
    fake.route("GET", "/x", Answer(500, b"plain words\n"))
    with pytest.raises(errors.Internal, match="^plain words$"):
        engine.get("/x")
    fake.route("GET", "/y", Answer(500))
    with pytest.raises(errors.Internal, match="500"):
        engine.get("/y")


def test_upgrade_and_half_close(fake: FakeEngine, engine: Engine) -> None:
    fake.route("POST", "/attach", Answer(raw=b"hello"))
    sock, rest, _ = engine.hijack("/attach", {"stream": "1"})
    data = rest
    while piece := sock.recv(100):
        data += piece
    assert data == b"hello"
    sock.sendall(b"typed")
    sock.shutdown(socket.SHUT_WR)
    fake.wait_for_upgrades(1)
    assert fake.upgraded == [b"typed"]
    sock.close()


def test_upgrade_refused(fake: FakeEngine, engine: Engine) -> None:
    fake.route("POST", "/attach", Answer.of({"message": "No such container: x"}, 404))
    with pytest.raises(errors.NotFound, match="No such container: x"):
        engine.hijack("/attach")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="Cannot connect") as caught:
        Engine(parse_address(f"unix://{tmp_path}/nothing")).get("/x")
    assert caught.value.refused
    assert isinstance(caught.value, errors.Unavailable)


def test_on_refused_is_asked_once(tmp_path: Path) -> None:
    calls: list[int] = []
    address = parse_address(f"unix://{tmp_path}/nothing")
    engine = Engine(address, on_refused=lambda: calls.append(1))
    for _ in range(2):
        with pytest.raises(Unreachable):
            engine.get("/x")
    assert calls == [1]


def serve_raw(path: Path, answer: bytes) -> threading.Thread:
    """Answer one request on a fresh socket with exactly these bytes, then close."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            # Who has read enough of a wrong answer may be gone before its end.
            with connection, suppress(BrokenPipeError, ConnectionResetError):
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123", Unreachable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", Unreachable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", Unreachable),
        (b"SSH-2.0-hello\r\n\r\n", errors.Internal),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", errors.Internal),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", errors.Internal),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{", errors.Internal),
        (b"x" * 600_000, errors.Internal),
    ],
)
def test_a_broken_peer_is_an_error_of_ours(
    tmp_path: Path, answer: bytes, kind: type[Exception]
) -> None:
    thread = serve_raw(tmp_path / "raw", answer)
    with pytest.raises(kind):
        Engine(parse_address(f"unix://{tmp_path}/raw")).get("/x")
    thread.join(30)


def test_informational_answers_are_passed_over(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7"
    thread = serve_raw(tmp_path / "raw", answer)
    assert Engine(parse_address(f"unix://{tmp_path}/raw")).get("/x") == 7
    thread.join(30)


def test_tcp() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert Engine(parse_address(f"tcp://127.0.0.1:{port}")).get("/x") == 1
    thread.join(30)
    listener.close()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("web", "web"),
        ("a/b:c", "a/b:c"),
        ("a?b#c d", "a%3Fb%23c%20d"),
        ("x@sha256:1", "x@sha256:1"),
    ],
)
def test_segment(text: str, path: str) -> None:
    assert segment(text) == path
