"""A Dockerfile and a request to the stages that are to be built, every variable resolved. Pure.

What a base image says (its environment, its ONBUILD triggers) decides what stages over it say, so the graph
is asked for until it has all: `plan_graph` raises ImagesNeeded with the references that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from wherry.build.arguments import Arguments, platform_arguments, platform_text
from wherry.build.dispatch import Dispatcher
from wherry.build.dockerfile.faults import DockerfileError
from wherry.build.dockerfile.syntax import Dockerfile, Instruction
from wherry.build.dockerfile.words import Expansion, WordError
from wherry.build.steps import (
    AddStep,
    Common,
    CopyStep,
    FromContext,
    FromImage,
    FromStage,
    Graph,
    RunStep,
    Scratch,
    Source,
    Stage,
    Step,
)
from wherry.images.config import parse_platform
from wherry.model.build import BuildRequest, ContextKind
from wherry.model.errors import Invalid, WherryError
from wherry.model.images import ImageConfig, Platform
from wherry.model.literals import parse_number
from wherry.model.oci import DEFAULT_PATH


class ImagesNeeded(Exception):
    """Base images whose configuration the graph hangs on."""

    def __init__(self, images: frozenset[FromImage]) -> None:
        super().__init__(", ".join(sorted(image.reference for image in images)))
        self.images = images


@dataclass(slots=True)
class _Draft:
    """One FROM, before its steps are known."""

    index: int
    name: str
    instruction: Instruction
    body: tuple[Instruction, ...]
    platform: Platform
    base: Source = field(default_factory=Scratch)
    title: str = ""


def plan_graph(
    dockerfile: Dockerfile,
    request: BuildRequest,
    images: Mapping[FromImage, ImageConfig],
    host: Platform,
) -> Graph:
    """Return the graph. Raises ImagesNeeded, DockerfileError, NotFound for a target that is not there."""
    planner = _Planner(dockerfile, request, images, host)
    return planner.plan()


class _Planner:
    def __init__(
        self,
        dockerfile: Dockerfile,
        request: BuildRequest,
        images: Mapping[FromImage, ImageConfig],
        host: Platform,
    ) -> None:
        self._dockerfile = dockerfile
        self._request = request
        self._images = images
        self._host = host
        self._target_platform = parse_platform(request.platform) if request.platform else host
        self._missing: set[FromImage] = set()
        self._globals: dict[str, str] = {}
        self._made: dict[int, Stage] = {}
        self._under_way: list[int] = []
        self._drafts: list[_Draft] = []
        self._declared: dict[int, dict[str, str | None]] = {}

    def plan(self) -> Graph:
        self._drafts = self._draft()
        target = self._target(self._drafts)
        self._stage(target)
        if self._missing:
            raise ImagesNeeded(frozenset(self._missing))
        stages = tuple(self._made[index] for index in sorted(self._made))
        skipped = tuple(draft.name for draft in self._drafts if draft.index not in self._made)
        return Graph(stages, target, skipped)

    # -- the file's head, and FROM -----------------------------------------------------------

    def _draft(self) -> list[_Draft]:
        drafts: list[_Draft] = []
        head = Arguments(self._request.args, {})
        platform = platform_arguments(self._host, self._target_platform, self._request.target)
        body: list[Instruction] = []
        first = True
        for instruction in self._dockerfile.instructions:
            if instruction.keyword == "FROM":
                first = False
                if drafts:
                    drafts[-1].body = tuple(body)
                body = []
                known = platform | head.values()
                drafts.append(self._from(instruction, len(drafts), drafts, known))
            elif not first:
                body.append(instruction)
            elif instruction.keyword == "ARG":
                for word in instruction.arguments:
                    name, equals, value = word.partition("=")
                    expansion = Expansion(platform | head.values(), self._dockerfile.escape)
                    default = self._expand(instruction, expansion, value) if equals else None
                    inherited = platform.get(name)
                    head.declare(name, default if default is not None else inherited)
            else:
                raise self._fault(instruction, "no build stage in current context")
        if not drafts:
            raise DockerfileError("no build stage in current context", name=self._dockerfile.name)
        drafts[-1].body = tuple(body)
        for draft in drafts:
            # A context of a stage's name stands for the whole stage (asked: Docker Engine 28.5).
            named = None if draft.name.isdecimal() else self._named(draft.name, draft.platform)
            if named is not None:
                draft.base, draft.body = named, ()
        self._globals = platform | head.values()
        return drafts

    def _from(
        self, made: Instruction, index: int, before: list[_Draft], known: Mapping[str, str]
    ) -> _Draft:
        expansion = Expansion(known, self._dockerfile.escape)
        reference = self._expand(made, expansion, made.arguments[0])
        alias = made.arguments[2].lower() if len(made.arguments) == 3 else ""
        if not reference:
            raise self._fault(made, f"base name ({made.arguments[0]}) should not be blank")
        if alias and (not alias[0].isalpha() or not all(c.isalnum() or c in "-_." for c in alias)):
            raise self._fault(
                made,
                f"invalid name for build stage: {alias!r}, name can't start with a number or contain symbols",
            )
        platform = self._target_platform
        asked = made.flag("platform")
        if asked is not None:
            text = self._expand(made, expansion, asked)
            if not text:
                raise self._fault(made, "empty platform value from expression " + asked)
            try:
                platform = parse_platform(text)
            except WherryError as error:
                raise self._fault(made, f"failed to parse platform {text}: {error}") from error
        draft = _Draft(index, alias or str(index), made, (), platform)
        shown = f"--platform={platform_text(platform)} " if asked is not None else ""
        draft.title = f"FROM {shown}{reference}" + (f" AS {made.arguments[2]}" if alias else "")
        draft.base = self._base(reference, before, platform)
        return draft

    def _base(self, reference: str, before: list[_Draft], platform: Platform) -> Source:
        for draft in reversed(before):
            if draft.name == reference.lower() and not draft.name.isdecimal():
                return FromStage(draft.index)
        if reference == "scratch":
            return Scratch()
        return self._named(reference, platform) or FromImage(reference, platform_text(platform))

    def _named(self, name: str, platform: Platform) -> Source | None:
        """Return what a named context stands for, if there is one; one that is an image is that image."""
        bare = name.removeprefix("docker.io/library/")
        for key in (name, bare, f"{bare}:latest", bare.removesuffix(":latest")):
            ref = self._request.contexts.get(key) if key else None
            if ref is None:
                continue
            if ref.kind is ContextKind.IMAGE:
                text = platform_text(platform)
                return FromImage(ref.image(text), text)
            return FromContext(key)
        return None

    def _target(self, drafts: list[_Draft]) -> int:
        wanted = self._request.target.lower()
        if not wanted:
            return drafts[-1].index
        for draft in reversed(drafts):
            if draft.name == wanted:
                return draft.index
        number = parse_number(wanted, len(drafts) - 1)
        if number is not None:
            return number
        near = get_close_matches(wanted, [draft.name for draft in drafts], 1)
        raise Invalid(
            f'target stage "{self._request.target}" could not be found',
            hint=f"did you mean {near[0]}?" if near else "",
        )

    # -- stages ------------------------------------------------------------------------------

    def _stage(self, index: int) -> Stage | None:
        """Plan a stage and all that it needs; None where an image's configuration is missing."""
        if index in self._made:
            return self._made[index]
        draft = self._drafts[index]
        if index in self._under_way:
            names = " > ".join(self._drafts[one].name for one in (*self._under_way, index))
            raise self._fault(draft.instruction, f"circular dependency detected on stage: {names}")
        self._under_way.append(index)
        try:
            config = self._base_config(draft)
            if config is None:
                return None
            stage = self._dispatch(draft, config)
        finally:
            self._under_way.pop()
        if stage is not None:
            self._made[index] = stage
        return stage

    def _base_config(self, draft: _Draft) -> ImageConfig | None:
        match draft.base:
            case FromStage(index):
                stage = self._stage(index)
                return stage.config if stage else None
            case FromImage() as image:
                found = self._images.get(image)
                if found is None:
                    self._missing.add(image)
                elif not any(entry.startswith("PATH=") for entry in found.env):
                    return with_path(found)
                return found
            case _:
                return with_path(ImageConfig())

    def _dispatch(self, draft: _Draft, config: ImageConfig) -> Stage | None:
        # The platform's arguments are the request's, whatever FROM --platform says.
        stage_globals = self._globals
        arguments = Arguments(self._request.args, stage_globals)
        author = ""
        if isinstance(draft.base, FromStage):
            # What a stage declares, the stages over it have too.
            arguments.declared.update(self._declared[draft.base.index])
            author = self._made[draft.base.index].author
        self._declared[draft.index] = arguments.declared
        dispatcher = Dispatcher(
            self._dockerfile,
            arguments,
            config,
            lambda name: self._origin(draft, name),
            draft.platform.architecture,
        )
        inherited = config.on_build
        steps = dispatcher.steps(inherited, draft.body)
        base = draft.base
        if isinstance(base, FromContext):
            steps = (_all_of(base, draft.instruction, config), *steps)
            base = Scratch()
        needs: dict[int, None] = {}
        if isinstance(draft.base, FromStage):
            needs[draft.base.index] = None
        for source in sources_of(steps):
            if isinstance(source, FromStage):
                needs[source.index] = None
        whole = True
        for needed in needs:
            if self._stage(needed) is None:
                whole = False
        if not whole:
            return None
        return Stage(
            draft.index,
            draft.name,
            draft.instruction,
            draft.title,
            base,
            draft.platform,
            config,
            dispatcher.author or author,
            steps,
            tuple(needs),
        )

    def _origin(self, draft: _Draft, name: str) -> Source:
        """Return what `--from=NAME` means in a stage: a stage by name or number, a context, an image."""
        lowered = name.lower()
        if not name:
            return FromContext()
        if lowered == "scratch":
            return Scratch()
        if lowered.isdecimal():
            index = parse_number(lowered)
            if index is None:
                raise Invalid(f"invalid stage index {lowered[:40]}")
            if index >= draft.index:
                if index >= len(self._drafts):
                    raise Invalid(f"invalid stage index {index}")
                raise Invalid(
                    f"invalid stage index {index}: stage {index} is not before stage {draft.index}"
                )
            return FromStage(index)
        named = [one for one in self._drafts if one.name == lowered]
        if named:
            # Of two that share a name, the last before this one; a later stage may be named too, and is
            # built first, unless that goes in a circle.
            before = [one for one in named if one.index < draft.index]
            return FromStage((before or named)[-1].index)
        return self._named(name, draft.platform) or FromImage(name, platform_text(draft.platform))

    # -- messages ----------------------------------------------------------------------------

    def _expand(self, made: Instruction, expansion: Expansion, text: str) -> str:
        try:
            return expansion.word(text)
        except WordError as error:
            raise self._fault(made, f"failed to process {text!r}: {error}", text) from error

    def _fault(self, made: Instruction, detail: str, at: str = "") -> DockerfileError:
        return DockerfileError(
            detail,
            span=made.span,
            name=self._dockerfile.name,
            lines=self._dockerfile.lines,
            at=at or made.written,
        )


def _all_of(base: FromContext, made: Instruction, config: ImageConfig) -> CopyStep:
    """Return the step that makes a folder the base of a stage: all of it, at the root."""
    title = f"[context {base.name}] load from client"
    common = Common(made, title, "COPY . / # buildkit", config, from_base=True)
    return CopyStep(common, (".",), "/", base)


def with_path(config: ImageConfig) -> ImageConfig:
    """Return `config` with Docker's PATH first in its environment."""
    return replace(config, env=(f"PATH={DEFAULT_PATH}", *config.env))


def sources_of(steps: tuple[Step, ...]) -> list[Source]:
    """Return everything that steps take files from, their base apart."""
    found: list[Source] = []
    for step in steps:
        if isinstance(step, CopyStep | AddStep):
            found.append(step.origin)
        elif isinstance(step, RunStep):
            found += [mount.origin for mount in step.mounts if mount.origin is not None]
    return found
