"""Dockerfiles to instructions and back; mistakes named with their place; random bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.build.dockerfile.faults import DockerfileError
from wherry.build.dockerfile.parser import parse
from wherry.build.dockerfile.render import render
from wherry.build.dockerfile.syntax import KEYWORDS, Dockerfile, Form, Instruction, Span


def one(text: str) -> Instruction:
    (found,) = parse(text.encode()).instructions
    return found


def fault(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text.encode())
    return caught.value


def placeless(file: Dockerfile) -> Dockerfile:
    def bare(found: Instruction) -> Instruction:
        trigger = None if found.trigger is None else bare(found.trigger)
        return replace(found, span=Span(0, 0), original="", trigger=trigger)

    return replace(file, instructions=tuple(map(bare, file.instructions)))


def test_continuations_comments_and_empty_lines() -> None:
    found = one("RUN a \\\n  # a comment\n\n  && b \\  \n && c\n")
    assert found.arguments == ("a   && b  && c",)
    assert found.span == Span(1, 5)
    file = parse(b"# about\n# the base\nFROM x\n\n# gone\n\nRUN y")
    assert file.instructions[0].comments == ("about", "the base")
    assert file.instructions[1].comments == ()


def test_a_continuation_before_the_first_word() -> None:
    (run,) = parse(b"\\\n  RUN a\n").instructions
    assert (run.keyword, run.span.first_line, run.span.last_line) == ("RUN", 1, 2)
    with pytest.raises(DockerfileError, match="unknown instruction: ={"):
        parse(b"\\\n ={ b\n")


def test_an_escaped_escape_does_not_continue() -> None:
    file = parse(b"RUN a \\\\\nRUN b")
    assert [found.arguments for found in file.instructions] == [("a \\\\",), ("b",)]


def test_directives_are_only_at_the_top() -> None:
    file = parse(b"# syntax=docker/dockerfile:1\n#escape=`\nFROM x\nRUN a `\n b")
    assert dict(file.directives) == {"syntax": "docker/dockerfile:1", "escape": "`"}
    assert file.instructions[1].arguments == ("a  b",)
    assert parse(b"\n# escape=`\nFROM x").escape == "\\"
    assert "only one escape parser directive" in fault("#escape=`\n#escape=`\nFROM x").detail
    assert "invalid ESCAPE" in fault("#escape=x\nFROM x").detail


def test_forms() -> None:
    assert one('RUN ["a", "b c"]').form is Form.EXEC
    assert one('RUN ["a", "b c"]').arguments == ("a", "b c")
    assert one("RUN ['a']").form is Form.SHELL
    assert one('CMD echo "x y"').arguments == ('echo "x y"',)
    assert one('COPY ["a b", "c"]').arguments == ("a b", "c")
    assert one("COPY a 'b c' d").arguments == ("a", "'b c'", "d")
    assert one("HEALTHCHECK none").arguments == ("NONE",)
    health = one("HEALTHCHECK --interval=5s CMD curl -f x")
    assert (health.flags, health.arguments) == ((("interval", "5s"),), ("CMD", "curl -f x"))
    assert one("FROM --platform=linux/arm64 a AS b").arguments == ("a", "AS", "b")


def test_pairs() -> None:
    assert one('ENV a=1 b="x y" c=d\\ e').arguments == ("a", "1", "b", '"x y"', "c", "d\\ e")
    old = one("ENV a  b c")
    assert (old.arguments, old.legacy) == (("a", "b c"), True)
    assert one("LABEL a=").arguments == ("a", "")


def test_flags_in_quotes_and_repeated() -> None:
    found = one('RUN --mount=type=bind,source="a b" --mount=type=cache,target=/c cmd')
    assert found.values("mount") == ("type=bind,source=a b", "type=cache,target=/c")
    assert one("COPY --link --chown=a:b x y").flags == (("link", ""), ("chown", "a:b"))


def test_heredocs() -> None:
    found = one("RUN <<EOF cat\nline $x\n\n# no comment\nEOF\n")
    assert found.heredocs[0].content == "line $x\n\n# no comment\n"
    assert found.heredocs[0].expand
    tabbed = one("COPY <<-'A' <<B /there/\n\tone\n\tA\ntwo\nB\n")
    first, second = tabbed.heredocs
    assert (first.content, first.expand, first.strip_tabs) == ("one\n", False, True)
    assert (second.name, second.content) == ("B", "two\n")
    assert tabbed.span == Span(1, 5)
    # cat <<EOF within a word of the shell opens none for other instructions.
    assert not parse(b"CMD cat <<EOF").instructions[0].heredocs


def test_onbuild_has_its_instruction() -> None:
    found = one("ONBUILD COPY --chown=a x y")
    assert found.trigger is not None
    assert (found.trigger.keyword, found.trigger.arguments) == ("COPY", ("x", "y"))


@pytest.mark.parametrize(
    ("text", "line", "detail", "hint"),
    [
        ("FROM x\nRUM y", 2, "unknown instruction: RUM", "did you mean RUN?"),
        ("FROM x\nCOPY a", 2, "requires at least two arguments", ""),
        ("FROM", 1, "FROM requires either one or three arguments", ""),
        ("FROM a IS b", 1, "FROM requires either one or three arguments", ""),
        ("FROM x\nCOPY --form=a b c", 2, "unknown flag: --form", "did you mean --from?"),
        ("FROM x\nCOPY --from b", 2, "missing a value on flag: --from", ""),
        ("FROM x\nCOPY --link=x b c", 2, "expecting boolean value", ""),
        ("FROM x\nCOPY --chown=a --chown=b c d", 2, "duplicate flag specified: chown", ""),
        ("FROM x\nRUN <<EOF\nnever ended", 2, "unterminated heredoc", "EOF ends it"),
        ("FROM x\nENV a=1 b", 2, "can't find = in 'b'", ""),
        ("FROM x\nENV a", 2, "ENV must have two arguments", ""),
        ("FROM x\nENV =1", 2, "names can not be blank", ""),
        ("FROM x\nSHELL sh", 2, "SHELL requires the arguments to be in JSON form", ""),
        ("FROM x\nHEALTHCHECK curl", 2, 'Unknown type "CURL"', ""),
        ("FROM x\nHEALTHCHECK CMD", 2, "Missing command", ""),
        ("FROM x\nONBUILD ONBUILD RUN x", 2, "isn't allowed", ""),
        ("FROM x\nONBUILD FROM y", 2, "FROM isn't allowed", ""),
        ("FROM x\nWORKDIR", 2, "WORKDIR requires exactly one argument", ""),
        ("FROM x\nCOPY x <<EOF\nEOF", 2, "heredoc as a destination", ""),
    ],
)
def test_mistakes_have_a_place_and_a_way_out(text: str, line: int, detail: str, hint: str) -> None:
    found = fault(text)
    assert found.span is not None and found.span.first_line == line
    assert detail in found.detail
    assert hint in found.hint
    assert f"Dockerfile:{line}: " in found.message and ">>>" in found.message


def test_the_way_out_stands_beside_the_mistake() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(b"FROM x\nRUM a\n", "D")
    first, *rest = str(caught.value).splitlines()
    assert first == "D:2: unknown instruction: RUM (did you mean RUN?)"
    assert rest[-1] == "-" * 20


def test_the_caret_points_at_the_culprit() -> None:
    lines = fault("FROM x\nCOPY --form=a b c\nRUN y").message.splitlines()
    at = next(number for number, line in enumerate(lines) if ">>> COPY" in line)
    assert lines[at].index("--form=a") == lines[at + 1].index("^")


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"\n\n", b"FROM x\0y"])
def test_what_is_no_dockerfile(data: bytes) -> None:
    with pytest.raises(DockerfileError):
        parse(data)


_TEXT = st.text(st.sampled_from("ab$ \"'\\=[],{}<-#/:\t"), max_size=20)
_LINES = st.lists(
    st.tuples(st.sampled_from((*KEYWORDS, "run", "Bad")), _TEXT).map(" ".join), max_size=6
).map("\n".join)


@settings(max_examples=400, deadline=None)
@given(_LINES, st.sampled_from(("", "#escape=`\n", "# syntax=x\n")))
def test_a_parsed_file_survives_being_rendered(text: str, head: str) -> None:
    try:
        file = parse((head + text).encode())
    except DockerfileError:
        return
    assert placeless(parse(render(file).encode())) == placeless(file)


@pytest.mark.parametrize(
    "text",
    ["FROM a\nENV [\\  b\n", "FROM a\nVOLUME \\  \\\n \n#c\n", "FROM a\nCMD \\\\\n\nRUN b\n"],
)
def test_words_that_end_in_a_backslash_survive_being_rendered(text: str) -> None:
    file = parse(text.encode())
    assert placeless(parse(render(file).encode())) == placeless(file)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        parse(data)
    except DockerfileError as error:
        assert error.message
