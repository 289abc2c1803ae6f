"""Help, from the tables that parse."""

from __future__ import annotations

from wherry.cli import tree
from wherry.cli.style import BOLD, CYAN, DIM, Style

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.flags import Command, Flag

_NARROW = 28


def render_command(path: str, command: Command, style: Style, columns: int) -> str:
    """Return the help of the command at `path`, at most `columns` wide."""
    head = f"{style(BOLD, 'Usage:')}  wherry {path} {command.usage}".rstrip()
    lines = [head, "", command.summary]
    if command.details:
        lines += ["", command.details]
    others = tree.aliases(path)
    if others:
        lines += ["", style(BOLD, "Aliases:")]
        lines.append("  " + ", ".join(f"wherry {alias}" for alias in others))
    sections: dict[str, list[Flag]] = {}
    for flag in command.flags:
        if not flag.hidden:
            sections.setdefault(flag.section, []).append(flag)
    for section, flags in sections.items():
        title = f"{section} options:" if section else "Options:"
        lines += ["", style(BOLD, title), *render_flags(flags, style, columns)]
    return "\n".join(lines) + "\n"


def render_flags(flags: list[Flag], style: Style, columns: int) -> list[str]:
    """Return one or more lines a flag, the texts in one column."""
    lefts = [_left(flag) for flag in flags]
    indent = min(max(len(left) for left in lefts) + 3, max(columns // 2, _NARROW))
    lines: list[str] = []
    for flag, left in zip(flags, lefts, strict=True):
        text = wrap(flag.help + _default(flag), max(columns - indent, _NARROW))
        painted = style(CYAN, left.rstrip()) + " " * (len(left) - len(left.rstrip()))
        if len(left) + 2 > indent:
            lines.append(painted)
        else:
            lines.append((painted + " " * (indent - len(left)) + text.pop(0)).rstrip())
        lines += [" " * indent + line for line in text]
    return lines


def _left(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    label = "" if flag.kind == "bool" else f" {flag.label}"
    return f"  {short}--{flag.name}{label}"


def _default(flag: Flag) -> str:
    if flag.default in (None, "", False, 0, -1):
        return ""
    if flag.default is True:
        return " (default true)"
    return f' (default "{flag.default}")' if flag.kind == "string" else f" (default {flag.default})"


def wrap(text: str, columns: int) -> list[str]:
    """Return `text` broken between words into lines of at most `columns`."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


def _table(rows: list[tuple[str, str]], style: Style, columns: int) -> list[str]:
    widest = max(len(name) for name, _ in rows)
    lines: list[str] = []
    for name, summary in rows:
        first, *rest = wrap(summary, max(columns - widest - 5, _NARROW))
        lines.append(f"  {style(CYAN, name)}{' ' * (widest - len(name))}   {first}")
        lines += [" " * (widest + 5) + line for line in rest]
    return lines


def render_group(group: str, style: Style, columns: int) -> str:
    """Return the help of `wherry container` and its like."""
    summary, verbs = tree.GROUPS[group]
    rows = [(verb, entry[1]) for verb, entry in verbs.items()]
    lines = [f"{style(BOLD, 'Usage:')}  wherry {group} COMMAND", "", summary, ""]
    lines += [style(BOLD, "Commands:"), *_table(rows, style, columns), ""]
    lines.append(f"Run 'wherry {group} COMMAND --help' for more information on a command.")
    return "\n".join(lines) + "\n"


def render_top(flags: tuple[Flag, ...], style: Style, columns: int) -> str:
    """Return the help of `wherry` itself."""
    common = [(verb, _summary(verb)) for verb in tree.COMMON]
    groups = [(group, summary) for group, (summary, _) in tree.GROUPS.items()]
    rest = [
        verb for verb in tree.top_verbs() if verb not in tree.COMMON and verb not in tree.GROUPS
    ]
    others = [(verb, _summary(verb)) for verb in rest]
    sections = [
        ("Common Commands:", common),
        ("Management Commands:", groups),
        ("Commands:", others),
    ]
    lines = [
        f"{style(BOLD, 'Usage:')}  wherry [OPTIONS] COMMAND",
        "",
        "A container engine: a drop-in for Docker Engine",
    ]
    for title, rows in sections:
        lines += ["", style(BOLD, title), *_table(rows, style, columns)]
    visible = [flag for flag in flags if not flag.hidden]
    lines += ["", style(BOLD, "Global Options:"), *render_flags(visible, style, columns), ""]
    lines.append(style(DIM, "Run 'wherry COMMAND --help' for more information on a command."))
    return "\n".join(lines) + "\n"


def _summary(verb: str) -> str:
    entry = tree.top_entry(verb)
    return entry[1] if entry else ""
