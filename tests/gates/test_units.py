"""The systemd units are what systemd accepts, and keep containers alive over a restart."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gates.sources import ROOT

UNITS = ROOT / "packaging" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    """Return the unit file `name`, parsed; options keep their case."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    parser.read(UNITS / name)
    return parser


def test_containers_outlive_the_daemon() -> None:
    service = unit("wherry.service")["Service"]
    assert service["KillMode"] == "process"
    assert service["Delegate"] == "yes"


def test_service_takes_the_socket_and_reports_readiness() -> None:
    service = unit("wherry.service")
    assert service["Service"]["Type"] == "notify"
    assert service["Service"]["ExecStart"].split()[1:] == ["-H", "fd://"]
    assert "wherry.socket" in service["Unit"]["Requires"].split()


def test_socket_is_not_open_to_everybody() -> None:
    socket = unit("wherry.socket")["Socket"]
    assert socket["ListenStream"].startswith("/run/")
    assert int(socket["SocketMode"], 8) & 0o007 == 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_systemd_accepts_them(tmp_path: Path) -> None:
    for name in ("wherry.service", "wherry.socket"):
        # verify insists that the program exists, which it need not on this machine
        text = (UNITS / name).read_text().replace("/usr/local/bin/wherryd", "/bin/true")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    complaints = [line for line in done.stderr.splitlines() if "wherry." in line]
    assert not complaints, "\n".join(complaints)
