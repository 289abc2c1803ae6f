"""What a template's tree is made of."""

from __future__ import annotations

TYPE_CHECKING = False


class Constant:
    """A literal: text, number, truth."""

    __slots__ = ("source", "value")

    def __init__(self, value: object, source: str) -> None:
        self.value = value
        self.source = source


class Path:
    """Fields of a base: `.A.B` (base None), `$x.A`, `(pipeline).A`."""

    __slots__ = ("at", "base", "fields", "source")

    def __init__(self, base: Node | None, fields: list[str], source: str, at: int) -> None:
        self.base = base
        self.fields = fields
        self.source = source
        self.at = at


class Variable:
    """`$` or `$name`."""

    __slots__ = ("name", "source")

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = name


class Call:
    """A command: what stands first, and its arguments. `at` is its column."""

    __slots__ = ("arguments", "at", "head", "source")

    def __init__(self, head: Node | str, arguments: list[Node], source: str, at: int) -> None:
        self.head = head
        self.arguments = arguments
        self.source = source
        self.at = at


class Pipeline:
    """Commands, each given the one before as its last argument; variables that take the result."""

    __slots__ = ("commands", "declares", "source", "variables")

    def __init__(
        self, commands: list[Call], variables: list[str], declares: bool, source: str
    ) -> None:
        self.commands = commands
        self.variables = variables
        self.declares = declares
        self.source = source


class Text:
    """Plain text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Branch:
    """`if`, `with` or `range`: a pipeline, a body, and an else."""

    __slots__ = ("body", "kind", "otherwise", "pipeline")

    def __init__(
        self, kind: str, pipeline: Pipeline, body: list[Part], otherwise: list[Part]
    ) -> None:
        self.kind = kind
        self.pipeline = pipeline
        self.body = body
        self.otherwise = otherwise


class Jump:
    """`break` or `continue`."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Insert:
    """`template "name" pipeline`."""

    __slots__ = ("at", "name", "pipeline")

    def __init__(self, name: str, pipeline: Pipeline | None, at: int) -> None:
        self.name = name
        self.pipeline = pipeline
        self.at = at


if TYPE_CHECKING:
    Node = Constant | Path | Variable | Call | Pipeline
    Part = Text | Pipeline | Branch | Jump | Insert


class Template:
    """A parsed template: its body, and the templates it defines by name."""

    __slots__ = ("body", "defined")

    def __init__(self, body: list[Part], defined: dict[str, list[Part]]) -> None:
        self.body = body
        self.defined = defined
