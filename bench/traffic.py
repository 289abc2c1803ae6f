"""Both ends of a connection, as programs: `python -I traffic.py serve PORT` and its askers.

    push ADDRESS PORT SECONDS   send as fast as it goes; prints megabytes a second
    ask ADDRESS PORT COUNT      that many HTTP requests, a connection each; prints the median in ms

Standard library only: they run inside containers' network namespaces, with the host's Python.
"""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time

_CHUNK = 1 << 20
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


def _serve(port: int) -> None:
    with socket.create_server(("0.0.0.0", port), backlog=256) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection:
        buffer = bytearray(_CHUNK)
        count = connection.recv_into(buffer)
        if buffer.startswith(b"GET "):
            connection.sendall(_ANSWER)
            return
        while count:
            count = connection.recv_into(buffer)


def _push(address: str, port: int, seconds: float) -> None:
    data, sent = bytes(_CHUNK), 0
    with socket.create_connection((address, port), 10) as connection:
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            sent += connection.send(data)
    print(sent / spent / 1e6)


def _ask(address: str, port: int, count: int) -> None:
    times: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        with socket.create_connection((address, port), 10) as connection:
            connection.sendall(_REQUEST)
            got = b""
            while piece := connection.recv(4096):
                got += piece
        times.append((time.perf_counter() - start) * 1000)
        if not got.endswith(b"ok"):
            raise SystemExit(f"answered {got!r}")
    print(statistics.median(times))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port]:
            _serve(int(port))
        case ["push", address, port, seconds]:
            _push(address, int(port), float(seconds))
        case ["ask", address, port, count]:
            _ask(address, int(port), int(count))
        case other:
            raise SystemExit(f"unknown: {other}")
