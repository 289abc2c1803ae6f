"""Imports go down the tiers, never sideways or up; the lowest floors use the standard library only."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.gates.sources import SOURCE, Module, imports, modules

TIERS = {
    "model": 1,
    "kernel": 2,
    "http": 2,
    "tls": 2,
    "storage": 3,
    "runtime": 3,
    "registry": 3,
    "network": 3,
    "supervisor": 4,
    "images": 4,
    "containers": 5,
    "build": 5,
    "vm": 5,
    "api": 6,
    "cri": 6,
    "daemon": 7,
}
# Outside the tiers: what each may see besides itself.
ASIDE = {
    "client": {"model", "tls"},
    "cli": {"model", "client"},
    "compose": {"model", "client"},
    "dashboard": {"model", "client"},
    "testing": set(TIERS),
}
STANDARD_ONLY = {"model", "kernel", "tls", "runtime", "supervisor"}
# The daemon's end of the supervisor's socket lives in the daemon's event loop.
IN_THE_LOOP = {"wherry.supervisor.client"}
TOP = {"wherry.__version__"}


def objection(importer: str, imported: str) -> str | None:
    """Return why module `importer` may not import `imported` (both dotted), or None."""
    name, *rest = imported.split(".")
    package = importer.split(".")[1] if "." in importer else ""
    if name != "wherry":
        return _foreign_objection(importer, package, name)
    if imported in TOP:
        return None
    if not package:
        return "wherry itself imports nothing of the house"
    other = rest[0] if rest else ""
    if other == package:
        return None
    if package in ASIDE:
        return None if other in ASIDE[package] else f"{package} sees only {ASIDE[package]}"
    if other not in TIERS:
        return f"{other or 'wherry'} is not below any tier"
    if TIERS[other] == TIERS[package]:
        return f"{other} is a sibling: declare a Protocol"
    return f"{other} is above {package}" if TIERS[other] > TIERS[package] else None


def _foreign_objection(importer: str, package: str, name: str) -> str | None:
    if name in {"ctypes", "_ctypes"} and package != "kernel":
        return "only kernel touches ctypes"
    if package not in STANDARD_ONLY or importer in IN_THE_LOOP:
        return None
    if name == "asyncio":
        return f"{package} starts fast and forks: no asyncio"
    return None if name in sys.stdlib_module_names else f"{package} uses the standard library only"


def test_every_package_has_a_tier() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages <= TIERS.keys() | ASIDE.keys()


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert [str(path) for path in sorted(folders) if not (path / "__init__.py").exists()] == []


def test_imports_go_down() -> None:
    broken = [
        f"{module.where}:{line}: {name}: {why}"
        for module in modules()
        for line, name in imports(module)
        if (why := objection(module.name, name))
    ]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("wherry.storage.layers", "wherry.runtime.plan"),
        ("wherry.storage.layers", "wherry.images.store"),
        ("wherry.model.ids", "wherry.kernel.abi"),
        ("wherry.cli.start", "wherry.api.wire"),
        ("wherry.client.http", "wherry.kernel.probe"),
        ("wherry.api.server", "wherry.cli.start"),
        ("wherry.api.server", "wherry.testing.kernel"),
        ("wherry.daemon.main", "wherry.client"),
        ("wherry", "wherry.daemon"),
        ("wherry.model.ids", "msgspec"),
        ("wherry.runtime.child", "asyncio"),
        ("wherry.supervisor.loop", "asyncio.events"),
        ("wherry.storage.layers", "ctypes"),
        ("wherry.cli.run", "ctypes.util"),
    ],
)
def test_objects(importer: str, imported: str) -> None:
    assert objection(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("wherry.storage.layers", "wherry.kernel.paths"),
        ("wherry.storage.layers", "wherry.storage.content"),
        ("wherry.storage.layers", "isal"),
        ("wherry.supervisor.client", "asyncio"),
        ("wherry.cli.start", "wherry.client.http"),
        ("wherry.cli.version", "wherry.__version__"),
        ("wherry.kernel.calls", "ctypes.util"),
    ],
)
def test_allows(importer: str, imported: str) -> None:
    assert objection(importer, imported) is None


def test_finds_imports_of_every_form() -> None:
    text = """
import a.b, c
from d import e
from . import f
from ..kernel import g
def late():
    from h.i import j
    importlib.import_module("k.l")
    __import__("m")
"""
    module = Module("wherry.storage.layers", SOURCE / "storage" / "layers.py", ast.parse(text))
    assert {name for _, name in imports(module)} == {
        "a.b",
        "c",
        "d.e",
        "wherry.storage.f",
        "wherry.kernel.g",
        "h.i.j",
        "k.l",
        "m",
    }


def test_tls_contexts_are_made_in_one_place() -> None:
    """What one of them forgets (the version, the authority's error) no other can."""
    makers = ("SSLContext(", "create_default_context(", "_create_unverified_context(")
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if any(maker in path.read_text() for maker in makers)
    }
    assert found == {"tls/contexts.py"}
