"""Starts that are not decided yet, and what tells that a child has begun its program."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from wherry.kernel.processes import runs_program
from wherry.kernel.reactor import Timer
from wherry.model.errors import WherryError
from wherry.runtime.slots import Slot
from wherry.supervisor.beginning import Answer, Start
from wherry.supervisor.keeping import Ended
from wherry.supervisor.messages import Started
from wherry.supervisor.process import PIDFD, SOCKET, Process


@dataclass(slots=True)
class Beginning:
    """A start that is not decided; `error` once it has failed and its child is to be reaped."""

    start: Start | None
    """None where a dead supervisor had begun it."""
    slot: Slot | None
    answer: Answer
    error: WherryError | None = None
    deadline: Timer | None = None

    @classmethod
    def orphaned(cls, error: WherryError) -> Beginning:
        """Return the start that a dead supervisor had begun, which is to be undone."""
        return cls(None, None, _nobody, error)

    @property
    def is_orphan(self) -> bool:
        """Whether nobody waits for the answer, and none has been given."""
        return self.answer is _nobody

    def tell(self, result: Started | WherryError) -> None:
        """Answer, once and for all."""
        answer, self.answer = self.answer, _told
        answer(result)

    def cancel_deadline(self) -> None:
        """Let it take as long as it takes."""
        if self.deadline is not None:
            self.deadline.cancel()


def has_execed(process: Process, ended: Ended | None) -> bool:
    """Whether the child's end of the socket is closed, and nothing was said on it."""
    if ended.unstarted if ended else not runs_program(process.pid, process.fds[PIDFD]):
        return False
    with socket.socket(fileno=os.dup(process.fds[SOCKET])) as channel:
        try:
            return not channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


def _nobody(result: Started | WherryError) -> None:
    """Whoever asked has lost its connection with the old supervisor."""


def _told(result: Started | WherryError) -> None:
    """Whoever asked knows already."""
