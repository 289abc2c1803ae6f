"""Template text to tokens: plain text, and what stands between the braces."""

from __future__ import annotations

from wherry.cli.failure import Failure

TEXT, OPEN, CLOSE, SPACE = "text", "open", "close", "space"
NAME, FIELD, VARIABLE, NUMBER, STRING, CHARACTER, SIGN = (
    "name",
    "field",
    "variable",
    "number",
    "string",
    "character",
    "sign",
)
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}


class Token:
    """A kind, its text (decoded for strings), and where it starts."""

    __slots__ = ("at", "kind", "line", "text")

    def __init__(self, kind: str, text: str, at: int, line: int) -> None:
        self.kind = kind
        self.text = text
        self.at = at
        self.line = line

    def __repr__(self) -> str:
        return f"{self.kind}:{self.text!r}"


class TemplateError(Failure):
    """The template, not the data, is at fault; the text has Go's words."""


def bad(line: int, what: str) -> TemplateError:
    """Return the error of a template that cannot be parsed."""
    return TemplateError(f"template: :{line}: {what}")


def tokens(text: str) -> list[Token]:
    """Return the tokens of `text`. Raises TemplateError."""
    out: list[Token] = []
    at, trim = 0, False
    while True:
        start = text.find("{{", at)
        plain = text[at:] if start < 0 else text[at:start]
        if trim:
            plain = plain.lstrip(" \t\r\n")
        if start < 0:
            if plain:
                out.append(Token(TEXT, plain, at, _line(text, at)))
            return out
        inside = start + 2
        if text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2] in (
            " ",
            "\t",
            "\n",
            "\r",
        ):
            plain = plain.rstrip(" \t\r\n")
            inside += 1
        if plain:
            out.append(Token(TEXT, plain, at, _line(text, at)))
        at, trim = _action(text, start, inside, out)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _action(text: str, start: int, at: int, out: list[Token]) -> tuple[int, bool]:
    line = _line(text, start)
    body = at
    while text[body : body + 1] in (" ", "\t", "\r", "\n") and body < len(text):
        body += 1
    if text.startswith("/*", body):
        return _comment(text, body, line)
    out.append(Token(OPEN, "{{", start, line))
    while True:
        if at >= len(text):
            raise bad(line, "unclosed action")
        if text.startswith("}}", at):
            out.append(Token(CLOSE, "}}", at, _line(text, at)))
            return at + 2, False
        c = text[at]
        if c in " \t\r\n":
            end = at
            while end < len(text) and text[end] in " \t\r\n":
                end += 1
            if text.startswith("-}}", end):
                out.append(Token(CLOSE, "-}}", end, _line(text, end)))
                return end + 3, True
            out.append(Token(SPACE, " ", at, line))
            at = end
            continue
        token, at = _token(text, at, c)
        out.append(token)


def _comment(text: str, at: int, line: int) -> tuple[int, bool]:
    end = text.find("*/", at + 2)
    if end < 0:
        raise bad(line, "unclosed comment")
    end += 2
    rest = end
    while text[rest : rest + 1] in (" ", "\t", "\r", "\n") and rest < len(text):
        rest += 1
    if rest > end and text.startswith("-}}", rest):
        return rest + 3, True
    if not text.startswith("}}", end):
        raise bad(line, "comment ends before closing delimiter")
    return end + 2, False


def _token(text: str, at: int, c: str) -> tuple[Token, int]:
    line = _line(text, at)
    if c == '"':
        return _string(text, at, line)
    if c == "`":
        end = text.find("`", at + 1)
        if end < 0:
            raise bad(line, "unterminated raw quoted string")
        return Token(STRING, text[at + 1 : end], at, line), end + 1
    if c == "'":
        token, end = _string(text, at, line)
        return Token(CHARACTER, token.text, at, line), end
    follower = text[at + 1 : at + 2]
    if c.isdigit() or (c in "+-" and (follower.isdigit() or follower == ".")):
        end = _word_end(text, at + 1, extra=".+-" if _has_exponent(text, at) else ".")
        return Token(NUMBER, text[at:end], at, line), end
    if c == ".":
        if follower.isdigit():
            end = _word_end(text, at + 1, extra=".")
            return Token(NUMBER, text[at:end], at, line), end
        end = _checked_end(text, at + 1, line)
        return Token(FIELD, text[at + 1 : end], at, line), end
    if c == "$":
        end = _checked_end(text, at + 1, line)
        return Token(VARIABLE, text[at:end], at, line), end
    if c.isalpha() or c == "_":
        end = _checked_end(text, at + 1, line)
        return Token(NAME, text[at:end], at, line), end
    if text.startswith(":=", at):
        return Token(SIGN, ":=", at, line), at + 2
    if c in "|(),=":
        return Token(SIGN, c, at, line), at + 1
    if c in "{}" or not c.isprintable():
        raise bad(line, f"bad character U+{ord(c):04X} '{c}'")
    raise bad(line, f'unexpected "{c}" in command')


def _checked_end(text: str, at: int, line: int) -> int:
    """The end of a word, which only some characters may follow."""
    end = _word_end(text, at)
    follower = text[end : end + 1]
    if follower and follower not in " \t\r\n.,|:)(" and not text.startswith("}}", end):
        raise bad(line, f"bad character U+{ord(follower):04X} '{follower}'")
    return end


def _has_exponent(text: str, at: int) -> bool:
    end = _word_end(text, at + 1, extra=".")
    return not text[at:end].lower().lstrip("+-").startswith("0x") and text[end - 1 : end] in (
        "e",
        "E",
    )


def _word_end(text: str, at: int, extra: str = "") -> int:
    while at < len(text) and (text[at].isalnum() or text[at] == "_" or text[at] in extra):
        at += 1
    return at


def _string(text: str, at: int, line: int) -> tuple[Token, int]:
    mark = text[at]
    out = ""
    end = at + 1
    while True:
        c = text[end : end + 1]
        if c in ("", "\n"):
            what = "quoted string" if mark == '"' else "character constant"
            raise bad(line, f"unterminated {what}")
        if c == mark:
            return Token(STRING, out, at, line), end + 1
        if c != "\\":
            out += c
            end += 1
            continue
        letter = text[end + 1 : end + 2]
        width = {"x": 2, "u": 4, "U": 8}.get(letter)
        try:
            if width:
                out += chr(int(text[end + 2 : end + 2 + width], 16))
                end += 2 + width
            else:
                out += _ESCAPES[letter]
                end += 2
        except (KeyError, ValueError, OverflowError):
            raise bad(line, "invalid syntax in quoted string") from None
