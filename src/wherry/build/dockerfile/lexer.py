"""Lines to logical lines: comments away, continuations joined, here-documents taken out.

Source: Dockerfile reference, "Format", "Parser directives", "Here-Documents".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.build.dockerfile.faults import DockerfileError
from wherry.build.dockerfile.syntax import HEREDOC_KEYWORDS, Heredoc, Pairs, Span

LARGEST = 1 << 20
"""Bytes of a Dockerfile."""
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_KNOWN = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]+)")
_WORD = re.compile(r"[A-Za-z0-9_.\-/]+")


@dataclass(frozen=True, slots=True)
class Line:
    """One logical line."""

    text: str
    span: Span
    comments: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    has_gap: bool
    """An empty line stands in its continuation."""


@dataclass(frozen=True, slots=True)
class Lexed:
    """A whole file."""

    directives: Pairs
    escape: str
    lines: tuple[Line, ...]
    source: tuple[str, ...]


def lex(data: bytes, name: str) -> Lexed:
    """Return the logical lines of a Dockerfile. Raises DockerfileError."""
    if len(data) > LARGEST:
        raise DockerfileError(f"dockerfile is larger than {LARGEST} bytes", name=name)
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise DockerfileError("there is a NUL byte in it: this is no text", name=name)
    source = tuple(text.replace("\r\n", "\n").split("\n"))
    if source and source[-1] == "":
        source = source[:-1]
    directives, start = _read_directives(source, name)
    escape = dict(directives).get("escape", "\\")
    lines = tuple(_Reader(source, name, escape).read(start))
    if not lines:
        raise DockerfileError("file with no instructions", name=name)
    return Lexed(directives, escape, lines, source)


def _read_directives(source: tuple[str, ...], name: str) -> tuple[Pairs, int]:
    found: dict[str, str] = {}
    at = 0
    for at, line in enumerate(source):
        match = _DIRECTIVE.fullmatch(line.strip())
        key = match[1].lower() if match else ""
        if match is None or key not in _KNOWN:
            break
        span = Span(at + 1, at + 1)
        if key in found:
            raise DockerfileError(
                f"only one {key} parser directive can be used", span=span, name=name, lines=source
            )
        value = match[2]
        if key == "escape" and value not in ("\\", "`"):
            raise DockerfileError(
                f"invalid ESCAPE {value!r}: must be ` or \\",
                span=span,
                name=name,
                lines=source,
                at=value,
            )
        found[key] = value
    else:
        at = len(source)
    return tuple(found.items()), at


class _Reader:
    def __init__(self, source: tuple[str, ...], name: str, escape: str) -> None:
        self._source = source
        self._name = name
        self._escape = escape
        # A backslash before the end of the line, itself not escaped; blanks after it are forgiven.
        mark = re.escape(escape)
        self._continued = re.compile(rf"(?:([^{mark}])|^){mark}[ \t]*$")

    def read(self, at: int) -> list[Line]:
        out: list[Line] = []
        comments: list[str] = []
        while at < len(self._source):
            line = self._source[at]
            stripped = line.strip()
            if not stripped:
                comments = []
                at += 1
            elif stripped.startswith("#"):
                comments.append(stripped[1:].strip())
                at += 1
            else:
                logical, at = self._logical(at, tuple(comments))
                if logical.text:  # a continuation of nothing is nothing
                    out.append(logical)
                comments = []
        return out

    def _logical(self, at: int, comments: tuple[str, ...]) -> tuple[Line, int]:
        first = at
        text, more = self._cut(self._source[at].lstrip())
        at += 1
        gap = False
        while more and at < len(self._source):
            line = self._source[at]
            if line.strip().startswith("#"):
                at += 1
                continue
            if not line.strip():
                gap = True
                at += 1
                continue
            piece, more = self._cut(line)
            text += piece
            at += 1
        span = Span(first + 1, at)
        heredocs: list[Heredoc] = []
        if text.split(None, 1)[0].upper() in (*HEREDOC_KEYWORDS, "ONBUILD") if text.split() else ():
            for opening in find_heredocs(text, self._escape):
                document, at = self._heredoc(opening, at, span)
                heredocs.append(document)
        return Line(text.rstrip(), Span(first + 1, at), comments, tuple(heredocs), gap), at

    def _cut(self, line: str) -> tuple[str, bool]:
        found = self._continued.search(line)
        if found is None:
            return line, False
        return line[: found.start()] + (found[1] or ""), True

    def _heredoc(self, opening: Heredoc, at: int, span: Span) -> tuple[Heredoc, int]:
        lines: list[str] = []
        while at < len(self._source):
            line = self._source[at]
            at += 1
            bare = line.lstrip("\t") if opening.strip_tabs else line
            if bare == opening.name:
                content = "".join(f"{one}\n" for one in lines)
                return (
                    Heredoc(
                        opening.name,
                        content,
                        opening.expand,
                        opening.strip_tabs,
                        opening.descriptor,
                    ),
                    at,
                )
            lines.append(bare)
        raise DockerfileError(
            "unterminated heredoc",
            span=span,
            name=self._name,
            lines=self._source,
            at=f"<<{'-' if opening.strip_tabs else ''}",
            hint=f"a line with nothing but {opening.name} ends it",
        )


def find_heredocs(text: str, escape: str) -> list[Heredoc]:
    """Return the here-documents that a logical line opens, without content."""
    found: list[Heredoc] = []
    for word in raw_words(text, escape):
        if (opening := parse_heredoc(word)) is not None:
            found.append(opening)
    return found


def parse_heredoc(word: str) -> Heredoc | None:
    """Return what `<<NAME` in its forms opens, None for a word that is none."""
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    rest = match[3]
    name = rest
    for quote in ('"', "'"):
        if len(rest) > 1 and rest[0] == rest[-1] == quote:
            name = rest[1:-1]
    if not _WORD.fullmatch(name):
        return None
    return Heredoc(name, "", name == rest, bool(match[2]), match[1])


def raw_words(text: str, escape: str) -> list[str]:
    """Return the words of a line as written, quotes and escapes kept, cut at blanks outside of quotes."""
    words: list[str] = []
    word, quote = "", ""
    at = 0
    while at < len(text):
        letter = text[at]
        if quote:
            word += letter
            if letter == escape and quote == '"' and at + 1 < len(text):
                at += 1
                word += text[at]
            elif letter == quote:
                quote = ""
        elif letter in " \t\r\n\v\f":
            if word:
                words.append(word)
            word = ""
        else:
            word += letter
            if letter in "\"'":
                quote = letter
            elif letter == escape and at + 1 < len(text):
                at += 1
                word += text[at]
        at += 1
    if word:
        words.append(word)
    return words
