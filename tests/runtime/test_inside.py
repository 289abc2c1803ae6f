"""What a start relies on when all else has failed: the terminal is one, the working directory is inside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.kernel.linux import LINUX
from wherry.model.errors import StartFailed
from wherry.runtime.terminal import open_pty

OUTSIDE = """
import os, sys
from wherry.model.errors import StartFailed
from wherry.runtime.becoming import stay_inside
stay_inside("/")
os.chroot(sys.argv[1])
try:
    stay_inside("/proc/self/fd/7")
except StartFailed as error:
    print(error.exit_code, error)
"""


def test_cve_2024_21626_a_working_directory_outside_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, tmp_path],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        cwd="/",
    )
    # glibc since 2.27 answers ENOENT where the kernel says "(unreachable)"; musl passes it on.
    assert done.stdout.startswith("128 the working directory /proc/self/fd/7 ")


def test_cve_2025_52565_what_is_no_multiplexer_is_refused(tmp_path: Path) -> None:
    """An exec's terminal comes of the container's /dev/pts, which the container may have covered."""
    (tmp_path / "dev/pts").mkdir(parents=True)
    ptmx = tmp_path / "dev/pts/ptmx"
    for make in (lambda: ptmx.write_bytes(b""), lambda: os.mkfifo(ptmx)):
        make()
        with pytest.raises(StartFailed, match="not a terminal multiplexer"):
            open_pty(LINUX, str(tmp_path))
        ptmx.unlink()
    ptmx.symlink_to("/dev/pts/ptmx")
    with pytest.raises(OSError, match="symbolic links"):
        open_pty(LINUX, str(tmp_path))
