"""The command line: flags by `options`, and one sub-command. argparse would cost a megabyte for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wherry.daemon.options import BY_FLAG, BY_SHORT, OPTIONS, Kind, Option
from wherry.daemon.refused import REFUSED_FLAGS
from wherry.model.errors import Invalid

STOP = "stop"
_TRUE = frozenset(("1", "t", "true", "yes"))
_FALSE = frozenset(("0", "f", "false", "no"))


@dataclass(slots=True)
class Arguments:
    """What the command line says: option name to text, or texts where it may be repeated."""

    values: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    command: str = ""
    timeout: int | None = None
    """`stop --timeout`, seconds."""

    def last(self, name: str) -> str | None:
        """Return the last value given for `name`."""
        return self.values[name][-1] if name in self.values else None

    def switch(self, name: str) -> bool:
        """Return whether a switch is on."""
        return self.last(name) == "true"


def parse_switch(text: str, name: str) -> bool:
    """Return a boolean as Go's flags write it. Raises Invalid."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise Invalid(f'invalid boolean value "{text}" for {name}')


def parse_arguments(words: Sequence[str]) -> Arguments:
    """Return what `words` (without the program's name) say. Raises Invalid."""
    found = Arguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == STOP and not found.command:
            found.command = STOP
        elif word.startswith("--timeout") and found.command:
            text = word.partition("=")[2] or (rest.pop(0) if rest else "")
            if not text.isdecimal():
                raise Invalid(f"--timeout: {text!r} is no number of seconds")
            found.timeout = int(text)
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            option = BY_FLAG.get(name)
            if name in REFUSED_FLAGS:
                refused = REFUSED_FLAGS[name]
                kind = Kind.SWITCH if refused.switch else Kind.TEXT
                heard = Arguments()
                _take(heard, Option(name, kind, ""), word, value if equals else None, rest)
                refused.check(f"--{name}", heard.values[name][-1])
                continue
            if option is None:
                raise Invalid(f"unknown flag: --{name}", hint="see wherryd --help")
            _take(found, option, f"--{name}", value if equals else None, rest)
        elif word.startswith("-") and len(word) > 1:
            _take_short(found, word, rest)
        else:
            raise Invalid(f"unexpected argument: {word}", hint="see wherryd --help")
    return found


def _take_short(found: Arguments, word: str, rest: list[str]) -> None:
    letters = word[1:]
    while letters:
        option = BY_SHORT.get(letters[0])
        if option is None:
            raise Invalid(f"unknown shorthand flag: '{letters[0]}' in {word}")
        letters = letters[1:]
        if option.kind is Kind.SWITCH and not letters.startswith("="):
            _take(found, option, f"-{option.short}", None, rest)
            continue
        _take(found, option, f"-{option.short}", letters.removeprefix("=") or None, rest)
        return


def _take(found: Arguments, option: Option, shown: str, value: str | None, rest: list[str]) -> None:
    if option.kind is Kind.SWITCH:
        value = "true" if value is None else str(parse_switch(value, shown)).lower()
    elif value is None:
        if not rest:
            raise Invalid(f"flag needs an argument: {shown}")
        value = rest.pop(0)
    found.values.setdefault(option.name, []).append(value)


def render_help() -> str:
    """Return the text of --help."""
    lines = [
        "Usage:  wherryd [OPTIONS]",
        "        wherryd [--data-root DIR] [--exec-root DIR] stop [--timeout SECONDS]",
        "",
        "The daemon of wherry, a container engine. `stop` ends the daemon of these roots, all of its",
        "containers, and its supervisor.",
        "",
        "Options:",
    ]
    for option in OPTIONS:
        short = f"-{option.short}, " if option.short else "    "
        value = "" if option.kind is Kind.SWITCH else f" {option.kind.value}"
        lines.append(f"  {short}--{option.flag + value:<26} {option.help}")
    return "\n".join(lines)
