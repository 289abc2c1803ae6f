"""What a kernel lacks is told when the daemon starts, by name; an older kernel is one with calls denied."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.engine import script
from wherry.kernel.probe import missing_calls

# seccomp(2): ENOSYS for one number, as a kernel that does not know it answers. Then the rest of argv.
WITHOUT = """
import ctypes, os, struct, sys
words = (0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *word) for word in words))
libc = ctypes.CDLL(None, use_errno=True)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(words), ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_this_kernel_has_what_is_needed() -> None:
    assert missing_calls() == ()


def test_only_what_does_not_exist_is_missing() -> None:
    answers = {437: errno.ENOSYS, 442: errno.ENOSYS, 435: errno.EPERM}
    found = missing_calls(lambda number: answers.get(number, errno.EINVAL))
    assert found == ("openat2", "mount_setattr")


@pytest.mark.parametrize(("number", "name"), [(437, "openat2"), (442, "mount_setattr")])
def test_the_daemon_says_what_an_older_kernel_lacks(tmp_path: Path, number: int, name: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT, str(number)),
            *(script("wherryd"), "--data-root", str(tmp_path / "data"), "--bridge", "none"),
            *("--exec-root", str(tmp_path / "run"), "-H", f"unix://{tmp_path}/s"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"does not have {name} (wherry needs Linux 5.12 or newer" in done.stderr
    assert "Traceback" not in done.stderr
