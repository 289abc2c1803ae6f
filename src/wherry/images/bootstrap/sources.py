"""The machine's configured package mirrors, read from apt's own configuration.

Source: sources.list(5), both styles. No mirror is built in: a machine that is configured for one
can bootstrap from it, another needs the option `mirror`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.model.errors import Unsupported

_APT = Path("/etc/apt")
_OS_RELEASE = Path("/etc/os-release")
_ONE_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)")
_ROLLING = frozenset({"sid", "unstable", "experimental"})
_POCKETS = ("", "-updates", "-security")


@dataclass(frozen=True, slots=True)
class Source:
    """One archive: a mirror, the suite asked of it, its components, the key that signs it."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""

    def render_line(self) -> str:
        """Return the one-line style."""
        option = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {option}{self.uri} {self.suite} {' '.join(self.components)}"


def read_sources(folder: Path = _APT) -> list[Source]:
    """Return all binary archives that apt is configured with."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        if file.suffix == ".sources":
            found += _paragraphs(text)
        elif file.suffix == ".list" or file.name == "sources.list":
            found += _lines(text)
    return found


def choose_sources(
    sources: Sequence[Source], distribution: str, suite: str, here: str
) -> list[Source]:
    """Return what of `sources`, made for the suite `here`, serves `suite` of `distribution`.

    The main archive, its updates and its security updates, as far as they are configured for this
    machine. Raises Unsupported where there is none for that distribution.
    """
    chosen: list[Source] = []
    for source in sources:
        pocket = source.suite.removeprefix(here)
        path = source.uri.rstrip("/").rpartition("/")[2]
        if not source.suite.startswith(here) or pocket not in _POCKETS:
            continue
        if path.removesuffix("-security").removesuffix("-ports") != distribution:
            continue
        if pocket and suite in _ROLLING:
            continue
        wanted = Source(source.uri, suite + pocket, source.components, _key(source.signed_by))
        if wanted not in chosen:
            chosen.append(wanted)
    if not any(source.suite == suite for source in chosen):
        raise Unsupported(
            f"this machine has no package mirror of {distribution} configured",
            hint="give one: wherry image bootstrap --mirror URL",
        )
    return sorted(chosen, key=lambda source: source.suite != suite)


def read_release(path: Path = _OS_RELEASE) -> tuple[str, str]:
    """Return this machine's distribution and suite (`debian`, `bookworm`), "" where it does not say."""
    facts: dict[str, str] = {}
    try:
        text = path.read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        facts[name] = value.strip("\"'")
    return facts.get("ID", ""), facts.get("VERSION_CODENAME", "")


def _key(text: str) -> str:
    # A key given in the file itself cannot be named in one line; apt's trusted keys must do then.
    return text if text.startswith("/") and " " not in text and "\n" not in text else ""


def _lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match is None:
            continue
        signed_by = ""
        for word in (match[1] or "").split():
            name, _, value = word.partition("=")
            if name == "signed-by":
                signed_by = value
        yield Source(match[2], match[3], tuple(match[4].split()), signed_by)


def _paragraphs(text: str) -> Iterator[Source]:
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and last:
                fields[last] += "\n" + line.strip()
                continue
            name, colon, value = line.partition(":")
            if colon:
                last = name.strip().lower()
                fields[last] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "") == "no":
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, components, fields.get("signed-by", ""))
