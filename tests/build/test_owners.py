"""Whom a step's directories belong to, by tables that an image may have filled with anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.build.owners import look_up_process
from wherry.model.errors import Invalid

PASSWD = (
    "root:x:0:0::/:\n# no:x:1:1::/:\nbad:x:many:5::/:\nlong:x:"
    + "9" * 5000
    + ":5::/:\nweb:x:33:34::/:\nhigh:x:4294967295:5::/:\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text("wheel:x:10:\nodd:x:x:\n")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", (0, 0)),
        ("web", (33, 34)),
        ("33", (33, 34)),
        ("7", (7, 0)),
        ("web:wheel", (33, 10)),
        ("7:8", (7, 8)),
    ],
)
def test_names_are_looked_up_as_those_of_processes(
    tree: int, user: str, ids: tuple[int, int]
) -> None:
    assert look_up_process(user, tree) == ids


@pytest.mark.parametrize("user", ["bad", "long", "nobody", "high", "web:odd", "4294967295", "-1"])
def test_what_no_table_has_is_refused(tree: int, user: str) -> None:
    with pytest.raises(Invalid):
        look_up_process(user, tree)


def test_a_table_that_is_no_file_is_not_opened(tree: int, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").unlink()
    os.mkfifo(tmp_path / "etc/passwd")
    writer = os.open(tmp_path / "etc/passwd", os.O_RDWR)
    try:
        os.write(writer, b"web:x:33:34::/:\n")
        with pytest.raises(Invalid, match="unable to find user web"):
            look_up_process("web", tree)
    finally:
        os.close(writer)
