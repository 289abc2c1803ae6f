"""`system dial-stdio`: standard input and output carried to the engine. What `ssh://` runs over there."""

from __future__ import annotations

import os
import select
import socket

from wherry.cli.endpoint import find_address
from wherry.cli.flags import Command, Options
from wherry.cli.session import Session
from wherry.client.http import connect

_PIECE = 1 << 16


def _dial(session: Session, _options: Options, _arguments: list[str]) -> int:
    if not session.no_start:
        session.engine.get("/version")  # starts the engine where that is allowed
    address, _ = find_address(session.options)
    with socket.socket(fileno=connect(address).detach()) as engine:
        carry(0, 1, engine)
    return 0


def carry(source: int, sink: int, engine: socket.socket) -> None:
    """Carry both ways until the engine has no more to say; the end of `source` is a half-close."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(engine, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == source:
                data = os.read(source, _PIECE)
                if not data:
                    poll.unregister(source)
                    engine.shutdown(socket.SHUT_WR)
                else:
                    engine.sendall(data)
                continue
            data = engine.recv(_PIECE)
            if not data:
                return
            while data:
                data = data[os.write(sink, data) :]


DIAL = Command(
    _dial,
    "",
    "Carry standard input and output to the engine; for ssh://",
    most=0,
)
