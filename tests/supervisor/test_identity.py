"""The engine's id names its cgroups: what is found below that name is taken for its own and removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.model.errors import Invalid
from wherry.supervisor.identity import cgroup_parent, engine_id


def test_it_is_made_once(tmp_path: Path) -> None:
    first = engine_id(str(tmp_path))
    assert engine_id(str(tmp_path)) == first
    assert cgroup_parent(str(tmp_path)) == f"wherry/{first[:8]}"
    assert [path.name for path in tmp_path.iterdir()] == ["engine-id"]


@pytest.mark.parametrize("text", ["", "\n", "..", "x-y", "../../system.slice-x"])
def test_what_is_no_uuid_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "engine-id").write_text(text)
    with pytest.raises(Invalid, match="does not hold a UUID"):
        cgroup_parent(str(tmp_path))
