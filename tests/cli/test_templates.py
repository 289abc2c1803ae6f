"""Templates make of a container what `docker inspect --format` makes of it, errors included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cli.fake_engine import Answer, FakeEngine
from tests.cli.record_templates import CONTAINER, RECORDED
from wherry.cli import start
from wherry.cli.template.evaluate import evaluate
from wherry.cli.template.lexer import TemplateError
from wherry.cli.template.syntax import parse
from wherry.cli.template.values import wrap

RECORDS: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r["template"])
def test_template_is_dockers(
    record: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeEngine(tmp_path / "s") as engine:
        engine.route("GET", "/containers/x/json", Answer.of(CONTAINER))
        code = start.run(["-H", engine.url, "inspect", "-f", record["template"], "x"])
    out, err = capsys.readouterr()
    assert {"code": code, "stdout": out, "stderr": err} == {
        key: record[key] for key in ("code", "stdout", "stderr")
    }


PIECES = st.sampled_from(
    [
        *(
            "{{",
            "}}",
            "{{-",
            "-}}",
            " ",
            ".",
            ".Name",
            ".State",
            ".Config.Env",
            "$",
            "$x",
            ":=",
            "=",
        ),
        *("if ", "else ", "end", "range ", "with ", "define ", "template ", "block ", "break", ","),
        *('"a"', "`b`", "'c'", "1", "2.5", "-1", "true", "nil", "(", ")", "|", "json ", "join "),
        *(
            "index ",
            "len ",
            "printf ",
            "eq ",
            "and ",
            "or ",
            "not ",
            "slice ",
            "split ",
            "println ",
        ),
        *("/*", "*/", "\\", '"', "\n", "text", "é", "\0"),
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join))
@example('{{define "a"}}{{template "a"}}{{end}}{{template "a"}}')
@example("{{" + "(" * 3000)
@example("{{range 1000000000000}}{{break}}{{end}}")
@example('{{printf "%999999999999d" 1}}')
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        evaluate(parse(text), wrap(CONTAINER))
    except TemplateError as error:
        assert error.text.startswith("template: ")


@given(st.text(st.characters(exclude_characters="{"), max_size=50))
def test_text_without_braces_is_itself(text: str) -> None:
    assert evaluate(parse(text), {}) == text


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans()))
def test_json_function_round_trips(value: dict[str, Any]) -> None:
    assert json.loads(evaluate(parse("{{json .}}"), value)) == value


def test_nothing_of_python_is_reachable() -> None:
    for field in ("__class__", "__init__", "keys", "items", "upper"):
        with pytest.raises(TemplateError):
            evaluate(parse("{{.State." + field + "}}"), wrap(CONTAINER))
        with pytest.raises(TemplateError):
            evaluate(parse("{{.Name." + field + "}}"), wrap(CONTAINER))
