"""What processes that idle have not loaded; sizes themselves are bench's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import wherry
from wherry.network.dns.process import plan_process
from wherry.supervisor.boot import plan_supervisor

_SOURCE = str(Path(wherry.__file__).parents[1])
_TELL = (
    "print(*(name for name, module in sys.modules.items()"
    " if type(module).__name__ == 'module' and name[:1] != '_'))"
)


def _loaded(*argv: str) -> set[str]:
    done = subprocess.run(argv, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return set(done.stdout.decode().split())


def _imported(program: list[str], also: str = "") -> set[str]:
    """Return what the program of a process's argument vector imports, without running it."""
    at = program.index("-c") + 1
    imports = program[at].rpartition("; main(")[0]
    return _loaded(*program[:at], f"{imports}; {also}{_TELL}", _SOURCE)


def test_the_daemon_has_what_every_engine_needs() -> None:
    loaded = _loaded(
        sys.executable,
        "-c",
        "import sys; from wherry.daemon.main import spare_memory; spare_memory();"
        f" import wherry.daemon.command, wherry.daemon.serve, wherry.daemon.wiring; {_TELL};"
        " print('_hashlib' if '_hashlib' in sys.modules else '')",
    )
    assert "wherry.daemon.wiring" in loaded
    unwanted = {
        *("ssl", "_hashlib", "inspect", "ast", "zstandard", "isal", "lzma", "bz2", "argparse"),
        *("wherry.build.solve", "wherry.build.steps", "wherry.registry.client"),
        "wherry.images.transfer.pull",
    }
    assert not loaded & unwanted


def test_the_supervisor_has_what_starts_containers() -> None:
    program = plan_supervisor(_SOURCE, "", "")
    loaded = _imported(program, "import wherry.supervisor.pool;")
    assert "wherry.supervisor.wiring" in loaded
    assert not loaded & {"inspect", "ast", "traceback", "ipaddress", "asyncio", "hashlib"}
    assert not loaded & {"wherry.model.networks", "wherry.model.containers", "pathlib"}


def test_the_name_service_has_what_answers() -> None:
    loaded = _imported(plan_process(_SOURCE, ""))
    assert "wherry.network.dns.server" in loaded
    assert not loaded & {"inspect", "ast", "traceback", "asyncio", "hashlib", "pathlib"}
