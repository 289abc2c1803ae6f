"""`wherryd stop` where there is little left to stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.daemon.config import Config
from wherry.daemon.halt import halt
from wherry.runtime.cgroups import open_cgroups
from wherry.supervisor.identity import cgroup_parent


def test_a_deleted_exec_root_keeps_no_empty_cgroups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.daemon.halt.set_up_log", lambda: None)
    monkeypatch.setattr("wherry.daemon.halt.set_level", lambda *_, **__: None)
    config = Config(data_root=tmp_path / "data", exec_root=tmp_path / "run")
    config.data_root.mkdir()
    parent = cgroup_parent(str(config.data_root))
    driver = open_cgroups(parent)
    driver.remove(driver.create(f"{parent}/one"))
    made = list(Path("/sys/fs/cgroup").glob(f"*/{parent}")) or [Path("/sys/fs/cgroup", parent)]
    assert all(folder.is_dir() for folder in made)
    halt(config, 0)
    assert not [folder for folder in made if folder.exists()]
