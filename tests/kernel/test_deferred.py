"""Modules that are loaded when something is taken from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wherry

_SOURCE = str(Path(wherry.__file__).parents[1])
_BEGIN = """
import sys; sys.path.insert(0, sys.argv[1])
from wherry.kernel.deferred import defer
defer("inspect", "colorsys", "sys")
real = lambda name: type(sys.modules[name]).__name__ == "module"
"""


@pytest.mark.parametrize(
    "program",
    [
        "import colorsys; assert not real('colorsys') and real('sys')",
        "import colorsys; assert colorsys.rgb_to_hls(0, 0, 0) == (0, 0, 0); assert real('colorsys')",
        "import colorsys as held; from colorsys import ONE_THIRD; assert held.ONE_THIRD == ONE_THIRD",
        "import colorsys\ntry: colorsys.nothing\nexcept AttributeError: pass\nelse: assert False",
        "import colorsys; assert not hasattr(colorsys, '__file__') and not real('colorsys')",
        # What the whole is for: a class with a docstring asks for nothing.
        "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass A:\n  'Said.'\n  x: int = 1\n"
        "assert A(2) == A(2) != A() and not real('inspect')",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n  x: int = 1\n"
        "assert A.__doc__ == 'A(x: int = 1)' and real('inspect')",
        "import inspect\ndef f(x: 'int'): pass\n"
        "assert inspect.get_annotations(f, eval_str=True) == {'x': int}",
        "import inspect\nclass A: x: int\nassert inspect.get_annotations(A) == {'x': int}\n"
        "assert not real('inspect') and inspect.get_annotations(int) == {}",
    ],
)
def test_a_deferred_module(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _BEGIN + program, _SOURCE],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
