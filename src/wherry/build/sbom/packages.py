"""Packages as their managers write them down: dpkg, apk, Python, Node. Bytes to facts; pure, for hostile input.

Source: deb-control(5) and dpkg's status file; apk's installed data base (wiki.alpinelinux.org, Apk spec);
the core metadata specification of Python packages; npm's package.json; the package URL specification.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

_LONGEST = 4096
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Package:
    """One package. `found_in` is the file that tells of it."""

    kind: str
    """Of the package URL: `deb`, `apk`, `pypi`, `npm`, `golang`."""
    name: str
    version: str
    found_in: str
    licence: str = ""
    supplier: str = ""
    homepage: str = ""
    qualifiers: Mapping[str, str] = field(default_factory=dict[str, str])
    namespace: str = ""

    @property
    def url(self) -> str:
        """The package URL: `pkg:deb/debian/bash@5.2.15-2?arch=amd64`."""
        parts = [
            quote(part, safe="") for part in (*self.namespace.split("/"), *self.name.split("/"))
        ]
        path = "/".join(part for part in parts if part)
        version = f"@{quote(self.version, safe='+:~-._')}" if self.version else ""
        pairs = sorted((name, value) for name, value in self.qualifiers.items() if value)
        query = "&".join(f"{name}={quote(value, safe=':')}" for name, value in pairs)
        return f"pkg:{self.kind}/{path}{version}" + (f"?{query}" if query else "")


def fields_of(data: bytes) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a file in Debian's control format; names are in lower case."""
    found: dict[str, str] = {}
    last = ""
    for line in data.decode("utf-8", "replace").split("\n"):
        if not line.strip():
            if found:
                yield found
            found, last = {}, ""
        elif line[0] in " \t":
            if last and len(found[last]) < _LONGEST:
                found[last] += f"\n{line.strip()}"
        else:
            name, colon, value = line.partition(":")
            if colon:
                last = name.lower()
                found[last] = value.strip()[:_LONGEST]
    if found:
        yield found


def read_dpkg(data: bytes, found_in: str, system: Mapping[str, str]) -> Iterator[Package]:
    """Yield the installed packages of dpkg's status; `system` is /etc/os-release."""
    for entry in fields_of(data):
        status = entry.get("status", "install ok installed").split()
        if not entry.get("package") or status[-1:] != ["installed"]:
            continue
        source, _, rest = entry.get("source", "").partition(" ")
        upstream = source + (f"@{rest.strip('() ')}" if source and rest else "")
        yield Package(
            "deb",
            entry["package"],
            entry.get("version", ""),
            found_in,
            supplier=entry.get("maintainer", ""),
            homepage=entry.get("homepage", ""),
            qualifiers={
                "arch": entry.get("architecture", ""),
                "upstream": upstream,
                "distro": _distro(system),
            },
            namespace=system.get("ID", "debian"),
        )


def read_apk(data: bytes, found_in: str, system: Mapping[str, str]) -> Iterator[Package]:
    """Yield the packages of apk's data base of what is installed."""
    for paragraph in data.decode("utf-8", "replace").split("\n\n"):
        entry: dict[str, str] = {}
        for line in paragraph.split("\n"):
            letter, colon, value = line.partition(":")
            if colon and len(letter) == 1:
                entry.setdefault(letter, value[:_LONGEST])
        if not entry.get("P"):
            continue
        yield Package(
            "apk",
            entry["P"],
            entry.get("V", ""),
            found_in,
            licence=entry.get("L", ""),
            supplier=entry.get("m", ""),
            homepage=entry.get("U", ""),
            qualifiers={
                "arch": entry.get("A", ""),
                "upstream": entry.get("o", "") if entry.get("o") != entry["P"] else "",
                "distro": _distro(system),
            },
            namespace=system.get("ID", "alpine"),
        )


def read_python(data: bytes, found_in: str) -> Iterator[Package]:
    """Yield the package of a METADATA or PKG-INFO."""
    head = data.partition(b"\n\n")[0]
    nothing: dict[str, str] = {}
    entry = next(fields_of(head), nothing)
    if not _REQUIREMENT.fullmatch(entry.get("name", "")):
        return
    licence = entry.get("license-expression") or entry.get("license", "")
    yield Package(
        "pypi",
        re.sub(r"[-_.]+", "-", entry["name"]).lower(),
        entry.get("version", ""),
        found_in,
        licence=licence.partition("\n")[0],
        supplier=entry.get("author", "") or entry.get("author-email", ""),
        homepage=entry.get("home-page", ""),
    )


def read_node(data: bytes, found_in: str) -> Iterator[Package]:
    """Yield the package of a package.json in a node_modules."""
    try:
        loaded: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(loaded, dict):
        return
    entry = cast("dict[str, object]", loaded)
    name = entry.get("name")
    version = entry.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not name:
        return
    homepage = entry.get("homepage")
    licence = entry.get("license")
    if isinstance(licence, dict):
        licence = cast("dict[str, object]", licence).get("type")
    namespace, slash, bare = name[:_LONGEST].rpartition("/")
    yield Package(
        "npm",
        bare,
        version[:_LONGEST],
        found_in,
        licence=licence[:_LONGEST] if isinstance(licence, str) else "",
        homepage=homepage[:_LONGEST] if isinstance(homepage, str) else "",
        namespace=namespace if slash else "",
    )


def read_os_release(data: bytes) -> dict[str, str]:
    """Return the variables of /etc/os-release."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            found[name] = value.strip("\"'")[:_LONGEST]
    return found


def _distro(system: Mapping[str, str]) -> str:
    name, version = system.get("ID", ""), system.get("VERSION_ID", "")
    return f"{name}-{version}" if name and version else name
