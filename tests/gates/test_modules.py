"""Rooms are small and say what they are: docstrings, sizes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.gates.sources import SOURCE, Module, modules, parse

LONGEST = 500
_REASON = re.compile(r"\b(long|longer|lines|split|splitting)\b", re.IGNORECASE)
# What asyncio and other callers of the standard library define, and so document.
STANDARD_METHODS = {
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "datagram_received",
    "error_received",
    "readable",
    "writable",
    "seekable",
    "readinto",
}
# Its methods have the names of system calls: section 2 of the manual documents them.
SYSTEM_CALLS = "wherry.kernel.calls"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def test_long_modules_say_why() -> None:
    sizes = {module.where: len(module.path.read_text().splitlines()) for module in modules()}
    silent = [
        f"{module.where}: {sizes[module.where]} lines, and its docstring does not say why"
        for module in modules()
        if sizes[module.where] > LONGEST
        and not _REASON.search(ast.get_docstring(module.tree) or "")
    ]
    report = "\n".join(
        f"{n:5} {name}" for name, n in sorted(sizes.items(), key=lambda i: -i[1])[:10]
    )
    print(f"the ten longest of {len(sizes)} modules, {sum(sizes.values())} lines in all:\n{report}")
    assert not silent, "\n" + "\n".join(silent)


def test_every_module_has_a_docstring() -> None:
    assert [module.where for module in modules() if not ast.get_docstring(module.tree)] == []


def test_package_docstrings_say_more_than_a_name() -> None:
    """A package's docstring says what it owns, what it refuses and what to read first."""
    short = [
        module.where
        for module in modules()
        if module.path.parent.parent == SOURCE
        and module.is_package
        and len((ast.get_docstring(module.tree) or "").split()) < 12
    ]
    assert short == []


def test_public_things_have_docstrings() -> None:
    inherited = set(STANDARD_METHODS)
    for module in modules():
        inherited |= protocol_methods(module, bare=module.name == SYSTEM_CALLS)
    bare = [
        f"{module.where}:{line}: {name}"
        for module in modules()
        for line, name in undocumented(module, inherited)
    ]
    assert not bare, f"{len(bare)} without a docstring:\n" + "\n".join(bare)


def protocol_methods(module: Module, *, bare: bool) -> set[str]:
    """Return the names of methods that a Protocol or a base class in `module` documents.

    With `bare`, of those too that it only declares.
    """
    classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    bases = {ast.unparse(base).split("[")[0] for node in classes for base in node.bases}
    return {
        method.name
        for node in classes
        if node.name in bases or _is_protocol(node)
        for method in _definitions(node)
        if bare or ast.get_docstring(method)
    }


def undocumented(module: Module, inherited: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name of public classes, functions and methods without a docstring.

    A method may rely on the docstring of the Protocol or base class it fulfils. A Protocol's
    own methods may do without where name and types say all: what fulfils it is then documented.
    """
    for node in _definitions(module.tree):
        if node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.lineno, node.name
        if isinstance(node, ast.ClassDef) and not _is_protocol(node):
            for method in _definitions(node):
                if (
                    not method.name.startswith("_")
                    and method.name not in inherited
                    and not ast.get_docstring(method)
                    and not _is_setter_or_overload(method)
                ):
                    yield method.lineno, f"{node.name}.{method.name}"


def _is_protocol(node: ast.ClassDef) -> bool:
    # asyncio.Protocol is a base class of another kind.
    return any(ast.unparse(b).split("[")[0] in {"Protocol", "typing.Protocol"} for b in node.bases)


def _definitions(parent: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    for node in parent.body:
        if isinstance(node, Definition):
            yield node


def _is_setter_or_overload(node: Definition) -> bool:
    words = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(word.endswith((".setter", "overload", "override")) for word in words)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(): ...", ["f"]),
        ("async def f(): ...", ["f"]),
        ('class A:\n "a"\n def m(self): ...', ["A.m"]),
        ('class A:\n "a"\n def fulfilled(self): ...\n def _m(self): ...', []),
        ("class A: ...", ["A"]),
        ('def f():\n "doc"\n def g(): ...', []),
        ("def _f(): ...", []),
        ('class P(Protocol):\n "a"\n def m(self): ...', []),
    ],
)
def test_undocumented(text: str, names: list[str]) -> None:
    module = Module("wherry.x", SOURCE / "x.py", ast.parse(text))
    assert [name for _, name in undocumented(module, {"fulfilled"})] == names


def test_protocol_methods_count_as_documented() -> None:
    text = 'class P(Protocol):\n def m(self):\n  "doc"\n def n(self): ...\n'
    module = Module("wherry.x", SOURCE / "x.py", ast.parse(text))
    assert protocol_methods(module, bare=False) == {"m"}
    assert protocol_methods(module, bare=True) == {"m", "n"}


def test_modules_are_named_by_their_path() -> None:
    assert parse(SOURCE / "__init__.py").name == "wherry"
    assert parse(SOURCE / "model" / "ids.py").name == "wherry.model.ids"
