"""A template's tree and a value to text."""

from __future__ import annotations

from wherry.cli.template.functions import ARITY, FUNCTIONS
from wherry.cli.template.lexer import TemplateError
from wherry.cli.template.nodes import (
    Branch,
    Call,
    Constant,
    Insert,
    Jump,
    Path,
    Pipeline,
    Template,
    Text,
    Variable,
)
from wherry.cli.template.values import MISSING, OPTIONAL, Map, Row, Titles, show, true

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from wherry.cli.template.functions import Function
    from wherry.cli.template.nodes import Node, Part

_DEEPEST = 1000
_NOTHING: Any = object()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


def evaluate(template: Template, value: Any, functions: dict[str, Function] = FUNCTIONS) -> str:
    """Return what the template makes of `value`.

    Raises TemplateError.
    """
    run = _Run(template, functions)
    try:
        run.parts(template.body, value, [("$", value)])
    except RecursionError:
        raise TemplateError('template: :1: executing "": exceeded maximum template depth') from None
    return "".join(run.out)


class _Run:
    def __init__(self, template: Template, functions: dict[str, Function]) -> None:
        self.template = template
        self.functions = functions
        self.out: list[str] = []
        self.depth = 0

    def fail(self, at: int, source: str, what: str) -> TemplateError:
        return TemplateError(f'template: :1:{at}: executing "" at <{source}>: {what}')

    def parts(self, parts: list[Part], dot: Any, scope: list[tuple[str, Any]]) -> None:
        mark = len(scope)
        for part in parts:
            if isinstance(part, Text):
                self.out.append(part.text)
            elif isinstance(part, Pipeline):
                value = self.pipeline(part, dot, scope)
                if not part.variables:
                    self.out.append(
                        show(value, value is not None) if value is not MISSING else show(value)
                    )
            elif isinstance(part, Branch):
                self.branch(part, dot, scope)
            elif isinstance(part, Jump):
                raise _Break if part.kind == "break" else _Continue
            else:
                self.insert(part, dot, scope)
        del scope[mark:]

    def insert(self, part: Insert, dot: Any, scope: list[tuple[str, Any]]) -> None:
        body = self.template.defined.get(part.name)
        if body is None:
            source = f'{{{{template "{part.name}"}}}}'
            raise self.fail(part.at, source, f'template "{part.name}" not defined')
        value = self.pipeline(part.pipeline, dot, scope) if part.pipeline else None
        self.depth += 1
        if self.depth > _DEEPEST:
            raise RecursionError
        self.parts(body, value, [("$", value)])
        self.depth -= 1

    def branch(self, part: Branch, dot: Any, scope: list[tuple[str, Any]]) -> None:
        mark = len(scope)
        if part.kind == "range":
            self.loop(part, dot, scope)
        else:
            value = self.pipeline(part.pipeline, dot, scope)
            if true(value):
                self.parts(part.body, value if part.kind == "with" else dot, scope)
            else:
                self.parts(part.otherwise, dot, scope)
        del scope[mark:]

    def loop(self, part: Branch, dot: Any, scope: list[tuple[str, Any]]) -> None:
        value = self.pipeline(part.pipeline, dot, scope, assign=False)
        pairs = self.pairs(part, value)
        if not pairs:
            self.parts(part.otherwise, dot, scope)
            return
        mark = len(scope)
        names = part.pipeline.variables
        for key, item in pairs:
            given = [item] if len(names) == 1 else [key, item]
            for name, content in zip(names, given, strict=False):
                if part.pipeline.declares:
                    scope.append((name, content))
                else:
                    _assign(scope, name, content)
            try:
                self.parts(part.body, item, scope)
            except _Break:
                break
            except _Continue:
                pass
            finally:
                del scope[mark:]

    def pairs(self, part: Branch, value: Any) -> Iterable[tuple[Any, Any]]:
        if value is None or value is MISSING:
            return []
        if isinstance(value, dict):
            entries: dict[str, Any] = value  # pyright: ignore
            return [(key, entries[key]) for key in sorted(entries)]
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))  # pyright: ignore
        if isinstance(value, int) and not isinstance(value, bool):
            return ((i, i) for i in range(value)) if value > 0 else []
        call = part.pipeline.commands[-1]
        raise self.fail(call.at, call.source, f"range can't iterate over {show(value, False)}")

    def pipeline(
        self, part: Pipeline, dot: Any, scope: list[tuple[str, Any]], assign: bool = True
    ) -> Any:
        value: Any = _NOTHING
        for call in part.commands:
            value = self.command(call, dot, scope, value)
        if assign:
            for name in part.variables:
                if part.declares:
                    scope.append((name, value))
                else:
                    _assign(scope, name, value)
        return value

    def command(self, call: Call, dot: Any, scope: list[tuple[str, Any]], last: Any) -> Any:
        if isinstance(call.head, str):
            return self.function(call, call.head, dot, scope, last)
        if isinstance(call.head, Constant) and call.head.value is None:
            raise self.fail(call.at, call.source, "nil is not a command")
        value = self.node(call.head, dot, scope, call.at)
        given = [self.node(node, dot, scope, call.at) for node in call.arguments]
        if last is not _NOTHING:
            given.append(last)
        if callable(value):
            try:
                return value(*given)
            except TypeError:
                what = f"wrong number of args for {_last_name(call)}: want 1 got {len(given)}"
                raise self.fail(call.at, call.source, what) from None
        if given:
            what = f"can't give argument to non-function {call.head.source}"
            if isinstance(call.head, Path):
                what = f"{_last_name(call)} is not a method but has arguments"
            raise self.fail(call.at, call.head.source, what)
        return value

    def function(
        self, call: Call, name: str, dot: Any, scope: list[tuple[str, Any]], last: Any
    ) -> Any:
        if name in ("and", "or"):
            return self.short_circuit(call, name, dot, scope, last)
        given = [self.node(node, dot, scope, call.at) for node in call.arguments]
        if last is not _NOTHING:
            given.append(last)
        least, most = ARITY[name]
        if len(given) < least or (most is not None and len(given) > most):
            want = f"at least {least}" if most is None else f"{least}"
            what = f"wrong number of args for {name}: want {want} got {len(given)}"
            raise self.fail(call.at, name, what)
        try:
            return self.functions[name](*given)
        except ValueError as error:
            what = f"error calling {name}: {error}"
            raise self.fail(call.at, call.source, what) from None
        except TypeError as error:
            source = call.arguments[0].source if call.arguments else call.source
            raise self.fail(call.at + len(name) + 1, source, str(error)) from None

    def short_circuit(
        self, call: Call, name: str, dot: Any, scope: list[tuple[str, Any]], last: Any
    ) -> Any:
        if not call.arguments and last is _NOTHING:
            what = f"wrong number of args for {name}: want at least 1 got 0"
            raise self.fail(call.at, call.source, what)
        value: Any = None
        for node in call.arguments:
            value = self.node(node, dot, scope, call.at)
            if true(value) is (name == "or"):
                return value
        return value if last is _NOTHING else last

    def node(self, node: Node, dot: Any, scope: list[tuple[str, Any]], at: int) -> Any:
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Variable):
            return _lookup(scope, node.name)
        if isinstance(node, Pipeline):
            return self.pipeline(node, dot, scope)
        if isinstance(node, Call):
            return self.command(node, dot, scope, _NOTHING)
        value = dot if node.base is None else self.node(node.base, dot, scope, at)
        # Go knows a chain of fields by the place of its second.
        where = node.at + (len(node.fields[0]) + 1 if len(node.fields) > 1 else 0)
        for name in node.fields:
            value = self.field(value, name, where, node)
        return value

    def field(self, value: Any, name: str, at: int, node: Path) -> Any:
        if isinstance(value, Row):
            if name not in value.fields:
                what = f"can't evaluate field {name} in type {value.kind}"
                raise self.fail(at, node.source, what)
            return value.fields[name]()
        if isinstance(value, Titles) and name == "Label":
            return value.label
        if isinstance(value, Map):
            return value.get(name, MISSING)
        if isinstance(value, dict):
            entries: dict[str, Any] = value  # pyright: ignore
            if name in entries:
                return entries[name]
            if name in OPTIONAL:
                return None
            raise self.fail(at, node.source, f'map has no entry for key "{name}"')
        if value is None or value is MISSING:
            raise self.fail(at, node.source, f"nil pointer evaluating interface {{}}.{name}")
        what = f"can't evaluate field {name} in type interface {{}}"
        raise self.fail(at, node.source, what)


def _last_name(call: Call) -> str:
    return call.head.fields[-1] if isinstance(call.head, Path) and call.head.fields else call.source


def _lookup(scope: list[tuple[str, Any]], name: str) -> Any:
    for known, value in reversed(scope):
        if known == name:
            return value
    return None


def _assign(scope: list[tuple[str, Any]], name: str, value: Any) -> None:
    for i in range(len(scope) - 1, -1, -1):
        if scope[i][0] == name:
            scope[i] = (name, value)
            return
