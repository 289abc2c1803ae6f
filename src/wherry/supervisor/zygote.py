"""The zygote: a fork of the supervisor that makes warm slots while the supervisor does something else.

A fork leaves each page of its parent to be copied at the next write to it, and Python writes to the head
of whatever it looks at. A supervisor that forks by itself pays 830 page faults of 2.6 µs for each start,
most of them in the middle of the next one (docs/performance.md); the zygote pays them while nobody waits.

    supervisor MAKE {path, ids}              > the zygote makes a slot
    zygote MADE {pid, owner, group, cgroup}  > pidfd, socket, user namespace, /dev, data come along
    zygote FAILED                            > nothing but the cgroup may be left; the pool removes it

It is forked at need, and ends by itself once nothing was asked for `IDLE_SECONDS`, or when the supervisor
does: an idle engine has none.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import Any, NoReturn

from wherry.kernel import abi
from wherry.kernel.processes import wait_readable
from wherry.model.errors import StartFailed, WherryError
from wherry.runtime import child, handshake
from wherry.runtime.cgroups import Handle
from wherry.runtime.plan import SlotProfile
from wherry.runtime.slots import Slot
from wherry.supervisor.making import Maker, Order, end

NAME = "wherry-zygote"
"""What ps calls it."""
IDLE_SECONDS = 2.0
_PATIENCE = 5.0
_MAKE = b"M"
_MADE = b"S"


class Zygote:
    """Makes slots of one profile; they are received in the order in which they were asked for."""

    def __init__(self, maker: Maker, profile: SlotProfile) -> None:
        self._maker = maker
        self._profile = profile
        self._socket = -1
        self._pidfd = -1

    def ask(self, path: str, ids: int) -> None:
        """Have a slot made in the new cgroup `path`, with the range `ids`. Raises StartFailed."""
        body = json.dumps({"path": path, "ids": ids}).encode()
        if self._socket >= 0:
            try:
                handshake.send(self._socket, _MAKE, body)
                return
            except (BrokenPipeError, ConnectionResetError):
                self.close()  # it had nothing to do for a while
        try:
            self._fork()
            handshake.send(self._socket, _MAKE, body)
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"cannot fork the zygote: {text}", errno=error.errno or 0) from error

    def answered(self, seconds: float) -> bool:
        """Return whether `receive` needs not wait; wait for that as long as `seconds`."""
        return wait_readable(self._socket, seconds)

    def receive(self, seconds: float = 0.0) -> Slot:
        """Return the slot that was asked for first. Raises StartFailed; `close` is due then."""
        try:
            answer = handshake.receive(self._socket, seconds)
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise StartFailed(f"cannot make the container's namespaces: {text}") from error
        if answer is None:
            raise StartFailed("the zygote ended before its work was done")
        if answer.kind == handshake.FAILED:
            raise handshake.failure(answer.body)
        return _decode(answer, self._profile)

    def close(self) -> None:
        """End it, and with it what it has made and nobody received; their cgroups stay."""
        if self._socket < 0:
            return
        # One that hangs would go on with what it was asked for when nobody expects it any more.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        wait_readable(self._pidfd, _PATIENCE)
        os.close(self._pidfd)
        os.close(self._socket)
        self._socket = self._pidfd = -1

    def _fork(self) -> None:
        ours, theirs = handshake.pair()
        try:
            pid, self._pidfd = self._maker.k.clone3(abi.CLONE_PARENT)
            if pid == 0:
                self._serve(theirs)
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._socket = ours

    def _serve(self, socket: int) -> NoReturn:
        try:
            child.forget_the_parent(self._maker.k, socket)
            with open("/proc/self/comm", "w", encoding="ascii") as file:
                file.write(NAME)
            while (message := handshake.receive(socket, IDLE_SECONDS)) is not None:
                self._answer(socket, json.loads(message.body))
        except (OSError, WherryError):
            pass  # nothing to do, or nobody to do it for
        finally:
            os._exit(0)

    def _answer(self, socket: int, order: dict[str, Any]) -> None:
        try:
            handle = self._maker.cgroups.create(order["path"])
            slot = self._maker.make(Order(self._profile, order["ids"]), handle)
        except (OSError, WherryError) as error:
            body = handshake.describe_failure(error, "make a slot")
            handshake.send(socket, handshake.FAILED, body)
            return
        body, descriptors = _encode(slot)
        try:
            handshake.send(socket, _MADE, body, descriptors)
        except OSError:
            # The supervisor is dead, and the next one has swept already, maybe.
            end(slot)
            self._maker.cgroups.remove(handle, _PATIENCE)
            raise
        for fd in descriptors:
            os.close(fd)


def _encode(slot: Slot) -> tuple[bytes, tuple[int, ...]]:
    handle = slot.cgroup
    assert handle is not None
    facts = {
        "pid": slot.pid,
        "ids": slot.range_index,
        "owner": slot.owner,
        "group": slot.group,
        "cgroup": [handle.path, handle.unified],
    }
    descriptors = (slot.pidfd, slot.socket, slot.userns, slot.dev, slot.data)
    return json.dumps(facts).encode(), descriptors


def _decode(answer: handshake.Message, profile: SlotProfile) -> Slot:
    facts: dict[str, Any] = json.loads(answer.body)
    pidfd, socket, userns, dev, data = answer.descriptors
    return Slot(
        facts["pid"],
        pidfd,
        socket,
        profile,
        facts["ids"],
        facts["owner"],
        facts["group"],
        userns,
        dev,
        data,
        Handle(*facts["cgroup"]),
    )
