"""`--call=outline` and `--call=targets`: what the engine found, as tables or JSON."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


def render(call: str, form: str, found: Object) -> str:
    """Return what is printed; `form` is `json` or empty."""
    if form == "json":
        import json

        return json.dumps(found, indent=2) + "\n"
    if call == "targets":
        rows = [("TARGET", "DESCRIPTION")]
        for one in found["targets"]:
            name: str = one.get("name", "")
            mark = " (default)" if name and one.get("default") else ""
            rows.append((name + mark if name else "(default)", one.get("description", "")))
        return _table(rows, 1)
    parts: list[str] = []
    if found.get("name"):
        about = [("TARGET:", found["name"])]
        if found.get("description"):
            about.append(("DESCRIPTION:", found["description"]))
        parts.append(_table(about, 1))
    if found.get("args"):
        rows3 = [("BUILD ARG", "VALUE", "DESCRIPTION")]
        keys = ("name", "value", "description")
        rows3 += [tuple(one.get(key, "") for key in keys) for one in found["args"]]
        parts.append(_table(rows3, 3))
    for key, title in (("secrets", "SECRET"), ("ssh", "SSH")):
        if found.get(key):
            rows = [(title, "REQUIRED")]
            rows += [(o["name"], "true" if o.get("required") else "") for o in found[key]]
            parts.append(_table(rows, 3))
    return "\n".join(parts)


def _table(rows: list[Any], gap: int) -> str:
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]))]
    lines: list[str] = []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("".join(padded) + row[-1] + "\n")
    return "".join(lines)
