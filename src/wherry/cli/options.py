"""Flags as data, and what was given of them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Flag:
    """One flag. `kind` names a parser of `values`; `many` collects; `label` is shown in help."""

    __slots__ = ("default", "help", "hidden", "kind", "label", "many", "name", "section", "short")

    def __init__(
        self,
        name: str,
        kind: str,
        text: str,
        *,
        short: str = "",
        default: object = None,
        many: bool = False,
        label: str = "",
        section: str = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = text
        self.short = short
        self.default = default
        self.many = many
        self.label = label or ("list" if many else kind)
        self.section = section
        self.hidden = hidden

    @property
    def takes_value(self) -> bool:
        """Whether the next argument belongs to it when none is attached."""
        return self.kind != "bool"

    @property
    def spelling(self) -> str:
        """How messages name it: `-m, --memory`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Options:
    """What was given, by long name. The getters know a flag's default."""

    __slots__ = ("_defaults", "values")

    def __init__(self, flags: tuple[Flag, ...]) -> None:
        self.values: dict[str, Any] = {}
        self._defaults = {flag.name: flag.default for flag in flags}

    def given(self, name: str) -> bool:
        """Whether the flag was on the command line at all."""
        return name in self.values

    def on(self, name: str) -> bool:
        """A bool flag's value."""
        return bool(self.values.get(name, self._defaults.get(name) or False))

    def text(self, name: str) -> str:
        """A string flag's value, empty when it was not given."""
        return self.values.get(name, self._defaults.get(name) or "")

    def number(self, name: str) -> int:
        """An integer flag's value (bytes, nanoseconds, nano-CPUs, counts), 0 when not given."""
        return self.values.get(name, self._defaults.get(name) or 0)

    def all(self, name: str) -> list[Any]:
        """Every value of a repeatable flag, in order."""
        return self.values.get(name, [])
