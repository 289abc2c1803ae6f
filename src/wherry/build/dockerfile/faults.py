"""What is wrong with a Dockerfile, told with the file, the line, the instruction and a caret."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from wherry.build.dockerfile.syntax import Dockerfile, Span
from wherry.model.errors import Invalid, WherryError

_AROUND = 2
"""Lines shown before and after the culprit."""


class DockerfileError(Invalid):
    """A mistake in a Dockerfile. `detail` is the message alone; `span` None for the file as a whole."""

    def __init__(
        self,
        detail: str,
        *,
        span: Span | None = None,
        name: str = "Dockerfile",
        lines: Sequence[str] = (),
        at: str = "",
        hint: str = "",
    ) -> None:
        """`at` is the text that the caret points to, within the first line of `span`."""
        self.detail = detail
        self.span = span
        self.name = name
        super().__init__(render_fault(detail, span, name, lines, at), hint=hint)

    def __str__(self) -> str:
        first, newline, rest = self.message.partition("\n")
        return f"{first} ({self.hint}){newline}{rest}" if self.hint else self.message


def render_fault(
    detail: str, span: Span | None, name: str, lines: Sequence[str], at: str = ""
) -> str:
    """Return the message: `NAME:LINE: DETAIL` and an excerpt, the culprit marked and pointed at."""
    if span is None:
        return f"{name}: {detail}"
    message = f"{name}:{span.first_line}: {detail}"
    if not lines:
        return message
    first = max(1, span.first_line - _AROUND)
    last = min(len(lines), span.last_line + _AROUND)
    width = len(str(last))
    shown = [message, "-" * 20]
    for number in range(first, last + 1):
        line = lines[number - 1]
        mark = ">>>" if span.first_line <= number <= span.last_line else "   "
        shown.append(f"{number:>{width}} | {mark} {line}".rstrip())
        if number == span.first_line and at and at in line:
            column = len(f"{number:>{width}} | {mark} ") + line.index(at)
            shown.append(" " * column + "^" * max(1, len(at)))
    shown.append("-" * 20)
    return "\n".join(shown)


def show_place(span: Span, name: str, lines: Sequence[str]) -> str:
    """Return `NAME:LINE` and the lines around it, those of `span` marked."""
    head, _, rest = render_fault("", span, name, lines).partition("\n")
    return f"{head.removesuffix(': ')}\n{rest}" if rest else ""


@contextmanager
def locating(dockerfile: Dockerfile, reference: str) -> Generator[None]:
    """Let an error about the image `reference` tell which line asks for it, and the stage that may be meant."""
    try:
        yield
    except WherryError as error:
        lowered = reference.lower()
        asking = [one for one in dockerfile.instructions if lowered in one.original.lower()]
        if not asking:
            raise
        names = [
            one.arguments[2]
            for one in dockerfile.instructions
            if len(one.arguments) == 3 and one.keyword == "FROM"
        ]
        near = get_close_matches(lowered, names, 1)
        meant = f" (did you mean the stage {near[0]}?)" if near else ""
        error.message = render_fault(
            f"{reference}{meant}: {error}" if meant or reference not in str(error) else str(error),
            asking[0].span,
            dockerfile.name,
            dockerfile.lines,
            reference,
        )
        error.hint = ""
        raise
