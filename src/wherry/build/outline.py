"""What a Dockerfile offers: its targets, and the arguments, secrets and ssh keys that one of them takes. Pure.

The JSON is that of `docker build --call=outline,format=json` and `targets`; asked: BuildKit in Docker 28.5.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from wherry.build.arguments import platform_arguments
from wherry.build.dockerfile.syntax import Dockerfile, Instruction
from wherry.build.dockerfile.words import Expansion, WordError
from wherry.model.build import BuildRequest
from wherry.model.errors import Invalid, NotFound
from wherry.model.images import Platform

Object = dict[str, object]
_VARIABLE = re.compile(r"\$\{?(\w+)")
_ANY = Platform("linux", "any")


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage of a Dockerfile."""

    index: int
    made: Instruction
    body: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        words = self.made.arguments
        return words[2].lower() if len(words) == 3 else ""


def describe(dockerfile: Dockerfile, request: BuildRequest) -> Object:
    """Return what `request.call` asks for. Raises Invalid, NotFound for a target that is not there."""
    source = base64.b64encode(request.dockerfile).decode()
    head, stages = _split(dockerfile)
    if request.call == "targets":
        return {"targets": _targets(stages), "sources": [source]}
    if request.call == "outline":
        outline = _Outline(dockerfile, request, head, stages)
        return {**outline.run(), "sources": [source]}
    raise Invalid(f"unsupported request frontend.{request.call}", hint="outline or targets")


def _split(dockerfile: Dockerfile) -> tuple[tuple[Instruction, ...], tuple[_Stage, ...]]:
    begins = [i for i, one in enumerate(dockerfile.instructions) if one.keyword == "FROM"]
    ends = [*begins[1:], len(dockerfile.instructions)]
    stages = tuple(
        _Stage(index, dockerfile.instructions[at], dockerfile.instructions[at + 1 : end])
        for index, (at, end) in enumerate(zip(begins, ends, strict=False))
    )
    return dockerfile.instructions[: begins[0] if begins else None], stages


def _targets(stages: tuple[_Stage, ...]) -> list[Object]:
    found: list[Object] = []
    for stage in stages:
        entry: Object = {}
        if stage.name:
            entry["name"] = stage.name
        if stage is stages[-1]:
            entry["default"] = True
        entry |= _described(stage.made, stage.name)
        found.append(entry | {"base": stage.made.arguments[0], **_place(stage.made)})
    return found


def _described(made: Instruction, name: str) -> Object:
    """The comment above that begins with the name says what it is."""
    for comment in made.comments:
        first, _, rest = comment.strip().partition(" ")
        if name and first == name and rest.strip():
            return {"description": rest.strip()}
    return {}


def _place(made: Instruction) -> Object:
    lines = {
        "start": {"line": made.span.first_line},
        "end": {"line": made.span.last_line},
    }
    return {"location": {"ranges": [lines]}}


class _Outline:
    def __init__(
        self,
        dockerfile: Dockerfile,
        request: BuildRequest,
        head: tuple[Instruction, ...],
        stages: tuple[_Stage, ...],
    ) -> None:
        self._escape = dockerfile.escape
        self._given = request.args
        self._target = request.target.lower()
        self._stages = stages
        self._platform = platform_arguments(_ANY, _ANY, request.target)
        self._globals: dict[str, tuple[int, Object]] = {}
        self._values: dict[str, str] = {}
        self._args: dict[str, tuple[int, Object]] = {}
        self._secrets: dict[str, tuple[int, Object]] = {}
        self._ssh: dict[str, tuple[int, Object]] = {}
        for made in head:
            for name, default in self._declared(made, self._values):
                value = self._given.get(name, default)
                self._globals[name] = self._entry(made, name, value)
                if value is not None:
                    self._values[name] = value

    def run(self) -> Object:
        """Return the lists that are not empty."""
        target = self._find(self._target) if self._target else self._stages[-1]
        if target is None:
            raise NotFound("target stage", self._target)
        for stage in sorted(self._needed(target), key=lambda one: one.index):
            self._take(stage)
        out: Object = {"name": target.name} if target.name else {}
        out |= _described(target.made, target.name)
        for key, found in (("args", self._args), ("secrets", self._secrets), ("ssh", self._ssh)):
            if found:
                ordered = sorted(found.items(), key=lambda item: (item[1][0], item[0]))
                if key == "args":
                    ordered = sorted(found.items(), key=lambda item: item[1][0])
                out[key] = [entry for _, (_, entry) in ordered]
        return out

    def _find(self, name: str, before: int | None = None) -> _Stage | None:
        for stage in reversed(self._stages[:before]):
            if name.lower() == stage.name or name == str(stage.index):
                return stage
        return None

    def _needed(self, target: _Stage) -> set[_Stage]:
        needed: set[_Stage] = set()
        pending = [target]
        while pending:
            stage = pending.pop()
            if stage in needed:
                continue
            needed.add(stage)
            names = [self._expanded(stage.made.arguments[0], self._values)]
            for made in stage.body:
                names += made.values("from")
                names += [mount["from"] for mount in _mounts(made) if "from" in mount]
            found = (self._find(name, stage.index) for name in names)
            pending += [one for one in found if one is not None]
        return needed

    def _take(self, stage: _Stage) -> None:
        for name in _VARIABLE.findall(" ".join(stage.made.arguments[:1])):
            if name in self._globals:
                self._args[name] = self._globals[name]
        values: dict[str, str] = {}
        for made in stage.body:
            for name, default in self._declared(made, values):
                self._argument(made, name, default, values)
            for mount in _mounts(made):
                self._mount(made, mount)

    def _argument(
        self, made: Instruction, name: str, default: str | None, values: dict[str, str]
    ) -> None:
        if default is None and name not in self._given:
            if name in self._globals:
                self._args[name] = self._globals[name]
                values |= {name: self._values[name]} if name in self._values else {}
                return
            if name in self._platform:
                return
        value = self._given.get(name, default)
        if value is not None:
            values[name] = value
        self._args[name] = self._entry(made, name, value)

    def _mount(self, made: Instruction, mount: Mapping[str, str]) -> None:
        kind = mount.get("type", "bind")
        name = mount.get("id", "")
        if kind == "secret":
            target = mount.get("target") or mount.get("dst") or mount.get("destination") or ""
            name, found = name or target.rpartition("/")[2], self._secrets
        elif kind == "ssh":
            name, found = name or "default", self._ssh
        else:
            return
        required = mount.get("required", "false").lower() in ("", "1", "true")
        entry = {"name": name, **({"required": True} if required else {}), **_place(made)}
        found.setdefault(name, (made.span.first_line, entry))

    def _declared(
        self, made: Instruction, values: Mapping[str, str]
    ) -> list[tuple[str, str | None]]:
        if made.keyword != "ARG":
            return []
        words = (word.partition("=") for word in made.arguments)
        return [
            (name, self._expanded(value, values) if equals else None)
            for name, equals, value in words
        ]

    def _expanded(self, text: str, values: Mapping[str, str]) -> str:
        try:
            return Expansion({**self._platform, **values}, self._escape).word(text)
        except WordError:
            return text

    def _entry(self, made: Instruction, name: str, value: str | None) -> tuple[int, Object]:
        entry: Object = {"name": name, **_described(made, name)}
        if value is not None:
            entry["value"] = value
        return made.span.first_line, {**entry, **_place(made)}


def _mounts(made: Instruction) -> list[dict[str, str]]:
    """Return the fields of each `--mount`, as they are written."""
    found: list[dict[str, str]] = []
    for text in made.values("mount"):
        pairs = (field.partition("=") for field in text.split(","))
        found.append({name.lower(): value for name, _, value in pairs})
    return found
