"""The pages agree with the tree: links lead somewhere, the table of tiers is the one enforced."""

from __future__ import annotations

import re
from pathlib import Path

from tests.gates.sources import ROOT, files
from tests.gates.test_layering import ASIDE, TIERS

_LINK = re.compile(r"\[[^\]]*\]\((?!\w+:)([^)#]+)(?:#[^)]*)?\)")
_TIER = re.compile(r"^\| (\d|–) \| ((?:`\w+`(?:, )?)+) \|", re.MULTILINE)


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a Markdown page that lead nowhere."""
    return [
        f"{page.name}: {target}"
        for target in _LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]


def test_links_lead_somewhere() -> None:
    pages = [path for path in files() if path.suffix == ".md"]
    assert len(pages) > 3
    assert [link for page in pages for link in broken_links(page)] == []


def test_finds_a_broken_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](page.md) [b](gone.md#x) [c](https://example.org/)")
    assert broken_links(page) == ["page.md: gone.md"]


def test_architecture_lists_the_tiers_that_are_enforced() -> None:
    listed: dict[str, str] = {}
    for tier, names in _TIER.findall((ROOT / "docs" / "architecture.md").read_text()):
        listed |= dict.fromkeys(re.findall(r"\w+", names), tier)
    assert listed == {name: str(tier) for name, tier in TIERS.items()} | dict.fromkeys(ASIDE, "–")


def test_readme_opens_with_the_two_commands() -> None:
    first_screen = (ROOT / "README.md").read_text()[:600]
    assert "make demo" in first_screen and "make test" in first_screen


def test_targets_named_in_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in files():
        if page.suffix == ".md":
            named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE))
            assert named <= targets, page
