"""`pip install .`, not editable, gives three commands that run away from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.gates.sources import ROOT, SOURCE

COMMANDS = ("wherry", "wherryd", "wherry-runtime")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with wherry installed in it from a copy of the source."""
    root = tmp_path_factory.mktemp("install")
    copy, venv = root / "copy", root / "venv"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "packaging" / "bin", copy / "packaging" / "bin")
    shutil.copytree(SOURCE, copy / "src" / "wherry", ignore=shutil.ignore_patterns("__pycache__"))
    _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    python = venv / "bin" / "python"
    # The dependencies (and pip) are those of the running environment. A path added this way does
    # not run the .pth files it holds, so the editable wherry in it stays out of sight.
    site = _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    building = ("wheel", "--no-deps", "--no-build-isolation", "-w", str(root), str(copy))
    _run(sys.executable, *pip, *building)
    (wheel,) = root.glob("wherry-*.whl")
    _run(str(python), *pip, "install", "--no-deps", "--ignore-installed", str(wheel))
    return venv


def test_installs_the_package_whole(environment: Path) -> None:
    """Every module and every data file of the source is there."""
    python = str(environment / "bin" / "python")
    where = Path(_run(python, "-c", "import wherry; print(wherry.__file__)").strip()).parent
    assert environment in where.parents
    installed = {str(p.relative_to(where)) for p in where.rglob("*") if p.is_file()}
    source = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*") if p.is_file()}
    missing = {name for name in source - installed if "__pycache__" not in name}
    assert not missing


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(environment: Path, command: str) -> None:
    out = _run(str(environment / "bin" / command), "--version")
    assert out.strip(), "--version printed nothing"


def test_wherry_starts_without_site(environment: Path, tmp_path: Path) -> None:
    """And is found through a link; both are what its launcher is for."""
    python = str(environment / "bin" / "python")
    packages = Path(
        _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    marker, customize = tmp_path / "site-ran", packages / "sitecustomize.py"
    customize.write_text(f"open({str(marker)!r}, 'w')\n")
    link = tmp_path / "linked"
    link.symlink_to(environment / "bin" / "wherry")
    try:
        assert _run(str(link), "--version") == _run("sh", str(link), "--version")
        assert not marker.exists()
        _run(python, "-c", "")
        assert marker.exists()
    finally:
        customize.unlink()


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", check=False, timeout=60)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
