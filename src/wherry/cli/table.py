"""Columns of text, as Go's tabwriter sets them (width at least 10, padding 3)."""

from __future__ import annotations

_LEAST, _PADDING = 10, 3


def align(text: str) -> str:
    """Return `text` with its tab-ended cells in columns.

    A column is a run of neighbouring lines that have a cell there; each is as wide as its widest.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in lines]
    _measure(lines, widths, 0, len(lines), 0)
    out: list[str] = []
    for cells, line_widths in zip(lines, widths, strict=True):
        padded = [cell.ljust(width) for cell, width in zip(cells, line_widths, strict=False)]
        out.append("".join([*padded, cells[-1]]))
    return "\n".join(out)


def _measure(
    lines: list[list[str]], widths: list[list[int]], start: int, end: int, column: int
) -> None:
    i = start
    while i < end:
        if len(lines[i]) - 1 <= column:
            i += 1
            continue
        first = i
        widest = 0
        while i < end and len(lines[i]) - 1 > column:
            widest = max(widest, len(lines[i][column]))
            i += 1
        width = max(widest + _PADDING, _LEAST)
        for line in range(first, i):
            widths[line].append(width)
        _measure(lines, widths, first, i, column + 1)
