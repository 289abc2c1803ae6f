"""What a Dockerfile is made of, as frozen facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

Pairs = tuple[tuple[str, str], ...]

KEYWORDS = (
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)
HEREDOC_KEYWORDS = ("ADD", "COPY", "RUN")
SWITCHES = frozenset(("link", "parents", "keep-git-dir", "unpack"))
"""Flags that may stand without a value."""


class Form(StrEnum):
    """How arguments were written."""

    SHELL = "shell"
    """Words, or one text for a shell."""
    EXEC = "exec"
    """A JSON list of strings."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands: lines from 1 on, both included."""

    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One here-document: `<<NAME`, `<<-NAME`, `<<"NAME"`."""

    name: str
    content: str
    expand: bool = True
    """False where the name was quoted."""
    strip_tabs: bool = False
    descriptor: str = ""
    """The digits before `<<`."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    `arguments` are the words of a list, the single text of a shell form, or `name`, `value` in turn for
    ENV, LABEL; ARG keeps `name` or `name=value`. HEALTHCHECK has its type first (NONE, CMD). ONBUILD
    has its instruction in `trigger`. Variables are not expanded yet, quotes are as written.
    """

    keyword: str
    """Upper case."""
    arguments: tuple[str, ...]
    original: str
    """The logical line as written, continuations joined, here-documents not included."""
    span: Span
    flags: Pairs = ()
    """In order, quotes taken off; a flag without a value has an empty one."""
    form: Form = Form.SHELL
    heredocs: tuple[Heredoc, ...] = ()
    trigger: Instruction | None = None
    comments: tuple[str, ...] = ()
    """The comment lines right above it, without `#`."""
    written: str = ""
    """The keyword as written, for the lint on casing."""
    legacy: bool = False
    """ENV, LABEL written as `NAME VALUE`."""

    def flag(self, name: str) -> str | None:
        """Return the last value of a flag, None where it was not given."""
        found = None
        for key, value in self.flags:
            if key == name:
                found = value
        return found

    def values(self, name: str) -> tuple[str, ...]:
        """Return all values of a flag that may be repeated."""
        return tuple(value for key, value in self.flags if key == name)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """One file: its directives (`syntax`, `escape`, `check`) and its instructions."""

    instructions: tuple[Instruction, ...]
    directives: Pairs = ()
    name: str = "Dockerfile"
    escape: str = "\\"
    lines: tuple[str, ...] = field(default=(), compare=False)
    """The source, for messages."""
    empty_continuations: tuple[Span, ...] = field(default=(), compare=False)
    """Instructions with an empty line in their continuation."""
