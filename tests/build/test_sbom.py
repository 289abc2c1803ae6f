"""Bills of materials: what is installed is found, and nothing that an image holds breaks the search."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.build.sbom.golang import MAGIC, read_go
from wherry.build.sbom.packages import (
    Package,
    read_apk,
    read_dpkg,
    read_node,
    read_os_release,
    read_python,
)
from wherry.build.sbom.scan import scan
from wherry.build.sbom.spdx import bill

DEBIAN = {"ID": "debian", "VERSION_ID": "12"}
STATUS = b"""Package: bash
Status: install ok installed
Maintainer: Matthias <doko@debian.org>
Architecture: amd64
Source: bash-src (5.2-1)
Version: 5.2.15-2+b7
Description: shell
 long text
  more

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2:2.36
"""
INSTALLED = b"""C:Q1abc
P:musl
V:1.2.4-r2
A:x86_64
L:MIT
o:musl
m:Timo <t@alpine>
U:https://musl.libc.org/
F:lib
R:libc.so

P:ssl_client
V:1.36
o:busybox
"""


def scanned(root: Path) -> list[Package]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return scan(fd)
    finally:
        os.close(fd)


def put(root: Path, name: str, data: bytes, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def test_dpkg() -> None:
    bash, libc = read_dpkg(STATUS, "status", DEBIAN)
    assert (bash.name, bash.version, bash.supplier) == (
        "bash",
        "5.2.15-2+b7",
        "Matthias <doko@debian.org>",
    )
    assert bash.url == (
        "pkg:deb/debian/bash@5.2.15-2+b7?arch=amd64&distro=debian-12&upstream=bash-src%405.2-1"
    )
    assert libc.url == "pkg:deb/debian/libc6@2:2.36?arch=amd64&distro=debian-12"


def test_apk() -> None:
    musl, client = read_apk(INSTALLED, "installed", {"ID": "alpine", "VERSION_ID": "3.19"})
    assert (musl.licence, musl.homepage) == ("MIT", "https://musl.libc.org/")
    assert musl.url == "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19"
    assert "upstream=busybox" in client.url


def test_python_and_node() -> None:
    (found,) = read_python(
        b"Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\nLicense: MIT\n\nName: text\n", "x"
    )
    assert found.url == "pkg:pypi/foo-bar@1.0" and found.licence == "MIT"
    (found,) = read_node(b'{"name": "@scope/pkg", "version": "2.0.0", "license": "ISC"}', "x")
    assert found.url == "pkg:npm/%40scope/pkg@2.0.0" and found.licence == "ISC"
    assert not list(read_node(b'{"private": true}', "x"))


def go_data(version: str, modules: str) -> bytes:
    """What Go's linker writes (debug/buildinfo)."""

    def string(text: bytes) -> bytes:
        length, out = len(text), b""
        while True:
            out += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
            length >>= 7
            if not length:
                return out + text

    said = b"s" * 16 + modules.encode() + b"e" * 16
    head = MAGIC + bytes([8, 2])
    return head + bytes(32 - len(head)) + string(version.encode()) + string(said)


def test_go() -> None:
    modules = (
        "path\texample.org/app\nmod\texample.org/app\t(devel)\t\n"
        "dep\tgolang.org/x/sys\tv0.1.0\th1:abc=\ndep\told.org/x\tv1.0.0\n=>\tnew.org/y\tv2.0.0\th1:x=\n"
    )
    assert [one.url for one in read_go(go_data("go1.22.1", modules), "app")] == [
        "pkg:golang/stdlib@1.22.1",
        "pkg:golang/example.org/app",
        "pkg:golang/golang.org/x/sys@v0.1.0",
        "pkg:golang/new.org/y@v2.0.0",
    ]


def test_a_tree(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/os-release", b'ID=debian\nVERSION_ID="12"\n')
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("/usr/lib/os-release")
    put(tmp_path, "var/lib/dpkg/status", STATUS)
    put(tmp_path, "var/lib/dpkg/status.d/tzdata", b"Package: tzdata\nVersion: 2024a\n")
    put(tmp_path, "var/lib/dpkg/status.d/tzdata.md5sums", b"Package: wrong\n")
    put(tmp_path, "lib/apk/db/installed", INSTALLED)
    put(tmp_path, "p/site-packages/a-1.dist-info/METADATA", b"Name: a\nVersion: 1\n")
    put(tmp_path, "w/node_modules/n/package.json", b'{"name": "n", "version": "3"}')
    put(tmp_path, "w/node_modules/n/lib/package.json", b'{"name": "inner", "version": "3"}')
    program = b"\x7fELF" + bytes(5 << 20) + go_data("go1.20", "dep\tx.org/y\tv1\n")
    put(tmp_path, "usr/bin/app", program, 0o755)
    put(tmp_path, "usr/share/data", program)
    names = [(one.kind, one.name) for one in scanned(tmp_path)]
    assert names == [
        ("apk", "musl"), ("apk", "ssl_client"), ("deb", "bash"), ("deb", "libc6"), ("deb", "tzdata"),
        ("golang", "stdlib"), ("golang", "y"), ("npm", "n"), ("pypi", "a"),
    ]  # fmt: skip
    assert all("distro=debian-12" in one.url for one in scanned(tmp_path) if one.kind == "deb")


def test_what_a_hostile_tree_holds_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "x/outside", STATUS)
    root = tmp_path / "root"
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").symlink_to("../../../../x/outside")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "package.json")
    (root / "a.dist-info").mkdir()
    os.mkfifo(root / "a.dist-info/METADATA")
    put(root, "bin/app", b"\x7fELF" + bytes(8192) + MAGIC + b"\x08\x02" + b"\xff" * 40, 0o755)
    assert scanned(root) == []


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="a machine of Debian's")
def test_this_machine_says_what_dpkg_says() -> None:
    data = Path("/var/lib/dpkg/status").read_bytes()
    found = {(one.name, one.version) for one in read_dpkg(data, "status", DEBIAN)}
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"],
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    rows = [line.split() for line in said.splitlines()]
    assert found == {(row[1], row[2]) for row in rows if row[0] == "installed"}


def test_the_document() -> None:
    packages = [*read_dpkg(STATUS, "var/lib/dpkg/status", DEBIAN), *read_apk(INSTALLED, "i", {})]
    made = bill(packages, "sbom", 1_700_000_000)
    assert made.predicate_type == "https://spdx.dev/Document"
    document = json.loads(msgspec.json.encode(made.predicate))
    assert document["spdxVersion"] == "SPDX-2.3" and document["SPDXID"] == "SPDXRef-DOCUMENT"
    assert document["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    identifiers = [one["SPDXID"] for one in document["packages"]]
    assert len(set(identifiers)) == len(packages) == 4
    assert {one["relatedSpdxElement"] for one in document["relationships"]} == set(identifiers)
    musl = next(one for one in document["packages"] if one["name"] == "musl")
    assert musl["licenseDeclared"] == "MIT" and musl["versionInfo"] == "1.2.4-r2"
    assert musl["externalRefs"][0]["referenceLocator"].startswith("pkg:apk/")
    assert bill(packages, "sbom", 1_700_000_000) == made


READERS: list[Callable[[bytes], Iterator[Package]]] = [
    lambda data: read_dpkg(data, "f", DEBIAN),
    lambda data: read_apk(data, "f", DEBIAN),
    lambda data: read_python(data, "f"),
    lambda data: read_node(data, "f"),
    lambda data: read_go(MAGIC + data, "f"),
]


@given(st.sampled_from(READERS), st.binary(max_size=400))
def test_any_bytes_are_read(reader: Callable[[bytes], Iterator[Package]], data: bytes) -> None:
    msgspec.json.encode(bill(list(reader(data)), "x", 0).predicate)
    read_os_release(data)


@given(
    st.sampled_from(READERS),
    st.lists(
        st.sampled_from(
            [
                b"Package: a",
                b"Name: a",
                b"P:a",
                b"Version: \xff",
                b"V:",
                b" x",
                b"",
                b":",
                b'{"name":',
            ]
        )
    ),
)
def test_any_lines_are_read(
    reader: Callable[[bytes], Iterator[Package]], lines: list[bytes]
) -> None:
    msgspec.json.encode(bill(list(reader(b"\n".join(lines))), "x", 0).predicate)
