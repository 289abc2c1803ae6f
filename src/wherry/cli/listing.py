"""Listings: rows of named fields as a table, as JSON, or through a template."""

from __future__ import annotations

import sys

from wherry.cli.failure import Failure
from wherry.cli.flags import Flag
from wherry.cli.gojson import dumps
from wherry.cli.table import align
from wherry.cli.template.values import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.cli.style import Style


FORMAT = Flag(
    "format", "string", "Format output: 'table', 'table TEMPLATE', 'json', or a Go template"
)


def filter_flag(text: str = "Filter output based on conditions provided") -> Flag:
    """Return `--filter` of a listing."""
    return Flag("filter", "filter", text, short="f", many=True, label="filter")


class Listing:
    """What a listing can show: Go's type name, the columns of its table, every field's title."""

    __slots__ = ("kind", "quiet", "raw", "table", "titles", "tried")

    def __init__(
        self,
        kind: str,
        table: str,
        titles: dict[str, str],
        *,
        quiet: str = "ID",
        raw: str = "",
        tried: bool = False,
    ) -> None:
        """`table` is a template of the columns; `quiet` the field that `-q` shows.

        `tried`: Docker's client tries such a template before it asks the engine, and has other words.
        """
        self.tried = tried
        self.kind = kind
        self.table = table
        self.titles = titles
        self.quiet = quiet
        self.raw = raw

    def render(
        self,
        rows: Iterable[Row],
        form: str,
        *,
        quiet: bool = False,
        style: Style | None = None,
    ) -> str:
        """Return the rows in the form that `--format` (or, empty, the default table) asks for."""
        if quiet and not form:
            return "".join(f"{row.fields[self.quiet]()}\n" for row in rows)
        if form == "json":
            return "".join(f"{dumps(row.values(), html=True)}\n" for row in rows)
        template, table = self._template(form)
        if table and _is_plain(template):
            return self._plain(template, rows, style)
        return self._templated(template, rows, table)

    def _template(self, form: str) -> tuple[str, bool]:
        if form in ("", "table"):
            return self.table, True
        if form == "raw" and self.raw:
            return self.raw, False
        table = form.startswith("table")
        body = form.removeprefix("table").strip(" ") if table else form.strip(" ")
        return body.replace("\\t", "\t").replace("\\n", "\n"), table

    def _plain(self, template: str, rows: Iterable[Row], style: Style | None) -> str:
        """A table of bare fields: no template engine is loaded for it."""
        names = [cell[3:-2] for cell in template.split("\t")]
        for name in names:
            if name not in self.titles:
                raise Failure(
                    f'template parsing error: template: :1:2: executing "" at <.{name}>: '
                    f"can't evaluate field {name} in type {self.kind}"
                )
        lines = ["\t".join(self.titles[name] for name in names)]
        for row in rows:
            lines.append("\t".join(str(row.fields[name]()) for name in names))
        text = align("\n".join(lines))
        if style is not None and style.on:
            head, newline, rest = text.partition("\n")
            text = style("1", head) + newline + rest
        return text + "\n"

    def _templated(self, body: str, rows: Iterable[Row], table: bool) -> str:
        from wherry.cli.template.evaluate import evaluate
        from wherry.cli.template.functions import HEADER_FUNCTIONS
        from wherry.cli.template.lexer import TemplateError
        from wherry.cli.template.syntax import parse
        from wherry.cli.template.values import Titles

        words = ("template parsing error", "template parsing error")
        if self.tried:
            words = ("failed to parse template", "failed to execute template")
        try:
            template = parse(body)
        except TemplateError as error:
            raise Failure(f"{words[0]}: {error.text}") from None
        try:
            lines = [evaluate(template, row) for row in rows]
            if not table:
                return "".join(f"{line}\n" for line in lines)
            head = evaluate(template, Titles(self.titles), HEADER_FUNCTIONS)
        except TemplateError as error:
            raise Failure(f"{words[1]}: {error.text}") from None
        return align("\n".join([head, *lines])) + "\n"


def _is_plain(template: str) -> bool:
    return all(
        cell.startswith("{{.") and cell.endswith("}}") and cell[3:-2].isalnum()
        for cell in template.split("\t")
    )


def show_value(value: object, form: str, *, kind: str, name: str = "") -> str:
    """Return one API object through a `--format` of `info` or `version`: `json` or a template.

    `kind` is Go's name for the object's type, `name` that of the template, for errors.
    """
    from wherry.cli.template.evaluate import evaluate
    from wherry.cli.template.lexer import TemplateError
    from wherry.cli.template.syntax import parse
    from wherry.cli.template.values import wrap

    if form == "json":
        form = "{{json .}}"
    try:
        template = parse(form)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error.text}", 64) from None
    try:
        return evaluate(template, wrap(value)) + "\n"
    except TemplateError as error:
        text = error.text.replace("template: :", f"template: {name}:", 1)
        text = text.replace('executing "" at', f'executing "{name}" at', 1)
        what, lacks, field = text.partition("map has no entry for key ")
        if lacks:
            text = f"{what}can't evaluate field {field.strip(chr(34))} in type {kind}"
        # The line that Docker's client has begun by then.
        sys.stdout.write("\n")
        raise Failure(text) from None


def filters_query(conditions: list[tuple[str, str]]) -> dict[str, str]:
    """Return `filters` of the API: JSON of name to set of values; nothing without conditions."""
    if not conditions:
        return {}
    from wherry.client import wire

    names: dict[str, dict[str, bool]] = {}
    for name, value in conditions:
        names.setdefault(name, {})[value] = True
    ordered = {name: dict(sorted(names[name].items())) for name in sorted(names)}
    return {"filters": wire.encode(ordered)}
