"""Which process of an engine is its supervisor."""

from __future__ import annotations

import os
from pathlib import Path

from tests.harness.engine import Engine
from wherry.supervisor import zygote


def supervisors(engine: Engine) -> list[int]:
    """The pids of the engine's supervisors, found by the exec-root in their command lines.

    Its children look like it until they exec; they live in other namespaces. The zygote bears its own name.
    """
    own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt", "user")]
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
            if str(engine.exec_root) in command and "wherry.supervisor.main" in command:
                spaces = [os.readlink(path.parent / "ns" / kind) for kind in ("pid", "mnt", "user")]
                # The keeper's command line names both.
                name = (path.parent / "comm").read_text().strip()
                if spaces == own and "keeper import" not in command and name != zygote.NAME:
                    found.append(int(path.parent.name))
        except OSError:
            continue
    return found
