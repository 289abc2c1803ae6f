"""Finds the project's files and parses its modules."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "wherry"


@dataclass(frozen=True, slots=True)
class Module:
    """One module of src/: its dotted name, its file and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether this is a package's `__init__`."""
        return self.path.name == "__init__.py"

    @property
    def where(self) -> str:
        """The file's path from the root of the checkout."""
        return str(self.path.relative_to(ROOT))


@cache
def modules() -> tuple[Module, ...]:
    """Return every module under src/wherry, by name."""
    return tuple(parse(path) for path in sorted(SOURCE.rglob("*.py")))


def parse(path: Path) -> Module:
    """Return the module in the file `path`, which is below src/."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, ast.parse(path.read_bytes(), str(path)))


@cache
def files() -> tuple[Path, ...]:
    """Return the project's files: what git tracks or would, or all of a tree without git."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not _made(path)]
    return tuple(sorted({path for path in found if path.is_file()}))


def _made(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return parts[0] in {".venv", "build", "dist", ".git", ".cache"} or any(
        part == "__pycache__" or part.endswith(("_cache", ".egg-info")) for part in parts
    )


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything `module` imports, inside functions too."""
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                full = ".".join([*base, *([origin] if origin else [])])
                # `from wherry import cli` names the package in its list, not in its origin.
                yield from ((node.lineno, f"{full}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case _:
                pass
