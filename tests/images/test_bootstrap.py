"""Base images: the real busybox; Debian with a stand-in for mmdebstrap, so that nothing is fetched.

The real mmdebstrap is run by the tests of the whole engine, which need a Debian image.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.images.house import House, collect, run, tar
from wherry.images.bootstrap import debian
from wherry.images.bootstrap.busybox import is_static
from wherry.images.bootstrap.settings import read_settings
from wherry.images.bootstrap.sources import Source, choose_sources, read_sources
from wherry.model.errors import Invalid, Unavailable, Unsupported
from wherry.model.views import Progress

MERGING = Path("/usr/share/mmdebstrap/hooks/merged-usr")


def bootstrap(house: House, name: str, options: Mapping[str, str] | None = None) -> list[Progress]:
    return run(collect(house.service.bootstrap(name, options or {})))


def test_busybox(house: House, tmp_path: Path) -> None:
    started = time.process_time()
    lines = bootstrap(house, "busybox")
    assert time.process_time() - started < 1
    image = house.store.resolve("busybox")
    assert lines[-1].aux == (("ID", str(image.id)),)
    assert image.config.command == ("sh",)
    root = house.snapshots.layer_path(image.chain[0])
    assert is_static((root / "bin/busybox").read_bytes())
    assert os.readlink(root / "bin/sh") == "/bin/busybox"
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert (root / "etc/passwd").read_text().startswith("root:x:0:0:")
    assert len(image.history) == 1
    # The same machine, the same image.
    other = House(tmp_path / "other")
    try:
        bootstrap(other, "docker.io/library/busybox:latest")
        assert other.store.resolve("busybox").id == image.id
    finally:
        other.close()


def test_what_cannot_be_bootstrapped(house: House) -> None:
    for name in ("fedora", "web/debian", "example.com/busybox"):
        with pytest.raises(Unsupported, match="no way to bootstrap"):
            bootstrap(house, name)
    with pytest.raises(Invalid, match="the busybox here is"):
        bootstrap(house, "busybox:0.1")
    with pytest.raises(Invalid, match="no option 'suite'"):
        bootstrap(house, "busybox", {"suite": "x"})
    for options, message in (
        ({"nosuch": "1"}, "'nosuch' is no option"),
        ({"variant": "large"}, "unknown variant"),
        ({"include": "a b; rm -rf /"}, "invalid include"),
        ({"mirror": "--option"}, "not a mirror"),
        ({"mirror": "http://x/ y"}, "invalid mirror"),
    ):
        with pytest.raises(Invalid, match=message):
            bootstrap(house, "debian:bookworm", options)
    with pytest.raises(Invalid, match="not a suite"):
        bootstrap(house, "debian:_odd")
    assert house.is_empty()


def test_a_dynamic_program_is_no_busybox_for_an_image(tmp_path: Path) -> None:
    assert not is_static(Path("/bin/sh").resolve().read_bytes())
    for data in (b"", b"#!/bin/sh\n" * 10, b"\x7fELF" + bytes(100), b"\x7fELF\2\1" + b"\xff" * 100):
        assert not is_static(data)


MIRROR = {"mirror": "file:///nowhere"}
LAYER = tar({"etc/": b"", "etc/debian_version": b"12\n"})


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script called mmdebstrap first on PATH."""
    (folder / "layer.tar").write_bytes(LAYER)
    program = folder / "mmdebstrap"
    program.write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_debian(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        'printf "%s\\n" "$@" >arguments; echo "$SOURCE_DATE_EPOCH" >epoch; test -d "$TMPDIR" || exit 9\n'
        "touch $TMPDIR/left; mount -t tmpfs none $TMPDIR\n"
        'echo "I: downloading packages with apt..." >&2; echo "I: creating tarball..." >&2; cat layer.tar'
    )
    stand_in(tmp_path, script, monkeypatch)
    lines = bootstrap(house, "debian:12-slim", MIRROR | {"include": "curl,ca-certificates"})
    image = house.store.resolve("debian:12-slim")
    assert image.config.command == ("bash",)
    assert (house.snapshots.layer_path(image.chain[0]) / "etc/debian_version").exists()
    assert [
        (line.status, line.current, line.total) for line in lines if line.id == "bootstrap"
    ] == [
        ("downloading packages with apt", 2, 7),
        ("creating tarball", 7, 7),
    ]
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert "--variant=minbase" in arguments
    assert "--include=apt,curl,ca-certificates" in arguments
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in arguments
    assert arguments[-3:] == ["bookworm", "-", "deb file:///nowhere bookworm main"]
    assert any(word.startswith("--hook-dir=") for word in arguments) == MERGING.is_dir()
    assert int((tmp_path / "epoch").read_text()) % 86400 == 0
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list((house.root / "scratch").iterdir()) == []


def test_ubuntu(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, 'printf "%s\\n" "$@" >arguments; cat layer.tar', monkeypatch)
    bootstrap(house, "ubuntu:24.04", MIRROR | {"components": "main,universe"})
    assert house.store.resolve("ubuntu:24.04").config.command == ("/bin/bash",)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-3:] == ["noble", "-", "deb file:///nowhere noble main universe"]
    assert "--include=apt" in arguments
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in arguments


def test_keys_are_those_of_the_distribution_or_given(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, 'printf "%s\\n" "$@" >arguments; cat layer.tar', monkeypatch)
    keys = tmp_path / "keys.gpg"
    keys.write_bytes(b"")
    bootstrap(house, "debian:bookworm", MIRROR | {"keyring": str(keys)})
    assert f"--keyring={keys}" in (tmp_path / "arguments").read_text().splitlines()
    for wrong in ("keys.gpg", str(tmp_path / "none.gpg"), str(tmp_path), "/x y; z"):
        with pytest.raises(Invalid, match="no file of keys"):
            bootstrap(house, "debian:bookworm", MIRROR | {"keyring": wrong})


def test_a_key_that_is_missing_is_told(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(
        tmp_path, 'echo "W: GPG error: noble: NO_PUBKEY 871920D1991BC93C" >&2; exit 1', monkeypatch
    )
    with pytest.raises(Unavailable) as caught:
        bootstrap(house, "ubuntu:24.04", MIRROR)
    assert "--keyring" in caught.value.hint and "ubuntu-archive-keyring" in caught.value.hint


def test_the_machines_way_to_its_mirror_is_taken_but_not_kept(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """apt's proxy and the like, which mmdebstrap does not read, by the real hooks."""
    apt = tmp_path / "apt-config"
    apt.write_text(
        "#!/bin/sh\ncat <<'.'\n"
        'Acquire "";\nAcquire::http "";\nAcquire::http::Proxy "http://127.0.0.1:3142";\n'
        'Acquire::https::Proxy "DIRECT";\nAcquire::Check-Valid-Until "false";\n'
        'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n'
        'Acquire::http::Proxy::own.example "DIRECT";\nAcquire::Retries "a"b";\n.\n'
    )
    apt.chmod(0o755)
    stand_in(
        tmp_path,
        "mkdir -p root/etc/apt/apt.conf.d\n"
        'for word in "$@"; do case $word in\n'
        '  --setup-hook=*) sh -c "${word#*=}" exec root; cp root/etc/apt/apt.conf.d/* meanwhile;;\n'
        '  --customize-hook=*) sh -c "${word#*=}" exec root;; esac; done; cat layer.tar',
        monkeypatch,
    )
    bootstrap(house, "debian:bookworm", MIRROR)
    assert (tmp_path / "meanwhile").read_text().splitlines() == [
        'Acquire::http::Proxy "http://127.0.0.1:3142";',
        'Acquire::https::Proxy "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy::own.example "DIRECT";',
    ]
    kept = tmp_path / "root/etc/apt/apt.conf.d"
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "docker-clean": 'APT::Keep-Downloaded-Packages "false";\n'
    }
    assert read_settings().proxies == {"http": "http://127.0.0.1:3142"}


def test_a_distribution_that_the_machine_has_no_mirror_of(house: House) -> None:
    if any("ubuntu" in source.uri for source in read_sources()):
        pytest.skip("this machine has a mirror of Ubuntu")
    with pytest.raises(Unsupported, match="no package mirror of ubuntu") as caught:
        bootstrap(house, "ubuntu:24.04")
    assert "--mirror" in caught.value.hint


def test_a_failing_mirror(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'for n in $(seq 50); do echo "line $n" >&2; done; head -c 700 layer.tar; exit 25'
    stand_in(tmp_path, script, monkeypatch)
    with pytest.raises(Unavailable) as caught:
        bootstrap(house, "debian:bookworm", MIRROR)
    assert "line 50" in caught.value.message and "line 30" not in caught.value.message
    assert house.is_empty()
    assert list((house.root / "scratch").iterdir()) == []


def test_no_mmdebstrap(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported) as caught:
        bootstrap(house, "debian:bookworm")
    assert "apt-get install mmdebstrap" in caught.value.hint


def test_cancelled(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that it started ends with it, at once, and nothing stays."""
    script = (
        'echo "I: running apt-get update..." >&2\n'
        "mkfifo held; (exec 3>held; setsid sleep 600) & cat layer.tar layer.tar; sleep 600"
    )
    stand_in(tmp_path, script, monkeypatch)

    async def main() -> None:
        task = asyncio.create_task(collect(house.service.bootstrap("debian:bookworm", MIRROR)))
        deadline = time.monotonic() + 30
        while not (tmp_path / "held").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        # A reader's end opens as soon as the daughter has the writer's: she runs now.
        held = await asyncio.to_thread(os.open, tmp_path / "held", os.O_RDONLY)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)
        # It reads as ended when no process holds the writer's end any more.
        assert await asyncio.wait_for(asyncio.to_thread(os.read, held, 1), 30) == b""
        os.close(held)

    run(main())
    assert house.is_empty()
    assert list((house.root / "scratch").iterdir()) == []


def test_leftovers_of_a_killed_one_are_cleared(house: House) -> None:
    leftover = house.root / "scratch" / "bootstrap-x" / "tree"
    leftover.mkdir(parents=True)
    house.service.sweep()
    assert list((house.root / "scratch").iterdir()) == []


SOURCES = """\
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/key.gpg

# a remark
Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Enabled: yes

Types: deb
URIs: http://other.example/tools
Suites: bookworm
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
LIST = """\
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://old.example/debian/ bookworm main # remark
deb-src http://old.example/debian bookworm main
deb http://tools.example/apt nodistro main
"""


def test_the_machine_s_mirrors(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(SOURCES)
    (tmp_path / "sources.list.d" / "off.disabled").write_text(LIST)
    found = read_sources(tmp_path)
    assert len(found) == 4
    chosen = choose_sources(found, "debian", "trixie", "bookworm")
    assert [source.render_line() for source in chosen] == [
        "deb [signed-by=/usr/share/keyrings/key.gpg] http://mirror.example/debian trixie main contrib",
        "deb [signed-by=/usr/share/keyrings/key.gpg] http://mirror.example/debian trixie-updates main contrib",
        "deb http://mirror.example/debian-security trixie-security main",
    ]
    assert [s.suite for s in choose_sources(found, "debian", "sid", "bookworm")] == ["sid"]
    with pytest.raises(Unsupported, match="no package mirror of ubuntu"):
        choose_sources(found, "ubuntu", "noble", "bookworm")
    (tmp_path / "sources.list").write_text(LIST)
    assert read_sources(tmp_path)[:1] == [
        Source("http://old.example/debian/", "bookworm", ("main",), "/k.gpg")
    ]


def test_every_distribution_has_a_shell() -> None:
    assert set(debian.DISTRIBUTIONS) == set(debian._SHELLS)  # pyright: ignore[reportPrivateUsage]
