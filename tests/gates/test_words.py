"""No file names a machine it was written on, a package index, or work left undone."""

from __future__ import annotations

import re

import pytest

from tests.gates.sources import ROOT, files

FORBIDDEN = {
    "a home folder": re.compile(r"(?<![\w}])/(?:home/[a-z]\w*|work|root/\.\w+|Users/\w+)/"),
    "a folder of one machine": re.compile(r"/(?:tmp|opt|var/tmp)/(?:reference|wheels|brief|w/)"),
    "a package index": re.compile(
        r"\b(?:pypi\.\w+|pythonhosted\.\w+|registry\.npmjs\.\w+|artifactory|[\w-]+\.jfrog\.io)\b"
    ),
    "work left undone": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    "a merge conflict": re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE),
}
OWN = "tests/gates/test_words.py"


def found(text: str) -> list[tuple[int, str]]:
    """Return line number and description of everything forbidden in `text`."""
    return [
        (text.count("\n", 0, hit.start()) + 1, f"{what}: {hit.group()}")
        for what, pattern in FORBIDDEN.items()
        for hit in pattern.finditer(text)
    ]


def test_files_name_nothing_forbidden() -> None:
    bad: list[str] = []
    for path in files():
        data = path.read_bytes()
        name = str(path.relative_to(ROOT))
        if b"\0" in data[:4096] or name == OWN:
            continue
        bad += [f"{name}:{n}: {what}" for n, what in found(data.decode(errors="replace"))]
    assert not bad, "\n" + "\n".join(bad)


def test_no_file_is_a_build_product() -> None:
    made = re.compile(r"(\.pyc|\.so|\.whl|\.egg-info(/.*)?|\.orig|\.rej|~)$")
    assert [str(path) for path in files() if made.search(str(path))] == []


@pytest.mark.parametrize(
    "text",
    [
        "see /home/jane/notes",
        "x = '/work/main'",
        "/root/.cache/thing",
        "/opt/reference",
        "/tmp/w/name",
        "# TODO later",
        "pypi.org",
        "a\n<<<<<<< ours",
    ],
)
def test_finds(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize(
    "text",
    [
        "HOME=/root",
        "docker.io/library",
        "/var/lib/wherry",
        "/workdir/a",
        "{root}/work/x",
        "a/work/b",
    ],
)
def test_lets_pass(text: str) -> None:
    assert not found(text)
