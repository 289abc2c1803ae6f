"""Modules that are loaded at the first use of one of their names: for what a process may never need.

`inspect` above all: dataclasses imports it for classes without a docstring, and with it `ast`, `dis` and
`tokenize`: 1.3 MB, which the supervisor and each of its slots would have (Python 3.11). To be called
before anything is imported that imports them, and only with modules of the standard library.
"""

from __future__ import annotations

import sys
from types import ModuleType


class _Deferred(ModuleType):
    """Stands for a module: `import name` binds it, and the first name that is taken from it loads it."""

    def __getattr__(self, name: str) -> object:
        # What looks through sys.modules asks all of them for such names (inspect.getmodule, warnings).
        if name.startswith("__"):
            raise AttributeError(name)
        return _loaded(self, name)


class _DeferredInspect(_Deferred):
    """Answers by itself what dataclasses ask for each class since Python 3.12."""

    def get_annotations(self, of: object, **options: object) -> object:
        """See inspect.get_annotations."""
        if isinstance(of, type) and not options:
            return dict(vars(of).get("__annotations__") or {})
        real = _loaded(self, "get_annotations")
        return real(of, **options)  # type: ignore[operator]


def _loaded(stand_in: ModuleType, name: str) -> object:
    own = stand_in.__name__
    if sys.modules.get(own) is stand_in:
        del sys.modules[own]
    __import__(own)
    value: object = getattr(sys.modules[own], name)
    setattr(stand_in, name, value)
    return value


def defer(*names: str) -> None:
    """Have these modules loaded at their first use. Those that are loaded already stay."""
    for name in names:
        if name not in sys.modules:
            kind = _DeferredInspect if name == "inspect" else _Deferred
            sys.modules[name] = kind(name)
