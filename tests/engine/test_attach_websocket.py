"""Attaching by WebSocket, as a dashboard's terminal does."""

from __future__ import annotations

import socket

from tests.api.test_websocket import masked
from tests.engine.boxes import Boxes, eventually
from tests.engine.raw import Api

_OPEN = (
    "Host: engine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://engine\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _open(api: Api, box: str, query: str) -> socket.socket:
    connection = api.connect()
    path = f"/v1.47/containers/{box}/attach/ws?{query}"
    connection.sendall(f"GET {path} HTTP/1.1\r\n{_OPEN}".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101"), head
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return connection


def _frame(connection: socket.socket) -> tuple[int, bytes]:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = connection.recv(size - len(data))
            assert piece, "the engine hung up"
            data += piece
        return data

    first, second = exactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(exactly(2 if size == 126 else 8))
    return first & 0x0F, exactly(size)


def _until(connection: socket.socket, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        opcode, payload = _frame(connection)
        assert opcode in (1, 2), (opcode, seen)
        seen += payload
    return seen


def test_what_is_typed_reaches_the_shell_and_comes_back(boxes: Boxes, api: Api) -> None:
    box = boxes.run("-it", boxes.image, "sh")
    with _open(api, box, "stream=1&stdin=1&stdout=1&stderr=1") as connection:
        connection.sendall(masked(2, b"echo $((6*7))\n"))
        _until(connection, b"42")
        connection.sendall(masked(1, b"exit 3\n"))
        opcode = 0
        while opcode != 8:
            opcode, _ = _frame(connection)
    assert boxes.docker.line("wait", box) == "3"


def test_both_streams_come_as_one_without_headers(boxes: Boxes, api: Api) -> None:
    box = boxes.run("-i", boxes.image, "sh", "-c", "read x; echo out-$x; echo err-$x >&2; cat")
    with _open(api, box, "stream=1&stdin=1&stdout=1&stderr=1") as connection:
        connection.sendall(masked(2, b"1\n"))
        seen = _until(connection, b"err-1")
        if b"out-1" not in seen:
            seen += _until(connection, b"out-1")
        assert sorted(seen.split()) == [b"err-1", b"out-1"]


def test_what_was_logged_is_replayed(boxes: Boxes, api: Api) -> None:
    box = boxes.run(boxes.image, "sh", "-c", "echo early; sleep 600")
    eventually(lambda: "early" in boxes.docker("logs", box).stdout)
    with _open(api, box, "logs=1&stream=1&stdout=1&stderr=1") as connection:
        assert _until(connection, b"early").startswith(b"early")


def test_a_ping_is_answered_and_a_bad_frame_ends_it(boxes: Boxes, api: Api) -> None:
    box = boxes.run("-i", boxes.image, "cat")
    with _open(api, box, "stream=1&stdin=1&stdout=1") as connection:
        connection.sendall(masked(9, b"are you there"))
        assert _frame(connection) == (10, b"are you there")
        connection.sendall(b"\x82\x01x")
        opcode, payload = _frame(connection)
        assert (opcode, payload[:2]) == (8, (1002).to_bytes(2))
    assert boxes.docker.line("inspect", "-f", "{{.State.Running}}", box) == "true"


def test_a_plain_get_is_no_handshake(boxes: Boxes, api: Api) -> None:
    box = boxes.run(boxes.image, "sleep", "600")
    assert api("GET", f"/containers/{box}/attach/ws", stream="1").status == 400


def test_a_long_log_of_what_has_ended_and_a_client_that_leaves_it(boxes: Boxes, api: Api) -> None:
    """A megabyte to who reads it; who leaves in the midst of it leaves nothing behind."""
    box = boxes.run(boxes.image, "sh", "-c", "seq 150000; echo end >&2")
    boxes.docker("wait", box)
    for _ in range(3):
        with _open(api, box, "logs=1&stream=1&stdout=1&stderr=1") as connection:
            assert _frame(connection)[1].startswith(b"1\n")
    with _open(api, box, "logs=1&stream=0&stdout=1") as connection:
        said, opcode = b"", 2
        while opcode == 2:
            opcode, piece = _frame(connection)
            said += piece if opcode == 2 else b""
    assert said.split() == [b"%d" % number for number in range(1, 150001)]
