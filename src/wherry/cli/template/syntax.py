"""Template tokens to a tree."""

from __future__ import annotations

from wherry.cli.template.functions import NAMES
from wherry.cli.template.lexer import (
    CHARACTER,
    CLOSE,
    FIELD,
    NAME,
    NUMBER,
    OPEN,
    SIGN,
    SPACE,
    STRING,
    TEXT,
    VARIABLE,
    Token,
    bad,
    tokens,
)
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.template.nodes import Node, Part


def parse(text: str) -> Template:
    """Return the tree of `text`. Raises TemplateError with Go's words."""
    parser = _Parser(text)
    try:
        body, _ = parser.parts(())
    except RecursionError:
        raise bad(1, "max expression depth exceeded") from None
    return Template(body, parser.defined)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.next = 0
        self.variables: list[str] = ["$"]
        self.loops = 0
        self.defined: dict[str, list[Part]] = {}

    def take(self) -> Token:
        if self.next >= len(self.tokens):
            raise bad(self.text.count("\n") + 1, "unexpected EOF")
        token = self.tokens[self.next]
        self.next += 1
        return token

    def peek(self) -> Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def skip_space(self) -> None:
        while (token := self.peek()) is not None and token.kind == SPACE:
            self.next += 1

    def parts(self, ends: tuple[str, ...]) -> tuple[list[Part], str]:
        """Parts up to one of the keywords in `ends`, which is returned; at the top, to the end."""
        out: list[Part] = []
        while True:
            token = self.peek()
            if token is None:
                if ends:
                    raise bad(self.text.count("\n") + 1, "unexpected EOF")
                return out, ""
            self.next += 1
            if token.kind == TEXT:
                out.append(Text(token.text))
                continue
            self.skip_space()
            first = self.peek()
            word = first.text if first is not None and first.kind == NAME else ""
            if word in ("end", "else"):
                if word not in ends:
                    raise bad(token.line, f"unexpected {{{{{word}}}}}")
                self.next += 1
                return out, word
            part = self.action(word, token)
            if part is not None:
                out.append(part)

    def action(self, word: str, opened: Token) -> Part | None:
        if word in ("if", "with", "range"):
            self.next += 1
            return self.branch(word)
        if word in ("break", "continue"):
            self.next += 1
            self.close(word)
            if not self.loops:
                raise bad(opened.line, f"{{{{{word}}}}} outside {{{{range}}}}")
            return Jump(word)
        if word in ("define", "block"):
            self.next += 1
            return self.definition(word)
        if word == "template":
            self.next += 1
            name = self.name_of_template(word)
            self.skip_space()
            token = self.peek()
            empty = token is not None and token.kind == CLOSE
            pipeline = None if empty else self.pipeline("template clause")
            self.close("template clause")
            return Insert(name.text, pipeline, name.at)
        pipeline = self.pipeline("command")
        self.close("command")
        return pipeline

    def name_of_template(self, word: str) -> Token:
        self.skip_space()
        token = self.take()
        if token.kind != STRING:
            raise bad(token.line, f'unexpected "{token.text}" in {word} clause')
        return token

    def definition(self, word: str) -> Part | None:
        name = self.name_of_template(word)
        self.skip_space()
        pipeline = self.pipeline("block clause") if word == "block" else None
        self.close(f"{word} clause")
        outer, self.variables = self.variables, ["$"]
        self.defined[name.text], _ = self.parts(("end",))
        self.variables = outer
        self.close("end")
        return Insert(name.text, pipeline, name.at) if word == "block" else None

    def close(self, context: str) -> None:
        self.skip_space()
        token = self.take()
        if token.kind != CLOSE:
            raise bad(token.line, f"unexpected {_shown(token)} in {context}")

    def branch(self, kind: str) -> Branch:
        depth = len(self.variables)
        pipeline = self.pipeline(kind)
        self.close(kind)
        self.loops += kind == "range"
        body, end = self.parts(("end", "else"))
        self.loops -= kind == "range"
        otherwise: list[Part] = []
        if end == "else":
            self.skip_space()
            token = self.peek()
            if token is not None and token.kind == NAME and token.text == kind and kind != "range":
                self.next += 1
                otherwise = [self.branch(kind)]
                del self.variables[depth:]
                return Branch(kind, pipeline, body, otherwise)
            self.close("else")
            otherwise, _ = self.parts(("end",))
        self.close("end")
        del self.variables[depth:]
        return Branch(kind, pipeline, body, otherwise)

    def pipeline(self, context: str) -> Pipeline:
        self.skip_space()
        start = self.next
        names, declares = self.declarations(context)
        commands: list[Call] = []
        while True:
            self.skip_space()
            commands.append(self.command(context))
            self.skip_space()
            token = self.peek()
            if token is None or token.text != "|" or token.kind != SIGN:
                break
            self.next += 1
            self.skip_space()
            after = self.peek()
            if after is not None and after.kind == CLOSE:
                break
        return Pipeline(commands, names, declares, self.source(start))

    def source(self, start: int) -> str:
        end = self.tokens[self.next].at if self.next < len(self.tokens) else len(self.text)
        return self.text[self.tokens[start].at : end].strip()

    def declarations(self, context: str) -> tuple[list[str], bool]:
        mark = self.next
        names: list[str] = []
        while (token := self.peek()) is not None and token.kind == VARIABLE:
            names.append(token.text)
            self.next += 1
            self.skip_space()
            sign = self.peek()
            if sign is None or sign.kind != SIGN:
                break
            if sign.text in (":=", "="):
                self.next += 1
                if sign.text == ":=":
                    self.variables += names
                else:
                    for name in names:
                        self.known(name, token.line)
                return names, sign.text == ":="
            if sign.text != "," or context != "range":
                break
            if len(names) > 1:
                raise bad(sign.line, "too many declarations in range")
            self.next += 1
            self.skip_space()
        self.next = mark
        return [], False

    def known(self, name: str, line: int) -> None:
        if name not in self.variables:
            raise bad(line, f'undefined variable "{name}"')

    def command(self, context: str) -> Call:
        start = self.next
        token = self.peek()
        if token is None:
            raise bad(self.text.count("\n") + 1, "unclosed action")
        if token.kind == CLOSE:
            unclosed = context == "parenthesized pipeline"
            raise bad(
                token.line, "unclosed left paren" if unclosed else f"missing value for {context}"
            )
        if token.kind == SIGN and token.text == ")":
            raise bad(token.line, "unexpected right paren")
        if token.kind == SIGN and token.text != "(":
            raise bad(token.line, f'unexpected "{token.text}" in {context}')
        head: Node | str
        if token.kind == NAME and token.text not in ("true", "false", "nil"):
            if token.text not in NAMES:
                raise bad(token.line, f'function "{token.text}" not defined')
            self.next += 1
            head = token.text
        else:
            head = self.operand()
        arguments: list[Node] = []
        while (space := self.peek()) is not None and space.kind == SPACE:
            self.skip_space()
            after = self.peek()
            if after is None or after.kind == CLOSE or (after.kind == SIGN and after.text in "|)"):
                break
            arguments.append(self.operand())
        follower = self.peek()
        ends = follower is None or follower.kind in (CLOSE, SPACE)
        if not ends and follower is not None and follower.text not in ("|", ")"):
            raise bad(follower.line, f"unexpected {_shown(follower)} in operand")
        return Call(head, arguments, self.source(start), token.at)

    def operand(self) -> Node:
        start = self.next
        token = self.take()
        node = self.primary(token)
        fields: list[str] = []
        while (after := self.peek()) is not None and after.kind == FIELD and after.text:
            self.next += 1
            fields.append(after.text)
        if not fields:
            return node
        if isinstance(node, Path) and node.base is None:
            return Path(None, [*node.fields, *fields], self.source(start), token.at)
        if isinstance(node, Constant):
            raise bad(token.line, f"unexpected . after term {node.source}")
        return Path(node, fields, self.source(start), token.at)

    def primary(self, token: Token) -> Node:
        if token.kind == FIELD:
            return Path(None, [token.text] if token.text else [], f".{token.text}", token.at)
        if token.kind == VARIABLE:
            self.known(token.text, token.line)
            return Variable(token.text)
        if token.kind == STRING:
            return Constant(token.text, f'"{token.text}"')
        if token.kind == CHARACTER:
            if len(token.text) != 1:
                raise bad(token.line, f"malformed character constant: '{token.text}'")
            return Constant(ord(token.text), f"'{token.text}'")
        if token.kind == NUMBER:
            return Constant(_number(token), token.text)
        if token.kind == NAME:
            if token.text in ("true", "false"):
                return Constant(token.text == "true", token.text)
            if token.text == "nil":
                return Constant(None, "nil")
            if token.text not in NAMES:
                raise bad(token.line, f'function "{token.text}" not defined')
            return Call(token.text, [], token.text, token.at)
        if token.kind == SIGN and token.text == "(":
            pipeline = self.pipeline("parenthesized pipeline")
            self.skip_space()
            closing = self.take()
            if closing.kind != SIGN or closing.text != ")":
                raise bad(closing.line, "unclosed left paren")
            return pipeline
        if token.kind == OPEN:
            raise bad(token.line, 'unexpected "{{" in operand')
        raise bad(token.line, f"unexpected {_shown(token)} in operand")


def _shown(token: Token) -> str:
    if token.kind == FIELD:
        return f"<.{token.text}>"
    return f'"{token.text}"' if token.kind != SPACE else "space"


def _number(token: Token) -> int | float:
    text = token.text.replace("_", "")
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise bad(token.line, f'bad number syntax: "{token.text}"') from None
