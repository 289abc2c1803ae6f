"""What small Dockerfiles come to, file by file, beside what BuildKit in Docker 28.5 made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.trees import CASES, RECORDED, entries, make_context, words
from tests.harness.clients import Client

# BuildKit leaves the places of its mounts in a root that has none; wherry takes them away again.
PLACES = {"dev 5 755 0:0 -", "proc 5 755 0:0 -", "sys 5 755 0:0 -"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The context of all cases."""
    made = tmp_path_factory.mktemp("trees")
    make_context(made)
    return made


@pytest.mark.parametrize("name", CASES)
def test_the_files_are_buildkit_s(wherry: Client, is_wherry: bool, folder: Path, name: str) -> None:
    if not is_wherry:
        pytest.skip("what Docker made is recorded")
    done = wherry.raw("build", *words(name, str(folder)), stdin=CASES[name].encode())
    wanted = json.loads(RECORDED.read_text())[name]
    assert entries(done.stdout) == [line for line in wanted if line not in PLACES]
