"""Terminal output on its way into a log, with splice(2) and without."""

from __future__ import annotations

import errno
import os
import select

import pytest

from wherry.supervisor import stdio


def _denied(*_: object, **__: object) -> int:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize("spliced", [True, False], ids=["splice", "before 5.11"])
def test_terminal_output_passes_through_its_pipe(
    monkeypatch: pytest.MonkeyPatch, spliced: bool
) -> None:
    if not spliced:
        monkeypatch.setattr(os, "splice", _denied)
    streams = stdio.make_terminal(*os.openpty(), kept=True)
    ours = streams.ours
    try:
        assert stdio.drain_terminal(ours) == 0
        os.set_blocking(ours["slave"], False)
        sent, got = bytearray(), bytearray()
        # More than the pipe holds, which is emptied only when it is full.
        while len(sent) < 3 * stdio.PIPE_SIZE:
            try:
                line = b"%07d" % len(sent) * 100
                sent += line[: os.write(ours["slave"], line)]
            except BlockingIOError:
                if not stdio.drain_terminal(ours):
                    got += os.read(ours["terminal_out"], stdio.PIPE_SIZE)
        while stdio.drain_terminal(ours) or select.select([ours["terminal_out"]], [], [], 0)[0]:
            got += os.read(ours["terminal_out"], stdio.PIPE_SIZE)
        assert got == sent
        ours.pop("slave")
        streams.close_child()
        assert stdio.drain_terminal(ours) == 0  # hung up
    finally:
        streams.close()
