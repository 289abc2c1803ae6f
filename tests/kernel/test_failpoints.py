"""Failure points do nothing until they are named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from wherry.kernel.failpoints import configure, failpoint
from wherry.model.errors import Invalid


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    yield
    configure("")


def test_only_the_named_one_fails() -> None:
    failpoint("a")
    configure("a=error:ENOSPC,b=error:EIO")
    with pytest.raises(OSError, match=r"No space left on device \(failpoint a\)"):
        failpoint("a")
    failpoint("c")
    configure("")
    failpoint("a")


@pytest.mark.parametrize(
    "text", ["a", "a=", "=kill", "a=kill:0", "a=kill:x", "a=error:ENOTHING", "a=error:", "a=ENOSPC"]
)
def test_bad_actions_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="invalid failpoint"):
        configure(text)


@pytest.mark.parametrize(
    ("action", "status", "passed"), [("kill", -9, 0), ("kill:3", -9, 2), ("exit", 70, 0)]
)
def test_processes_end_where_told(action: str, status: int, passed: int) -> None:
    code = (
        "from wherry.kernel.failpoints import failpoint as f; f('x');"
        "[(f('y'), print('alive', flush=True)) for _ in range(5)]"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"WHERRY_FAILPOINTS": f"y={action}"},
        capture_output=True,
        timeout=20,
    )
    assert (result.returncode, result.stdout) == (status, b"alive\n" * passed)
