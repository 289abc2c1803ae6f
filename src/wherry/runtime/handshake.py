"""What the supervisor and a slot's child say to each other, on a SEQPACKET socket pair.

    child born            > supervisor writes the id maps, attaches cgroups
    supervisor GO [dev]   > child enters its cgroup namespace, becomes root, furnishes the slot
    child READY           > where GO asked for it: the slot is warm, or someone wants a terminal of it
    supervisor PLAN [root, trees…, stdin, stdout, stderr] > child performs the steps
    child TERMINAL [master] > where the plan has a terminal and brought none
    child execs           > its end of the socket closes: success
    child FAILED {step, errno, message, exit_code} > and exits

A child whose supervisor dies reads the end of the file while it waits, and exits.
"""

from __future__ import annotations

import _socket as socket
import errno
import json
import os
from dataclasses import dataclass
from typing import Any

from wherry.kernel.processes import wait_readable
from wherry.kernel.rights import passed, passing
from wherry.model.errors import StartFailed

GO = b"G"
READY = b"R"
PLAN = b"P"
FAILED = b"F"
TERMINAL = b"T"
TELL = b"1"
"""GO's body: say READY when furnished."""
LARGEST = 4 << 20
MOST_DESCRIPTORS = 250
"""SCM_MAX_FD is 253."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its kind (a byte), its body and the descriptors that came along."""

    kind: bytes
    body: bytes
    descriptors: tuple[int, ...]


def pair() -> tuple[int, int]:
    """Return the descriptors of a SEQPACKET pair whose buffers hold the largest plan."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0)
    for end in ends:
        # SO_SNDBUFFORCE (32) is 33's brother for receive; root may pass the sysctl's bound.
        for option in (32, 33):
            try:
                end.setsockopt(socket.SOL_SOCKET, option, LARGEST)
            except OSError:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    return ends[0].detach(), ends[1].detach()


def _socket_of(fd: int) -> socket.socket:
    """Return a socket object on `fd`; its maker detaches it again."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd)


def send(fd: int, kind: bytes, body: bytes = b"", descriptors: tuple[int, ...] = ()) -> None:
    """Send one message. Raises OSError."""
    end = _socket_of(fd)
    try:
        end.sendmsg([kind, body], passing(descriptors))
    finally:
        end.detach()


def receive(fd: int, seconds: float | None = None) -> Message | None:
    """Return the next message, None at the end. The descriptors are close-on-exec and the caller's.

    Raises TimeoutError where `seconds` are given and nothing has come by then, OSError; no descriptor
    is left open then.
    """
    if seconds is not None and not wait_readable(fd, seconds):
        raise TimeoutError(errno.ETIMEDOUT, "nothing was said in time")
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * 4)
    end = _socket_of(fd)
    try:
        try:
            data, ancillary, flags, _ = end.recvmsg(LARGEST, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # Told once, of a peer that ended without having read all; what it said is still to be read.
            data, ancillary, flags, _ = end.recvmsg(LARGEST, room, socket.MSG_CMSG_CLOEXEC)
    finally:
        end.detach()
    found = passed(ancillary)
    if not data or flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        for number in found:
            os.close(number)
        if not data:
            return None
        raise OSError(errno.EMFILE, "a message came without all of its descriptors")
    return Message(data[:1], data[1:], tuple(found))


def describe_failure(error: BaseException, step: str) -> bytes:
    """Return a FAILED body for what went wrong in `step`."""
    number, code, hint = 0, 128, ""
    if isinstance(error, StartFailed):
        message, code, hint = error.message, error.exit_code, error.hint
        number = error.errno
    elif isinstance(error, OSError):
        number = error.errno or 0
        where = f" {os.fsdecode(error.filename)}" if error.filename else ""
        message = f"{step}:{where} {(error.strerror or str(error)).lower()}"
    else:
        message = f"{step}: {type(error).__name__}: {error}"
    record: dict[str, Any] = {
        "message": message,
        "step": step,
        "errno": number,
        "exit_code": code,
        "hint": hint,
    }
    return json.dumps(record).encode()


def failure(body: bytes) -> StartFailed:
    """Return the error that a FAILED body tells."""
    record: dict[str, Any] = json.loads(body)
    return StartFailed(
        str(record["message"]),
        exit_code=int(record["exit_code"]),
        step=str(record["step"]),
        errno=int(record["errno"]),
        hint=str(record.get("hint", "")),
    )
