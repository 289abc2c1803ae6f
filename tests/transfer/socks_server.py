"""A SOCKS 5 server of the tests' own, which takes every name for 127.0.0.1 and keeps what it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class SocksServer:
    """A context manager. `asked` has (kind of address, host, port), `logins` what clients showed."""

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.asked: list[tuple[int, str, int]] = []
        self.logins: list[tuple[str, str]] = []
        self.verdict = 0
        """What is answered to every request: 0 connects."""
        self.answer: Callable[[socket.socket], object] | None = None
        """Serves a client in place of the protocol."""
        self._login = login
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> SocksServer:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.answer is not None:
                self.answer(client)
                return
            stream = client.makefile("rb", buffering=0)
            _, count = stream.read(2) or b"\0\0"
            methods = stream.read(count) or b""
            wanted = 2 if self._login else 0
            if wanted not in methods:
                client.sendall(b"\x05\xff")
                return
            client.sendall(bytes((5, wanted)))
            if self._login:
                stream.read(1)
                user, password = (_text(stream.read((stream.read(1) or b"\0")[0])) for _ in "up")
                self.logins.append((user, password))
                good = (user, password) == self._login
                client.sendall(b"\x01\x00" if good else b"\x01\x01")
                if not good:
                    return
            kind = (stream.read(4) or b"\0\0\0\0")[3]
            size = {1: 4, 4: 16}.get(kind) or (stream.read(1) or b"\0")[0]
            address = stream.read(size) or b""
            port = int.from_bytes(stream.read(2) or b"", "big")
            families = {1: socket.AF_INET, 4: socket.AF_INET6}
            host = socket.inet_ntop(families[kind], address) if kind != 3 else _text(address)
            self.asked.append((kind, host, port))
            if self.verdict:
                client.sendall(bytes((5, self.verdict, 0, 1)) + bytes(6))
                return
            with socket.create_connection(("127.0.0.1", port)) as far:
                # With a name where it connected from, as some do.
                client.sendall(b"\x05\x00\x00\x03\x05local" + port.to_bytes(2, "big"))
                back = threading.Thread(target=_pump, args=(far, client), daemon=True)
                back.start()
                _pump(client, far)
                back.join()


def _text(data: bytes | None) -> str:
    return (data or b"").decode()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
