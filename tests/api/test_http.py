"""The server under clients of every kind: polite, pipelining, slow, half-closed, broken, hostile."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import wherry.http.connection as connection_module
from tests.api.serving import Api, Raw
from wherry.api.messages import HIJACKED, Hijacked, Request, Response
from wherry.api.router import Route, Router
from wherry.api.server import Server
from wherry.http.framing import Chunked
from wherry.model.errors import Invalid

PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def test_ping_has_what_clients_negotiate_by(api: Api) -> None:
    for method in ("GET", "HEAD"):
        reply = api.ask(method, "/_ping")
        assert reply.status == 200
        assert reply.body == (b"OK" if method == "GET" else b"")
        assert reply.headers["api-version"] == "1.51"
        assert reply.headers["docker-experimental"] == "false"
        assert reply.headers["ostype"] == "linux"
        assert reply.headers["builder-version"] == "1"
        assert reply.headers["server"].startswith("Wherry/")
        assert "date" in reply.headers


def test_a_connection_serves_many_requests(api: Api) -> None:
    with api.connect() as raw:
        for _ in range(3):
            assert raw.ask("GET", "/v1.41/_ping").body == b"OK"
        assert raw.ask("GET", "/nosuch").status == 404
        assert raw.ask("GET", "/_ping").status == 200


def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    with api.connect() as raw:
        raw.send(PING + b"GET /version HTTP/1.1\r\n\r\n" + PING * 500)
        assert raw.reply().body == b"OK"
        assert raw.reply().json["ApiVersion"] == "1.51"
        for _ in range(500):
            assert raw.reply().body == b"OK"


def test_a_request_may_come_byte_by_byte(api: Api) -> None:
    with api.connect() as raw:
        for byte in b"POST /commit?container=x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}":
            raw.send(bytes((byte,)))
        assert raw.reply().status == 400  # no content type


@pytest.mark.parametrize("last", [b"Connection: close\r\n", None])
def test_the_connection_closes_when_asked(api: Api, last: bytes | None) -> None:
    with api.connect() as raw:
        version = b"1.1" if last else b"1.0"
        raw.send(b"GET /_ping HTTP/" + version + b"\r\n" + (last or b"") + b"\r\n")
        status, headers = raw.head()
        assert status == 200 and headers["connection"] == "close"
        assert raw.rest() == b"OK"


def test_a_client_of_http_1_0_gets_streams_without_chunks(api: Api) -> None:
    container = api.made()
    with api.connect() as raw:
        raw.send(f"GET /containers/{container}/export HTTP/1.0\r\n\r\n".encode())
        _, headers = raw.head()
        assert "transfer-encoding" not in headers
        assert raw.rest() == b"x" * 5_000_000


def test_half_closed_clients_get_their_answer(api: Api) -> None:
    with api.connect() as raw:
        raw.send(PING)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.reply().body == b"OK"
        assert raw.rest() == b""


def test_chunked_bodies_and_continue(api: Api) -> None:
    container = api.made()
    with api.connect() as raw:
        raw.send(
            f"PUT /containers/{container}/archive?path=/ HTTP/1.1\r\nHost: x\r\n"
            "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert raw.head()[0] == 100
        raw.send(b"5;ext=1\r\nhello\r\n")
        raw.send(b"1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n" + PING)
        assert raw.reply().status == 200
        assert api.containers.written == b"hello world"
        assert raw.reply().body == b"OK"


def test_no_continue_is_sent_when_the_request_is_refused_first(api: Api) -> None:
    with api.connect() as raw:
        raw.send(
            b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        )
        assert raw.reply().status == 413
        assert raw.rest() == b""


def test_a_large_body_flows_with_back_pressure(api: Api) -> None:
    size = 20 << 20
    piece = b"z" * (1 << 20)
    with api.connect() as raw:
        raw.send(f"POST /images/load HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // len(piece)):
            raw.send(piece)
        reply = raw.reply()
        assert reply.status == 200 and b"Loaded image" in reply.body
        assert api.images.loaded == size


def test_json_bodies_have_a_limit(api: Api) -> None:
    with api.connect() as raw:
        raw.send(
            b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        for _ in range(5):
            raw.send(chunk)
        assert raw.reply().status == 413


def test_an_answer_reaches_a_client_that_is_still_sending(api: Api) -> None:
    api.images.broken = Invalid("not an archive")
    with api.connect() as raw:
        size = 8 << 20
        raw.send(f"POST /images/load HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode())
        raw.send(b"z" * size)
        reply = raw.reply()
        assert reply.status == 400 and reply.message == "not an archive"
        assert raw.rest() == b""


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32, 96)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\x00" * 100,
        b"POST /commit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_gets_400_and_the_door(api: Api, junk: bytes) -> None:
    with api.connect() as raw:
        raw.send(junk)
        reply = raw.reply()
        assert reply.status == 400, reply
        assert reply.message
        assert raw.rest() == b""
    assert api.ask("GET", "/_ping").status == 200


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\n"])
def test_a_giant_head_is_refused_before_it_is_kept(api: Api, start: bytes) -> None:
    with api.connect() as raw:
        raw.send(start)
        line = b"a" * 4096 if not start.endswith(b"1.1\r\n") else b"A: b\r\n" * 700
        sent = 0
        try:
            while sent < 64 << 20:
                raw.send(line)
                sent += len(line)
        except OSError:
            pass  # the server closed while we went on
        assert raw.reply().status == 431
    assert api.ask("GET", "/_ping").status == 200


def test_a_slow_head_is_timed_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.2)
    with api.connect() as raw:
        raw.send(b"GET /_ping HTTP/1.1\r\n")
        assert raw.reply().status == 408
        assert raw.rest() == b""


@pytest.mark.parametrize("what", ["wait", "logs"])
def test_a_client_that_disappears_cancels_the_handler(api: Api, what: str) -> None:
    container = api.made("sleep")
    api.ask("POST", f"/containers/{container}/start")
    with api.connect() as raw:
        target = {
            "wait": f"POST /containers/{container}/wait",
            "logs": f"GET /containers/{container}/logs?stdout=1&follow=1",
        }[what]
        raw.send(f"{target} HTTP/1.1\r\n\r\n".encode())
        assert raw.head()[0] == 200
    until(lambda: api.containers.cancelled == 1)
    until(lambda: api.server.connections == 0)


def test_a_client_that_disappears_within_a_body_cancels_the_handler(api: Api) -> None:
    container = api.made()
    with api.connect() as raw:
        raw.send(
            f"PUT /containers/{container}/archive?path=/ HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc".encode()
        )
        until(lambda: any(call[0] == "write_archive" for call in api.containers.calls))
    until(lambda: api.containers.cancelled == 1)
    assert api.containers.written == b""


def test_a_half_closed_client_that_goes_later_is_noticed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "GONE_SECONDS", 0.05)
    container = api.made("sleep")
    api.ask("POST", f"/containers/{container}/start")
    with api.connect() as raw:
        raw.send(f"POST /containers/{container}/wait HTTP/1.1\r\n\r\n".encode())
        raw.head()
        raw.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        assert api.containers.cancelled == 0
    until(lambda: api.containers.cancelled == 1)


def test_wait_sends_its_head_first(api: Api) -> None:
    container = api.made("sleep")
    api.ask("POST", f"/containers/{container}/start")
    with api.connect() as raw:
        raw.send(
            f"POST /v1.50/containers/{container}/wait?condition=removed HTTP/1.1\r\n\r\n".encode()
        )
        assert raw.head()[0] == 200
        api.ask("DELETE", f"/containers/{container}?force=1")
        assert raw.chunk() == b'{"StatusCode":0}\n'
        assert raw.chunk() == b""


def test_a_slow_reader_does_not_make_the_server_buffer(api: Api) -> None:
    container = api.made()
    with api.connect() as raw:
        raw.send(f"GET /containers/{container}/export HTTP/1.1\r\n\r\n".encode())
        raw.head()
        time.sleep(0.1)
        # Other clients are served meanwhile, and the slow one gets everything in the end.
        assert api.ask("GET", "/_ping").status == 200
        assert sum(len(piece) for piece in iter(raw.chunk, b"")) == 5_000_000


def test_two_thousand_connections(api: Api) -> None:
    raws = [api.connect() for _ in range(2000)]
    try:
        for raw in raws:
            raw.send(PING)
        for raw in raws:
            assert raw.reply().status == 200
        assert api.server.connections == 2000
    finally:
        for raw in raws:
            raw.socket.close()
    until(lambda: api.server.connections == 0)


def test_requests_are_answered_fast(api: Api) -> None:
    raws = [api.connect() for _ in range(16)]
    begun = time.monotonic()
    for _ in range(100):
        for raw in raws:
            raw.send(PING)
        for raw in raws:
            raw.reply()
    rate = 1600 / (time.monotonic() - begun)
    for raw in raws:
        raw.socket.close()
    assert rate > 1000, f"{rate:.0f} requests/s"  # 20,000 and more on a quiet machine


# Hijacking.


def hijack(
    api: Api, target: str, *, upgrade: bool, after: bytes = b""
) -> tuple[Raw, dict[str, str]]:
    raw = api.connect()
    extra = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else ""
    raw.send(f"POST {target} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode() + after)
    status, headers = raw.head()
    assert status == (101 if upgrade else 200)
    return raw, headers


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_attach_gives_the_connection_away(api: Api, upgrade: bool, early: bool) -> None:
    container = api.made(Tty=True)
    target = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1"
    raw, headers = hijack(api, target, upgrade=upgrade, after=b"first " if early else b"")
    with raw:
        assert headers["content-type"] == "application/vnd.docker.raw-stream"
        assert headers.get("upgrade") == ("tcp" if upgrade else None)
        if not early:
            raw.send(b"first ")
        raw.send(b"GET / is no request here")
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.rest() == b"first GET / is no request here"


def test_input_that_comes_while_attach_is_prepared_is_not_lost(api: Api) -> None:
    container = api.made(Tty=True)
    api.containers.slow = asyncio.Event()
    with api.connect() as raw:
        raw.send(
            f"POST /containers/{container}/attach?stream=1&stdin=1 HTTP/1.1\r\n"
            "Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode()
        )
        raw.send(b"early input")
        raw.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        api.loop.call_soon_threadsafe(api.containers.slow.set)
        assert raw.head()[0] == 101
        assert raw.rest() == b"early input"


@pytest.mark.parametrize(
    ("version", "tty", "kind"),
    [
        ("1.41", False, "raw-stream"),
        ("1.42", False, "multiplexed-stream"),
        ("1.51", False, "multiplexed-stream"),
        ("1.51", True, "raw-stream"),
    ],
)
def test_the_content_type_tells_the_framing(api: Api, version: str, tty: bool, kind: str) -> None:
    container = api.made(Tty=tty)
    raw, headers = hijack(
        api, f"/v{version}/containers/{container}/attach?logs=1&stdout=1", upgrade=True
    )
    with raw:
        assert headers["content-type"] == f"application/vnd.docker.{kind}"
        raw.socket.shutdown(socket.SHUT_WR)
        data = raw.rest()
        assert data == (b"attached\n" if tty else b"\x01\0\0\0\0\0\0\x09attached\n")


def test_an_attach_that_cannot_be_is_an_ordinary_error(api: Api) -> None:
    with api.connect() as raw:
        raw.send(
            b"POST /containers/nosuch/attach?stream=1 HTTP/1.1\r\nUpgrade: tcp\r\n"
            b"Connection: Upgrade\r\n\r\n"
        )
        assert raw.reply().message == "No such container: nosuch"
        assert raw.ask("GET", "/_ping").status == 200


def test_an_upgrade_elsewhere_is_ignored(api: Api) -> None:
    with api.connect() as raw:
        raw.send(
            b"GET /_ping HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n"
            + PING
        )
        assert raw.reply().body == b"OK"
        assert raw.reply().body == b"OK"


def test_a_hijacked_connection_outlives_the_server(api: Api) -> None:
    container = api.made(Tty=True)
    raw, _ = hijack(api, f"/containers/{container}/attach?stream=1&stdin=1", upgrade=True)
    with raw:
        until(lambda: api.server.connections == 0)
        asyncio.run_coroutine_threadsafe(api.server.close(), api.loop).result(5)
        raw.send(b"still here")
        assert raw.exactly(10) == b"still here"


def test_an_exec_s_unknown_user_is_told_by_the_status(api: Api) -> None:
    container = api.made("sleep")
    api.ask("POST", f"/containers/{container}/start")
    wanted = {"Cmd": ["true"], "User": "nobody-of-that-name"}
    refused = api.ask("POST", f"/containers/{container}/exec", wanted)
    assert (refused.status, refused.message[:20]) == (400, "unable to find user ")


def test_a_failed_exec_says_why_in_the_stream(api: Api) -> None:
    container = api.made("sleep")
    api.ask("POST", f"/containers/{container}/start")
    made = api.ask("POST", f"/containers/{container}/exec", {"Cmd": ["nosuch"]}).json["Id"]
    raw, _ = hijack(api, f"/exec/{made}/start", upgrade=True)
    with raw:
        data = raw.rest()
        assert data[:4] == b"\x01\0\0\0"
        assert data[8:].startswith(b"OCI runtime exec failed: exec failed: unable to start")
        assert b'process: exec: "nosuch": executable file not found' in data
    assert api.ask("GET", f"/exec/{made}/json").json["ExitCode"] == 127
    again = api.ask("POST", f"/exec/{made}/start", {})
    assert again.status == 409 and "has already run" in again.message


# Handlers that misbehave.


async def _served(path: Path, route: Route) -> tuple[Server, str]:
    server = Server(Router([route]))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    await server.listen(listener)
    return server, str(path)


async def _exchange(path: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    data = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return data


def test_an_unexpected_error_is_500_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Request) -> Response:
        raise ValueError("surprise")

    async def go() -> bytes:
        server, path = await _served(tmp_path / "s", Route("GET", "/", broken))
        try:
            return await _exchange(path, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        finally:
            await server.close()

    answer = asyncio.run(go())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"ValueError: surprise" in answer
    assert "surprise" in caplog.text


def test_a_stream_that_breaks_off_never_looks_complete(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("surprise")

    async def broken(_: Request) -> Response:
        return Response(200, pieces())

    async def go() -> bytes:
        server, path = await _served(tmp_path / "s", Route("GET", "/", broken))
        try:
            return await _exchange(path, b"GET / HTTP/1.1\r\n\r\n")
        finally:
            await server.close()

    answer = asyncio.run(go())
    assert b"4\r\nhalf\r\n" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_closing_lets_answers_end_and_cuts_endless_ones(tmp_path: Path) -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(0.2)
        return Response(200, b"done")

    async def endless() -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.Event().wait()

    async def follow(_: Request) -> Response:
        return Response(200, endless(), early=True)

    async def go() -> tuple[bytes, float]:
        server = Server(Router([Route("GET", "/slow", slow), Route("GET", "/follow", follow)]))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        await server.listen(listener)
        path = str(tmp_path / "s")
        answers = asyncio.gather(
            _exchange(path, b"GET /slow HTTP/1.1\r\n\r\n"),
            _exchange(path, b"GET /follow HTTP/1.1\r\n\r\n"),
            _exchange(path, b""),
        )
        while server.connections < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await server.close()
        took = time.monotonic() - begun
        slow_answer, followed, idle = await answers
        assert b"begun" in followed and idle == b""
        return slow_answer, took

    answer, took = asyncio.run(go())
    assert answer.endswith(b"done")
    assert took < 2


def test_back_pressure_both_ways(tmp_path: Path) -> None:
    """What nobody takes is not kept: a few hundred KiB at most in either direction."""
    given = 0
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal given
        while given < 64 << 20:
            given += 100_000
            yield b"x" * 100_000

    async def endless(_: Request) -> Response:
        return Response(200, pieces())

    async def take(request: Request) -> Response:
        await go_on.wait()
        size = 0
        while piece := await request.body.read():
            size += len(piece)
        return Response(200, str(size).encode())

    async def go() -> tuple[int, bytes, int]:
        server = Server(Router([Route("GET", "/give", endless), Route("POST", "/take", take)]))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        await server.listen(listener)
        with socket.socket(socket.AF_UNIX) as reader, socket.socket(socket.AF_UNIX) as writer:
            reader.connect(str(tmp_path / "s"))
            reader.sendall(b"GET /give HTTP/1.1\r\n\r\n")
            writer.connect(str(tmp_path / "s"))
            total = 16 << 20
            writer.sendall(f"POST /take HTTP/1.1\r\nContent-Length: {total}\r\n\r\n".encode())
            writer.setblocking(False)
            sent, quiet = 0, 0
            while quiet < 20:
                try:
                    sent += writer.send(b"z" * 65536)
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                    await asyncio.sleep(0.005)
            accepted, produced = sent, given
            go_on.set()
            loop = asyncio.get_running_loop()
            while sent < total:
                piece = b"z" * min(65536, total - sent)
                await loop.sock_sendall(writer, piece)
                sent += len(piece)
            answer = await asyncio.wait_for(loop.sock_recv(writer, 4096), 30)
        await server.close()
        return accepted, answer, produced

    accepted, answer, produced = asyncio.run(go())
    assert accepted < 2 << 20
    assert produced < 2 << 20
    assert answer.endswith(str(16 << 20).encode())


def test_tcp_clients(tmp_path: Path) -> None:
    """Over TCP, the end of a client's stream counts as its end: the handler is cancelled."""
    cancelled = asyncio.Event()

    async def wait(_: Request) -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response()

    async def give(request: Request) -> Hijacked:
        fd, initial = await request.hijack("text/plain")
        with socket.socket(fileno=fd) as stream:
            stream.sendall(initial + b" taken")
        return HIJACKED

    async def go() -> bytes:
        server = Server(Router([Route("GET", "/wait", wait), Route("POST", "/give", give)]))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        await server.listen(listener)
        _, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET /wait HTTP/1.1\r\n\r\n")
        while not server.connections:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.wait_for(cancelled.wait(), 30)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"POST /give HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\nfirst")
        data = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        await server.close()
        return data

    answer = asyncio.run(go())
    assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert answer.endswith(b"first taken")


def test_chunked_decoding_does_not_depend_on_the_cuts() -> None:
    coded = b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nT: u\r\n\r\nNEXT"
    for size in range(1, len(coded) + 1):
        framing, body, rest = Chunked(), b"", b""
        for at in range(0, len(coded), size):
            if framing.complete:
                rest += coded[at : at + size]
                continue
            pieces, rest = framing.feed(coded[at : at + size])
            body += b"".join(pieces)
        assert (body, rest) == (b"hello0123456789", b"NEXT")


@pytest.mark.parametrize(
    "bad",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"5\nhello",
        b"1" * 17 + b"\r\n",
        b"5\r\nhelloX\r\n",
        b"a" * 300,
    ],
)
def test_broken_chunks_are_refused(bad: bytes) -> None:
    with pytest.raises(Invalid):
        Chunked().feed(bad)


# Routes that answer at once.


@pytest.fixture
def asked() -> list[str]:
    """How the routes of `two_ways` were asked, in order."""
    return []


def two_ways(asked: list[str]) -> Router:
    """A router whose one route answers at once, raises, or leaves it to its handler, by its path."""

    def at_once(request: Request) -> Response | None:
        asked.append("at once")
        match request.parameters["how"]:
            case "now":
                return Response(200, b"now")
            case "close":
                return Response(200, b"close", close=True)
            case "big":
                return Response(200, b"b" * (4 << 20))
            case "wrong":
                raise Invalid("wrong")
            case "broken":
                raise ZeroDivisionError
            case _:
                return None

    async def later(request: Request) -> Response:
        asked.append("later")
        if request.parameters["how"] == "wrong":
            raise Invalid("wrong")
        await asyncio.sleep(0)
        return Response(200, b"later")

    return Router([Route("GET", "/a/{how}", later, at_once)])


async def _two_ways(path: Path, asked: list[str], *requests: bytes) -> bytes:
    router = two_ways(asked)
    server = Server(router, router.at_once)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    await server.listen(listener)
    try:
        return await _exchange(str(path), b"".join(requests))
    finally:
        await server.close()


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


def test_answers_at_once_and_later_keep_their_order(tmp_path: Path, asked: list[str]) -> None:
    said = asyncio.run(
        _two_ways(
            tmp_path / "s",
            asked,
            *(get("/a/now"), get("/a/then"), get("/v1.41/a/now"), get("/a/big")),
            get("/a/now", "Connection: close\r\n"),
        )
    )
    bodies = [part.split(b"\r\n\r\n", 1)[1] for part in said.split(b"HTTP/1.1 ")[1:]]
    # Behind what the client has not read yet an answer waits, and so is the handler's.
    assert [body[:5] for body in bodies] == [b"now", b"later", b"now", b"bbbbb", b"later"]
    assert asked == [*("at once", "at once", "later"), *("at once", "at once", "later")]


def test_what_fails_at_once_is_told_by_the_handler(tmp_path: Path, asked: list[str]) -> None:
    last = "Connection: close\r\n"
    said = asyncio.run(_two_ways(tmp_path / "s", asked, get("/a/wrong"), get("/a/broken", last)))
    assert said.startswith(b"HTTP/1.1 400") and b'"wrong"' in said and said.endswith(b"later")
    assert asked == ["at once", "later"] * 2


def test_an_unknown_version_is_told_by_the_handler(tmp_path: Path, asked: list[str]) -> None:
    last = "Connection: close\r\n"
    said = asyncio.run(_two_ways(tmp_path / "s", asked, get("/v9.9/a/now", last)))
    assert said.startswith(b"HTTP/1.1 400") and b"too new" in said and not asked


def test_an_answer_at_once_can_end_the_connection(tmp_path: Path, asked: list[str]) -> None:
    said = asyncio.run(_two_ways(tmp_path / "s", asked, get("/a/close"), get("/a/now")))
    assert said.count(b"HTTP/1.1") == 1 and b"Connection: close" in said and len(asked) == 1


def test_a_request_with_a_body_is_left_to_the_handler(tmp_path: Path, asked: list[str]) -> None:
    body = b"GET /a/now HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    said = asyncio.run(_two_ways(tmp_path / "s", asked, body))
    assert said.endswith(b"later") and asked == ["later"]
