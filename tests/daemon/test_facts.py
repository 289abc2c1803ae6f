"""What the daemon says of user namespaces where the kernel has none for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wherry.daemon.config import Config
from wherry.daemon.engine import EngineFacts, read_facts
from wherry.kernel.linux import LINUX

if TYPE_CHECKING:
    from wherry.model.resources import Limits


class Cgroups:
    version = 2

    def check(self, limits: Limits) -> None:
        pass


def facts(tmp_path: Path, missing: str, remap: str) -> EngineFacts:
    config = Config(data_root=tmp_path, exec_root=tmp_path, userns_remap=remap)
    return read_facts(
        config, engine_id="x", cgroups=Cgroups(), kernel=LINUX, userns_missing=missing
    )


@pytest.mark.parametrize(
    ("missing", "remap", "named", "warned"),
    [
        ("", "", True, False),
        ("", "host", False, False),
        ("too old", "default", False, True),
        ("too old", "host", False, False),
    ],
)
def test_user_namespaces(
    tmp_path: Path, missing: str, remap: str, named: bool, warned: bool
) -> None:
    found = facts(tmp_path, missing, remap)
    assert ("name=userns" in found.security_options) == named
    assert any("too old" in warning for warning in found.warnings) == warned
