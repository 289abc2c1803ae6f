"""Which programs run here, and what runs those that do not."""

from __future__ import annotations

import os
import platform
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Unsupported
from wherry.model.oci import Emulator
from wherry.runtime import emulation
from wherry.runtime.emulation import (
    MACHINES,
    choose_emulator,
    emulated,
    find_program,
    is_static,
    registration,
)

# As qemu's own scripts/qemu-binfmt-conf.sh has it.
_ARM64 = "7f454c460201010000000000000000000200b700"
_S390X = "7f454c4602020100000000000000000000020016"


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of one kind, with nothing registered."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "release", lambda: "6.8.0-amd64")
    monkeypatch.setattr(emulation, "emulated", lambda _: False)


@pytest.fixture
def qemu(tmp_path: Path) -> Path:
    """A program without a loader by the name that is looked for: a header, and one segment to load."""
    made = tmp_path / "qemu-aarch64-static"
    head = struct.pack("<7s25xQ14xHH6x", b"\x7fELF\x02\x01\x01", 64, 56, 1)
    made.write_bytes(head + struct.pack("<I52x", 1))
    made.chmod(0o755)
    return made


def test_what_executables_of_a_machine_begin_with() -> None:
    assert MACHINES["arm64"].magic.hex() == _ARM64
    assert MACHINES["arm64"].mask.hex() == "ffffffffffffff00fffffffffffffffffeffffff"
    assert MACHINES["s390x"].magic.hex() == _S390X
    assert MACHINES["s390x"].mask.hex() == "ffffffffffffff00fffffffffffffffffffeffff"
    assert MACHINES["arm"].magic.hex() == "7f454c4601010100000000000000000002002800"


def test_registration_is_what_the_kernel_reads() -> None:
    line = registration(Emulator("arm64", "/x", b"\x7fE:\n", b"\xff\0"), "qemu-aarch64")
    assert line == rb":arm64:M::\x7f\x45\x3a\x0a:\xff\x00:qemu-aarch64:POCF"


@pytest.mark.parametrize("architecture", ["", "amd64", "386"])
def test_what_the_machine_runs_needs_nothing(architecture: str) -> None:
    assert choose_emulator(architecture, path="") is None


def test_what_the_hosts_binfmt_knows_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "emulated", lambda name: name == "arm64")
    assert choose_emulator("arm64", own=False, path="") is None


def test_an_installed_emulator_is_chosen(qemu: Path) -> None:
    found = choose_emulator("arm64", path=f"/nowhere:{qemu.parent}")
    machine = MACHINES["arm64"]
    assert found == Emulator("arm64", str(qemu), machine.magic, machine.mask)


def test_each_way_out_is_told(qemu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(qemu.parent)
    for architecture, own, said in (
        ("s390x", True, "install a static qemu-s390x"),
        ("arm64", False, "register qemu-aarch64"),
        ("vax", True, "no emulator of it is known"),
    ):
        with pytest.raises(Unsupported, match=f"programs of linux/{architecture}") as failed:
            choose_emulator(architecture, own=own, path=folder)
        assert said in failed.value.hint
    monkeypatch.setattr(platform, "release", lambda: "6.6.12")
    with pytest.raises(Unsupported) as failed:
        choose_emulator("arm64", path=folder)
    assert "Linux 6.7" in failed.value.hint


def test_one_with_a_loader_is_passed_over(qemu: Path) -> None:
    python = os.path.realpath(sys.executable)
    (qemu.parent / "qemu-s390x").symlink_to(python)
    assert is_static(str(qemu)) and not is_static(python)
    assert find_program(MACHINES["s390x"], str(qemu.parent)) == ""


@given(st.binary(max_size=200))
def test_no_file_is_too_odd_to_be_looked_at(data: bytes) -> None:
    where = Path("/dev/shm") / f"wherry-emulation-{os.getpid()}"
    for head in (b"", b"\x7fELF\x02\x01", b"\x7fELF\x01\x02"):
        where.write_bytes(head + data)
        try:
            assert is_static(str(where)) in (True, False)
        finally:
            where.unlink()


def test_emulators_of_the_host_are_known_by_what_they_match(tmp_path: Path) -> None:
    entry = f"enabled\ninterpreter /usr/bin/x\nflags: OCF\noffset 0\nmagic {_ARM64}\nmask "
    mask = "ffffffffffffff00fffffffffffffffffeffffff"
    (tmp_path / "status").write_text("enabled\n")
    assert not emulated("arm64", str(tmp_path))
    (tmp_path / "any-name").write_text(entry + mask)
    assert emulated("arm64", str(tmp_path)) and not emulated("s390x", str(tmp_path))
    assert not emulated("riscv64", str(tmp_path))
    for wrong in (("enabled", "disabled"), ("OCF", "OC"), ("offset 0", "offset 4")):
        (tmp_path / "any-name").write_text(entry.replace(*wrong) + mask)
        assert not emulated("arm64", str(tmp_path))
    assert not emulated("arm64", str(tmp_path / "none"))
