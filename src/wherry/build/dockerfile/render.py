"""Instructions back to text: `parse(render(x)) == x`, but for where things stand."""

from __future__ import annotations

import json

from wherry.build.dockerfile.syntax import SWITCHES, Dockerfile, Form, Instruction


def render(file: Dockerfile) -> str:
    """Return a Dockerfile's text."""
    lines = [f"# {key}={value}\n" for key, value in file.directives]
    # An empty line keeps a comment that follows from being read as a directive.
    lines.append("\n" if lines else "")
    for instruction in file.instructions:
        lines += [f"# {comment}\n" for comment in instruction.comments]
        text = render_instruction(instruction)
        # The last word of a file: a line cannot end in it unless it is continued.
        continued = (len(text) - len(text.rstrip(file.escape))) % 2
        lines.append(f"{text}  {file.escape}\n" if continued else f"{text}\n")
        for document in instruction.heredocs:
            lines.append(f"{document.content}{document.name}\n")
        lines.append("\n")
    return "".join(lines).rstrip("\n") + "\n"


def render_instruction(one: Instruction) -> str:
    """Return one instruction's line, without its here-documents."""
    return " ".join([one.written or one.keyword, *_flags(one), _arguments(one)]).rstrip()


def _flags(one: Instruction) -> list[str]:
    return [
        f"--{name}" if not value and name in SWITCHES else f"--{name}={_quoted(value)}"
        for name, value in one.flags
    ]


def _quoted(value: str) -> str:
    # A flag's quotes were taken off; single ones keep everything but themselves.
    if not any(letter in value for letter in " \t\"'\\`"):
        return value
    return "'" + value.replace("'", "'\"'\"'") + "'"


def _arguments(one: Instruction) -> str:
    if one.trigger is not None:
        return render_instruction(one.trigger)
    words = one.arguments
    if one.keyword == "HEALTHCHECK":
        rest = _json(words[1:]) if one.form is Form.EXEC else " ".join(words[1:])
        return f"{words[0]} {rest}".rstrip()
    if one.form is Form.EXEC:
        return _json(words)
    if one.keyword in ("ENV", "LABEL"):
        if one.legacy:
            # Two spaces: one behind a backslash would be the name's.
            return f"{words[0]}  {words[1]}" if words[0][-1:] in "\\`" else " ".join(words)
        return " ".join(
            f"{name}={value}" for name, value in zip(words[::2], words[1::2], strict=True)
        )
    return " ".join(words)


def _json(words: tuple[str, ...]) -> str:
    return json.dumps(list(words), ensure_ascii=False)
