"""A container that would put the engine to sleep through its standard input is ended and says why."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, eventually

# From a pipe with bytes in it into a full socket: splice(2) keeps the pipe locked while it sleeps.
SPLICE = """
use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); $nothing = "\\0" x 65536;
use Fcntl; fcntl(A, F_SETFL, O_NONBLOCK); 1 while syswrite(A, $nothing); fcntl(A, F_SETFL, 0);
$in = ""; vec($in, 0, 1) = 1; select($in, undef, undef, undef);
syscall(275, 0, 0, fileno(A), 0, 65536, 0);
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a system call by number")
def test_a_locked_stdin(boxes: Boxes) -> None:
    name = boxes.name()
    host = [word for path in ("/usr", "/lib", "/lib64") for word in ("-v", f"{path}:{path}:ro")]
    run = ["run", "-i", "--name", name, "--network", "none", *host, boxes.image]
    with boxes.docker.popen(*run, "/usr/bin/perl", "-e", SPLICE) as client:
        assert client.stdin is not None and client.stderr is not None
        client.stdin.write(b"first")
        client.stdin.flush()

        def asleep() -> bool:
            pid = boxes.docker("inspect", "-f", "{{.State.Pid}}", name, check=False).stdout.strip()
            return pid not in ("", "0") and "splice" in Path(f"/proc/{pid}/stack").read_text()

        eventually(asleep)
        client.stdin.write(b"second")
        client.stdin.flush()
        assert boxes.docker.line("run", "--rm", "--network", "none", boxes.image, "echo", "well")
        client.stdin.close()
        # As the client does for a container that ended with an error, docker 28.5.
        assert client.wait(30) == 125
        assert b"killed: it blocked" in client.stderr.read()
    state = boxes.docker.line("inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", name)
    assert state == "137 killed: it blocked the engine's end of its standard streams"
