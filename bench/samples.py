"""Figures by row and engine, and the Markdown table of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured, in which unit, with how many digits."""

    label: str
    unit: str
    digits: int = 1


@dataclass(slots=True)
class Table:
    """All samples taken, and the failures, by row and by engine's name."""

    engines: tuple[str, ...]
    rows: dict[Row, dict[str, list[float]]] = field(
        default_factory=dict[Row, "dict[str, list[float]]"]
    )
    failures: list[str] = field(default_factory=list[str])

    def add(self, row: Row, engine: str, value: float) -> None:
        """Take one sample."""
        self.rows.setdefault(row, {}).setdefault(engine, []).append(value)

    def render(self) -> str:
        """Return the table: median, minimum and number of samples, and the ratio of the medians."""
        head = ["", "unit", *(f"{name} median (min, n)" for name in self.engines)]
        two = len(self.engines) == 2
        if two:
            head.append(f"{self.engines[1]} ÷ {self.engines[0]}")
        lines = [_line(head), _line(["---", "---", *["---:"] * (len(head) - 2)])]
        for row, taken in self.rows.items():
            cells = [row.label, row.unit]
            cells += [_cell(taken.get(name, []), row.digits) for name in self.engines]
            if two:
                cells.append(_ratio(*(taken.get(name, []) for name in self.engines)))
            lines.append(_line(cells))
        lines += [f"\nFailed: {failure}" for failure in self.failures]
        return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}, {len(values)})"


def _ratio(first: list[float], second: list[float]) -> str:
    if not first or not second or not median(first):
        return "–"
    return f"{median(second) / median(first):.3g}"
