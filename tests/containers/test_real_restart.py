"""A daemon that is killed and started again, over real containers."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.harness.clients import Client
from tests.harness.engine import Engine


def test_the_daemon_s_restart_forgets_nothing(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> None:
    engine = new_engine()
    client = docker_for(engine)
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as tar:
        tar.add("/usr/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    image = client.raw("import", "-", stdin=tree.getvalue()).stdout.decode().strip()
    run = ("run", "-d", "--network", "none")
    client(*run, "--name", "runs", image, "sleep", "1000")
    client(*run, "--name", "frozen", image, "sleep", "1000")
    client("pause", "frozen")
    client(*run, "--name", "ends", image, "sh", "-c", "sleep 0.5; exit 9")
    client(*run, "--name", "gone", "--rm", image, "sh", "-c", "sleep 0.5; exit 9")
    client(*run, "--name", "again", "--restart", "always", image, "sh", "-c", "sleep 0.2; exit 3")
    pid_of = ("inspect", "-f", "{{.State.Pid}}")
    ending = [int(client(*pid_of, name, check=False).stdout or 0) for name in ("ends", "gone")]
    engine.crash()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/exe").exists() for pid in ending if pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    engine.start()
    states = dict(
        line.split()[:2]
        for line in client.line("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    )
    assert states.pop("again") in ("running", "restarting")
    assert states == {"runs": "running", "frozen": "paused", "ends": "exited"}
    assert client.line("inspect", "-f", "{{.State.ExitCode}}", "ends") == "9"
    client("unpause", "frozen")
    client("exec", "runs", "sh", "-c", "true")
