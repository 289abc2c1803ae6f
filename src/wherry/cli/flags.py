"""Commands as data, and the parsing of their flags as Docker's command line does it (GNU style, pflag's words)."""

from __future__ import annotations

from wherry.cli.failure import Failure, UsageError, WantsHelp
from wherry.cli.options import Flag, Options

__all__ = ["Command", "Flag", "Options", "parse"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.session import Session

    Run = Callable[[Session, Options, list[str]], int]


class Command:
    """One verb: its usage, its flags, how many arguments it takes, and what it does.

    `most` is None for no upper limit. `interspersed` False ends the flags at the first argument.
    """

    __slots__ = ("details", "flags", "interspersed", "least", "most", "run", "summary", "usage")

    def __init__(
        self,
        run: Run,
        usage: str,
        summary: str,
        flags: tuple[Flag, ...] = (),
        *,
        least: int = 0,
        most: int | None = None,
        interspersed: bool = True,
        details: str = "",
    ) -> None:
        self.run = run
        self.usage = usage
        self.summary = summary
        self.flags = flags
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.details = details

    def check_arguments(self, path: str, count: int) -> None:
        """Raise Failure with Docker's words when `count` arguments are too few or too many."""
        if self.least <= count and (self.most is None or count <= self.most):
            return
        see = "Run"
        if self.most == 0:
            need = "accepts no arguments"
        elif self.least == self.most:
            need = f"requires {_arguments(self.least)}"
        elif count < self.least:
            need = f"requires at least {_arguments(self.least)}"
            see = "See"
        else:
            need = f"requires at most {_arguments(self.most or 0)}"
        raise Failure(
            f"wherry: 'wherry {path}' {need}\n\nUsage:  wherry {path} {self.usage}".rstrip()
            + f"\n\n{see} 'wherry {path} --help' for more information"
        )


def _arguments(count: int) -> str:
    return f"{count} argument" if count == 1 else f"{count} arguments"


class _Parser:
    def __init__(self, flags: tuple[Flag, ...], suggest: bool) -> None:
        self.options = Options(flags)
        self.by_name = {flag.name: flag for flag in flags}
        self.by_short = {flag.short: flag for flag in flags if flag.short}
        self.suggest = suggest

    def long(self, argument: str, rest: list[str]) -> None:
        body = argument[2:]
        if body[0] in "-=":
            raise UsageError(f"bad flag syntax: {argument}")
        name, equals, value = body.partition("=")
        flag = self.by_name.get(name)
        if flag is None:
            if name == "help":
                raise WantsHelp
            raise UsageError(f"unknown flag: --{name}{self._nearest(name)}")
        if not equals:
            if not flag.takes_value:
                value = "true"
            elif rest:
                value = rest.pop()
            else:
                raise UsageError(f"flag needs an argument: {argument}")
        self.set(flag, value)

    def short(self, argument: str, rest: list[str]) -> None:
        left = argument[1:]
        while left:
            flag = self.by_short.get(left[0])
            if flag is None:
                if left[0] == "h":
                    raise WantsHelp
                raise UsageError(f"unknown shorthand flag: '{left[0]}' in -{left}")
            if len(left) > 2 and left[1] == "=":
                return self.set(flag, left[2:])
            if flag.takes_value:
                if len(left) > 1:
                    return self.set(flag, left[1:])
                if not rest:
                    raise UsageError(f"flag needs an argument: '{left[0]}' in -{left}")
                return self.set(flag, rest.pop())
            self.set(flag, "true")
            left = left[1:]
        return None

    def set(self, flag: Flag, text: str) -> None:
        value: Any = text
        if flag.kind != "string":
            if flag.kind == "bool" and text == "true":
                value = True
            else:
                from wherry.cli import values
                from wherry.model.literals import quote

                try:
                    value = values.parse(flag.kind, text)
                except ValueError as error:
                    quoted = quote(text)
                    raise UsageError(
                        f'invalid argument {quoted} for "{flag.spelling}" flag: {error}'
                    ) from None
        if flag.many:
            self.options.values.setdefault(flag.name, []).append(value)
        else:
            self.options.values[flag.name] = value

    def _nearest(self, name: str) -> str:
        if not self.suggest:
            return ""
        from wherry.cli.suggest import nearest

        visible = [flag.name for flag in self.by_name.values() if not flag.hidden]
        guess = nearest(name, visible)
        return f"\n\nDid you mean --{guess}?" if guess else ""


def parse(
    flags: tuple[Flag, ...], arguments: list[str], *, interspersed: bool, suggest: bool = True
) -> tuple[Options, list[str]]:
    """Return the options and the positional arguments. Raises UsageError, or WantsHelp."""
    parser = _Parser(flags, suggest)
    positional: list[str] = []
    rest = arguments[::-1]
    while rest:
        argument = rest.pop()
        if argument == "--":
            positional += rest[::-1]
            break
        if argument.startswith("--"):
            parser.long(argument, rest)
        elif argument.startswith("-") and argument != "-":
            parser.short(argument, rest)
        else:
            positional.append(argument)
            if not interspersed:
                positional += rest[::-1]
                break
    return parser.options, positional
