"""What the daemon gives back once it is quiet, and that it works on."""

from __future__ import annotations

import asyncio
import ctypes
import re
from pathlib import Path

from wherry.daemon.settling import Settling, settle
from wherry.http.messages import Answer, Request


def test_it_settles_once_after_a_busy_time() -> None:
    async def run() -> list[str]:
        told: list[str] = []
        settled = asyncio.Event()

        def give_back() -> None:
            told.append("settled")
            settled.set()

        async def answer(request: Request) -> Answer:
            told.append("asked")
            raise ConnectionError

        settling = Settling(give_back, 0.01)
        handler = settling.noting(answer)
        for _ in range(2):
            for _ in range(3):
                try:
                    await handler(None)  # type: ignore[arg-type]
                except ConnectionError:
                    pass
            async with asyncio.timeout(30):
                await settled.wait()
            settled.clear()
        settling.note()
        settling.close()
        return told

    assert asyncio.run(run()) == [*["asked"] * 3, "settled"] * 2


def _resident_code() -> int:
    total, code = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-", line):
            code = " r-xp " in line and "/" in line
        elif code and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_code_that_was_unmapped_comes_back() -> None:
    ctypes.CDLL(None)
    before = _resident_code()
    settle()
    after = _resident_code()
    assert 0 < after < before
    assert sum(range(10)) == 45 and re.fullmatch("(a|b)*", "abab")
