"""The text of a flag as a value, by the name of its kind: figures, and what repeatable flags collect."""

from __future__ import annotations

from wherry.cli import figures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def parse(kind: str, text: str) -> Any:
    """Return `text` as a value of `kind`. Raises ValueError."""
    parser = _FIGURES.get(kind)
    if parser is None:
        from wherry.cli import entries

        parser = entries.PARSERS[kind]
    return parser(text)


_FIGURES: dict[str, Callable[[str], Any]] = {
    "bool": figures.boolean,
    "int": figures.integer,
    "uint16": figures.unsigned16,
    "uint": figures.unsigned64,
    "bytes": figures.size,
    "swap": figures.swap_size,
    "duration": figures.duration,
    "decimal": figures.cpus,
}
