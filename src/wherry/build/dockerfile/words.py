"""Variables and quotes in Dockerfile words: `$x ${x:-y} ${x:+y} ${x:?e} ${x#p} ${x%p} ${x/a/b}`.

Single quotes keep everything, double quotes keep blanks; outside of them the escape character takes
the next one as it is. Source: Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from wherry.build.dockerfile.patterns import TooLong, replace, trim_back, trim_front

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(r"[0-9@*#?$!\-]")
_BLANK = " \t\r\n\v\f"
_DEEPEST = 100
LONGEST = 1 << 20
"""Characters that variables bring to one text. A process takes 131,072 in one of its own (execve(2)), and
`ENV a=$a$a`, forty times, would be a terabyte."""


class WordError(ValueError):
    """A word that cannot be expanded; the message says why."""


class Expansion:
    """Expands words with one environment. `used` are the names asked for, `missing` those without a value."""

    def __init__(self, environment: Mapping[str, str], escape: str = "\\") -> None:
        self._environment = environment
        self._escape = escape
        self.used: set[str] = set()
        self.missing: set[str] = set()

    def word(self, text: str) -> str:
        """Return `text` with variables and quotes resolved, as one word. Raises WordError."""
        return _Scanner(text, self, self._escape).whole()[0]

    def words(self, text: str) -> list[str]:
        """Return the words that `text` becomes: what variables bring is split too. Raises WordError."""
        return _Scanner(text, self, self._escape).whole()[1]

    def raw(self, text: str) -> str:
        """Return `text` with variables resolved and quotes left: for here-documents and shell forms."""
        return _Scanner(text, self, self._escape, keep_quotes=True).whole()[0]

    def value(self, name: str) -> str | None:
        """Return a variable's value and note that it was asked for."""
        self.used.add(name)
        found = self._environment.get(name)
        if found is None:
            self.missing.add(name)
        return found

    def excused(self, name: str) -> None:
        """A name that has a default is not missing."""
        self.missing.discard(name)


class _Scanner:
    """One pass over a text; words are kept apart as they grow."""

    def __init__(
        self, text: str, expansion: Expansion, escape: str, *, keep_quotes: bool = False
    ) -> None:
        self._text = text
        self._at = 0
        self._expansion = expansion
        self._escape = escape
        self._keep = keep_quotes
        self._out: list[str] = []
        self._words: list[str] = []
        self._word = ""
        self._open = False
        self._depth = self._brought = 0

    def whole(self) -> tuple[str, list[str]]:
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter == "'" and not self._keep:
                self._add(self._single())
            elif letter == '"' and not self._keep:
                self._add(self._double())
            elif letter == "$":
                self._split(self._dollar())
            elif letter == self._escape and not self._keep:
                self._at += 1
                if self._at < len(self._text):
                    self._add(self._text[self._at])
                    self._at += 1
            elif letter == self._escape and self._text[self._at + 1 : self._at + 2] == "$":
                self._add("$")
                self._at += 2
            else:
                self._at += 1
                if letter in _BLANK:
                    self._out.append(letter)
                    self._close()
                else:
                    self._add(letter)
        self._close()
        return "".join(self._out), self._words

    def _add(self, text: str) -> None:
        self._out.append(text)
        self._word += text
        self._open = True

    def _split(self, text: str) -> None:
        """Add what a variable brought: its blanks part words."""
        self._out.append(text)
        pieces = re.split(rf"[{_BLANK}]+", text)
        for number, piece in enumerate(pieces):
            if number:
                self._close()
            if piece:
                self._word += piece
                self._open = True

    def _close(self) -> None:
        if self._open:
            self._words.append(self._word)
        self._word, self._open = "", False

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise WordError("unexpected end of statement while looking for matching single-quote")
        found = self._text[self._at + 1 : end]
        self._at = end + 1
        return found

    def _double(self) -> str:
        self._at += 1
        out = ""
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter == '"':
                self._at += 1
                return out
            if letter == "$":
                out += self._dollar()
                continue
            if letter == self._escape and self._at + 1 < len(self._text):
                following = self._text[self._at + 1]
                out += following if following in ('"', "$", self._escape) else letter + following
                self._at += 2
                continue
            out += letter
            self._at += 1
        raise WordError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        """Return what a variable brings. Raises WordError."""
        text = self._variable()
        self._brought += len(text)
        if self._brought > LONGEST:
            raise WordError(f"variables bring more than {LONGEST} characters")
        return text

    def _variable(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            return self._braces()
        match = _NAME.match(self._text, self._at) or _SPECIAL.match(self._text, self._at)
        if match is None:
            return "$"
        self._at = match.end()
        return self._expansion.value(match[0]) or ""

    def _braces(self) -> str:
        self._at += 1
        match = _NAME.match(self._text, self._at) or _SPECIAL.match(self._text, self._at)
        if match is None:
            if self._text[self._at : self._at + 1] == "}":
                raise WordError("bad substitution: ${} names no variable")
            raise WordError("unsupported modifier or missing name in ${…} substitution")
        self._at = match.end()
        name = match[0]
        operator = self._operator()
        if operator == "}":
            return self._expansion.value(name) or ""
        value = self._expansion.value(name)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise WordError(f"substitutions in substitutions, more than {_DEEPEST} deep")
        try:
            return self._modified(name, value, operator)
        except TooLong as error:
            raise WordError(f"{name}: {error}") from None
        finally:
            self._depth -= 1

    def _operator(self) -> str:
        for operator in ("}", ":-", ":+", ":?", "-", "+", "?", "##", "#", "%%", "%", "//", "/"):
            if self._text.startswith(operator, self._at):
                self._at += len(operator)
                return operator
        if self._at >= len(self._text):
            raise WordError("syntax error: missing '}'")
        found = self._text[self._at : self._at + 2]
        raise WordError(f"unsupported modifier ({found}) in substitution")

    def _modified(self, name: str, value: str | None, operator: str) -> str:
        match operator:
            case ":-" | "-":
                word = self._until("}")
                self._expansion.excused(name)
                absent = value is None or (operator == ":-" and not value)
                return word if absent or value is None else value
            case ":+" | "+":
                word = self._until("}")
                self._expansion.excused(name)
                absent = value is None or (operator == ":+" and not value)
                return "" if absent else word
            case ":?" | "?":
                word = self._until("}")
                if value is None or (operator == ":?" and not value):
                    raise WordError(f"{name}: {word or 'not allowed to be unset'}")
                return value
            case "#" | "##":
                return trim_front(self._until("}"), value or "", longest=operator == "##")
            case "%" | "%%":
                return trim_back(self._until("}"), value or "", longest=operator == "%%")
            case _:
                pattern = self._until("/")
                replacement = self._until("}")
                every = operator == "//"
                return replace(pattern, value or "", replacement, every=every, most=LONGEST)

    def _until(self, end: str) -> str:
        """Read and expand up to `end`, which is taken too."""
        out = ""
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter == end:
                self._at += 1
                return out
            if letter == "}" and end == "/":
                raise WordError("syntax error: missing '/' in ${name/pattern/replacement}")
            if letter == "$":
                out += self._dollar()
            elif letter == "'" and not self._keep:
                out += self._single()
            elif letter == '"' and not self._keep:
                out += self._double()
            elif letter == self._escape and self._at + 1 < len(self._text):
                following = self._text[self._at + 1]
                # In a pattern an escaped star stays escaped; an escaped end is the letter.
                out += following if following in (end, "}", "$") else letter + following
                self._at += 2
            else:
                out += letter
                self._at += 1
        raise WordError(f"syntax error: missing '{end}'")
