"""Logical lines to instructions: keyword, flags, arguments in their forms. No variables are expanded.

Source: Dockerfile reference; messages are those of BuildKit where it has one.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from difflib import get_close_matches
from typing import cast

from wherry.build.dockerfile.faults import DockerfileError
from wherry.build.dockerfile.lexer import Line, lex, parse_heredoc, raw_words
from wherry.build.dockerfile.syntax import (
    HEREDOC_KEYWORDS,
    KEYWORDS,
    SWITCHES,
    Dockerfile,
    Form,
    Instruction,
    Pairs,
)

_FLAGS: dict[str, frozenset[str]] = {
    "ADD": frozenset("chown chmod link keep-git-dir checksum exclude unpack".split()),
    "COPY": frozenset("from chown chmod link parents exclude".split()),
    "FROM": frozenset(("platform",)),
    "HEALTHCHECK": frozenset("interval timeout start-period start-interval retries".split()),
    "RUN": frozenset("mount network security device".split()),
}
_JSON_ONLY = frozenset(("SHELL",))
_JSON_OR_TEXT = frozenset(("RUN", "CMD", "ENTRYPOINT"))
_JSON_OR_WORDS = frozenset(("ADD", "COPY", "VOLUME"))
_PAIRS = frozenset(("ENV", "LABEL"))
_ONE = frozenset(("MAINTAINER", "USER", "WORKDIR", "STOPSIGNAL"))
_NOT_TRIGGERED = frozenset(("ONBUILD", "FROM", "MAINTAINER"))
_KEYWORD = re.compile(r"\S+")


def parse(data: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Return the instructions of a Dockerfile. Raises DockerfileError."""
    lexed = lex(data, name)
    reader = _Parser(name, lexed.escape, lexed.source)
    instructions = tuple(reader.instruction(line) for line in lexed.lines)
    gaps = tuple(line.span for line in lexed.lines if line.has_gap)
    return Dockerfile(instructions, lexed.directives, name, lexed.escape, lexed.source, gaps)


def parse_trigger(text: str) -> Instruction:
    """Return the instruction that an image's OnBuild entry is. Raises DockerfileError."""
    lexed = lex(text.encode("utf-8", "surrogateescape"), "ONBUILD")
    return _Parser("ONBUILD", lexed.escape, lexed.source).instruction(lexed.lines[0])


class _Parser:
    def __init__(self, name: str, escape: str, source: tuple[str, ...]) -> None:
        self._name = name
        self._escape = escape
        self._source = source

    def instruction(self, line: Line) -> Instruction:
        try:
            return self._parse(line, line.text)
        except _Fault as fault:
            raise DockerfileError(
                fault.detail,
                span=line.span,
                name=self._name,
                lines=self._source,
                at=fault.at,
                hint=fault.hint,
            ) from None

    def _parse(self, line: Line, text: str) -> Instruction:
        # A continued line may begin with what was before its first word: nothing, and spaces.
        text = text.lstrip()
        match = _KEYWORD.match(text)
        if match is None:
            raise _unknown("")
        written = match[0]
        keyword = written.upper()
        if keyword not in KEYWORDS:
            raise _unknown(written)
        rest = text[match.end() :].strip()
        flags, rest = self._flags(keyword, rest)
        made = Instruction(
            keyword,
            (),
            text,
            line.span,
            flags,
            comments=line.comments,
            written=written,
            heredocs=line.heredocs if keyword in HEREDOC_KEYWORDS else (),
        )
        return self._arguments(made, line, rest)

    # -- flags -------------------------------------------------------------------------------

    def _flags(self, keyword: str, rest: str) -> tuple[Pairs, str]:
        known = _FLAGS.get(keyword, frozenset())
        found: list[tuple[str, str]] = []
        while rest.startswith("--"):
            word, after = self._first_word(rest)
            if word == "--":
                return tuple(found), after
            key, equals, value = self._unquoted(word[2:]).partition("=")
            if key not in known:
                near = get_close_matches(key, sorted(known), 1)
                raise _Fault(
                    f"unknown flag: --{key}",
                    at=word,
                    hint=f"did you mean --{near[0]}?" if near else f"{keyword} has no such flag",
                )
            if not equals and key not in SWITCHES:
                raise _Fault(f"missing a value on flag: --{key}", at=word)
            if key in SWITCHES and equals and value.lower() not in ("true", "false"):
                raise _Fault(f"expecting boolean value for flag {key}, not: {value}", at=word)
            repeated = key in ("mount", "exclude", "device")
            if not repeated and any(key == name for name, _ in found):
                raise _Fault(f"duplicate flag specified: {key}", at=word)
            found.append((key, value.lower() if key in SWITCHES else value))
            rest = after
        return tuple(found), rest

    def _first_word(self, text: str) -> tuple[str, str]:
        word = raw_words(text, self._escape)[0]
        at = text.index(word)
        return word, text[at + len(word) :].lstrip()

    def _unquoted(self, word: str) -> str:
        out, quote, at = "", "", 0
        while at < len(word):
            letter = word[at]
            if letter == self._escape and at + 1 < len(word) and quote != "'":
                at += 1
                out += word[at]
            elif quote:
                if letter == quote:
                    quote = ""
                else:
                    out += letter
            elif letter in "\"'":
                quote = letter
            else:
                out += letter
            at += 1
        return out

    # -- arguments ---------------------------------------------------------------------------

    def _arguments(self, made: Instruction, line: Line, rest: str) -> Instruction:
        keyword = made.keyword
        if not rest and keyword not in ("HEALTHCHECK", "ONBUILD"):
            raise _Fault(_needs(keyword), at=made.written)
        if keyword == "ONBUILD":
            return self._onbuild(made, line, rest)
        if keyword == "HEALTHCHECK":
            return _healthcheck(made, rest)
        if keyword in _PAIRS:
            return self._pairs(made, rest)
        if keyword in _JSON_ONLY:
            listed = parse_json_list(rest)
            if listed is None:
                raise _Fault(f"{keyword} requires the arguments to be in JSON form", at=rest)
            if not listed:
                raise _Fault(f"{keyword} requires at least one argument", at=rest)
            return replace(made, arguments=listed, form=Form.EXEC)
        if keyword in _JSON_OR_TEXT:
            listed = parse_json_list(rest)
            if listed is not None:
                return replace(made, arguments=listed, form=Form.EXEC)
            return replace(made, arguments=(rest,))
        if keyword in _JSON_OR_WORDS:
            listed = parse_json_list(rest)
            form = Form.SHELL if listed is None else Form.EXEC
            words = tuple(raw_words(rest, self._escape)) if listed is None else listed
            _check_count(made, words)
            return replace(made, arguments=words, form=form)
        if keyword in _ONE:
            return replace(made, arguments=(rest,))
        words = tuple(raw_words(rest, self._escape))
        _check_count(made, words)
        return replace(made, arguments=words)

    def _onbuild(self, made: Instruction, line: Line, rest: str) -> Instruction:
        if not rest:
            raise _Fault(_needs("ONBUILD"), at=made.written)
        trigger = self._parse(line, rest)
        if trigger.keyword in _NOT_TRIGGERED:
            chained = trigger.keyword == "ONBUILD"
            raise _Fault(
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
                if chained
                else f"{trigger.keyword} isn't allowed as an ONBUILD trigger",
                at=trigger.written,
            )
        return replace(made, arguments=(rest,), trigger=trigger, heredocs=trigger.heredocs)

    def _pairs(self, made: Instruction, rest: str) -> Instruction:
        words = raw_words(rest, self._escape)
        if "=" not in words[0]:
            # The old form: one name, and all that follows.
            name, _, value = rest.partition(" ") if " " in rest else rest.partition("\t")
            if not value.strip():
                raise _Fault(f"{made.keyword} must have two arguments", at=words[0])
            return replace(made, arguments=(name, value.strip()), legacy=True)
        found: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise _Fault(
                    f"Syntax error - can't find = in {word!r}. Must be of the form: name=value",
                    at=word,
                )
            if not name:
                raise _Fault(f"{made.keyword} names can not be blank", at=word)
            found += (name, value)
        return replace(made, arguments=tuple(found))


class _Fault(Exception):
    def __init__(self, detail: str, *, at: str = "", hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.at = at
        self.hint = hint


def _unknown(written: str) -> _Fault:
    near = get_close_matches(written.upper(), KEYWORDS, 1, 0.6)
    return _Fault(
        f"unknown instruction: {written}",
        at=written,
        hint=f"did you mean {near[0]}?" if near else "",
    )


def _needs(keyword: str) -> str:
    if keyword in _ONE:
        return f"{keyword} requires exactly one argument"
    if keyword == "FROM":
        return "FROM requires either one or three arguments"
    if keyword in ("ADD", "COPY"):
        return f"{keyword} requires at least two arguments, but only one was provided"
    return f"{keyword} requires at least one argument"


def _check_count(made: Instruction, words: tuple[str, ...]) -> None:
    match made.keyword:
        case "FROM":
            if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
                raise _Fault(_needs("FROM"), at=made.written)
        case "ADD" | "COPY":
            if len(words) < 2:
                raise _Fault(
                    f"{made.keyword} requires at least two arguments, but only one was provided. "
                    "Destination could not be determined",
                    at=made.written,
                )
            if parse_heredoc(words[-1]) is not None and made.heredocs:
                raise _Fault(
                    f"{made.keyword} cannot accept a heredoc as a destination", at=words[-1]
                )
        case "ARG":
            for word in words:
                if not word.partition("=")[0]:
                    raise _Fault("ARG names can not be blank", at=word)
        case "VOLUME":
            if any(not word for word in words):
                raise _Fault("VOLUME specified can not be an empty string", at=made.written)
        case _:
            return


def _healthcheck(made: Instruction, rest: str) -> Instruction:
    if not rest:
        raise _Fault("HEALTHCHECK requires at least one argument", at=made.written)
    kind, _, command = rest.partition(" ")
    kind, command = kind.upper(), command.strip()
    if kind == "NONE":
        if command:
            raise _Fault("HEALTHCHECK NONE takes no arguments", at=command)
        return replace(made, arguments=("NONE",))
    if kind != "CMD":
        raise _Fault(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)', at=rest.partition(" ")[0])
    listed = parse_json_list(command)
    if listed is not None:
        if not listed:
            raise _Fault("Missing command after HEALTHCHECK CMD", at=made.written)
        return replace(made, arguments=("CMD", *listed), form=Form.EXEC)
    if not command:
        raise _Fault("Missing command after HEALTHCHECK CMD", at=made.written)
    return replace(made, arguments=("CMD", command))


def parse_json_list(text: str) -> tuple[str, ...] | None:
    """Return the strings of a JSON list, None for what is none (it then is the shell form)."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    values = cast("list[object]", found)
    if not all(isinstance(value, str) for value in values):
        return None
    return tuple(cast("list[str]", values))
