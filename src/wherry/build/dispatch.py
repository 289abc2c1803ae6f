"""One stage: its instructions to steps, each with the environment and the configuration at its place."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import replace

from wherry.build.arguments import Arguments
from wherry.build.configs import command_of, configure, pairs_of, work_dir
from wherry.build.dockerfile.faults import DockerfileError
from wherry.build.dockerfile.lexer import parse_heredoc
from wherry.build.dockerfile.parser import parse_trigger
from wherry.build.dockerfile.syntax import Dockerfile, Form, Heredoc, Instruction
from wherry.build.dockerfile.words import Expansion, WordError
from wherry.build.mounts import parse_mount
from wherry.build.remote.git import parse_git
from wherry.build.steps import (
    AddStep,
    Common,
    ConfigStep,
    CopyStep,
    FromContext,
    RunStep,
    Source,
    Step,
    WorkdirStep,
)
from wherry.model.errors import Invalid, Unsupported
from wherry.model.images import ImageConfig
from wherry.model.urls import is_web

SCRIPTS = "/dev/pipes"
"""Where a here-document that is a script of its own (`#!`) lies while it runs, as with BuildKit."""
_LONGEST_TITLE = 240


class Dispatcher:
    """Walks the instructions of one stage."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        arguments: Arguments,
        config: ImageConfig,
        origin: Callable[[str], Source],
        architecture: str = "",
    ) -> None:
        """`origin` says what `--from=NAME` is, raising Invalid for what is nothing; `architecture` what the
        stage's programs are for."""
        self._dockerfile = dockerfile
        self._arguments = arguments
        # Triggers are those of the base: they are carried out, not handed on.
        self._config = replace(config, on_build=())
        self._origin = origin
        self._architecture = architecture
        self._over: set[str] = set()
        """Arguments declared after an ENV of their name: each counts until the other comes."""
        self.author = ""

    def steps(
        self, triggers: Sequence[str], instructions: Sequence[Instruction]
    ) -> tuple[Step, ...]:
        """Return the steps: those of the base image's triggers, then the stage's own. Raises DockerfileError."""
        made = [self._step(parse_trigger(text), from_base=True) for text in triggers]
        made += [self._step(instruction, from_base=False) for instruction in instructions]
        return tuple(made)

    def _step(self, instruction: Instruction, *, from_base: bool) -> Step:
        try:
            return self._dispatch(instruction, from_base)
        except (WordError, Invalid, Unsupported) as error:
            if isinstance(error, DockerfileError):
                raise
            detail = error.message if isinstance(error, Invalid | Unsupported) else str(error)
            hint = error.hint if isinstance(error, Invalid | Unsupported) else ""
            where = "ONBUILD trigger of the base image: " if from_base else ""
            raise DockerfileError(
                where + detail,
                span=None if from_base else instruction.span,
                name=self._dockerfile.name,
                lines=self._dockerfile.lines,
                at=instruction.written,
                hint=hint,
            ) from error

    def _dispatch(self, instruction: Instruction, from_base: bool) -> Step:
        environment = self._environment()
        expansion = Expansion(environment, self._dockerfile.escape)
        match instruction.keyword:
            case "RUN":
                return self._run(instruction, expansion, from_base)
            case "COPY" | "ADD":
                return self._copy(instruction, expansion, from_base)
            case "WORKDIR":
                written = expansion.word(instruction.arguments[0])
                path = work_dir(self._config, written)
                self._config = replace(self._config, working_dir=path)
                common = self._common(
                    instruction, f"WORKDIR {written}", f"WORKDIR {path}", from_base
                )
                return WorkdirStep(common, path)
            case "ARG":
                return self._arg(instruction, expansion, from_base)
            case "MAINTAINER":
                self.author = instruction.arguments[0]
                created_by = f"MAINTAINER {self.author}"
            case _:
                self._config, created_by = configure(self._config, instruction, expansion)
                if instruction.keyword == "ENV":
                    self._over -= {name for name, _ in pairs_of(instruction, expansion)}
        if instruction.keyword == "ONBUILD":
            created_by = ""  # Docker's histories do not tell of it.
        return ConfigStep(self._common(instruction, instruction.original, created_by, from_base))

    def _environment(self) -> dict[str, str]:
        """Return what expands: arguments and ENV, of one name the later one."""
        found = self._arguments.values()
        for entry in self._config.env:
            name, _, value = entry.partition("=")
            if name not in self._over:
                found[name] = value
        return found

    def _common(
        self, instruction: Instruction, title: str, created_by: str, from_base: bool
    ) -> Common:
        flat = " ".join(title.split())
        if len(flat) > _LONGEST_TITLE:
            flat = flat[: _LONGEST_TITLE - 3] + "..."
        return Common(instruction, flat, created_by, self._config, from_base)

    # -- ARG ---------------------------------------------------------------------------------

    def _arg(self, instruction: Instruction, expansion: Expansion, from_base: bool) -> Step:
        texts: list[str] = []
        for word in instruction.arguments:
            name, equals, value = word.partition("=")
            # A later one of the same line sees the earlier ones.
            expansion = Expansion(self._environment(), self._dockerfile.escape)
            name = expansion.word(name)
            got = self._arguments.declare(name, expansion.word(value) if equals else None)
            if got is not None:
                self._over.add(name)
            texts.append(name if got is None else f"{name}={got}")
        text = "ARG " + " ".join(texts)
        return ConfigStep(self._common(instruction, instruction.original, text, from_base))

    # -- RUN ---------------------------------------------------------------------------------

    def _run(self, instruction: Instruction, expansion: Expansion, from_base: bool) -> Step:
        command, scripts = self._command(instruction)
        network = (instruction.flag("network") or "default").lower()
        if network not in ("default", "none", "host"):
            raise Invalid(f"network {network!r} is not supported", hint="default, none or host")
        security = (instruction.flag("security") or "sandbox").lower()
        if security not in ("sandbox", "insecure"):
            raise Invalid(f"security {security!r} is not supported", hint="sandbox or insecure")
        if instruction.flag("device") is not None:
            raise Unsupported("RUN --device needs a CDI device, and there is none here")
        mounts = tuple(
            parse_mount(text, self._config.working_dir, expansion.word, self._find_mount)
            for text in instruction.values("mount")
        )
        declared = {name: value or "" for name, value in self._arguments.declared.items()}
        environment = self._environment()
        key_env = tuple(f"{name}={value}" for name, value in environment.items())
        proxies = self._arguments.proxies()
        env = tuple(f"{name}={value}" for name, value in (environment | proxies).items())
        prefix = ""
        if declared:
            pairs = " ".join(f"{name}={value}" for name, value in declared.items())
            prefix = f"|{len(declared)} {pairs} "
        created_by = f"RUN {prefix}{' '.join(command)} # buildkit"
        return RunStep(
            common=self._common(instruction, self._run_title(instruction), created_by, from_base),
            argv=command,
            env=env,
            working_dir=self._config.working_dir or "/",
            user=self._config.user,
            mounts=mounts,
            network=network,
            insecure=security == "insecure",
            key_env=key_env,
            scripts=scripts,
            architecture=self._architecture,
        )

    def _find_mount(self, name: str) -> Source:
        return self._origin(name)

    def _command(self, instruction: Instruction) -> tuple[tuple[str, ...], tuple[Heredoc, ...]]:
        """Return the argument list, and the here-documents that are scripts of their own."""
        if instruction.form is Form.EXEC or not instruction.heredocs:
            return command_of(self._config, instruction), ()
        text = instruction.arguments[0]
        first = instruction.heredocs[0]
        shell = command_of(self._config, instruction)[:-1]
        opening = parse_heredoc(text.strip())
        if opening is not None and len(instruction.heredocs) == 1:
            if first.content.startswith("#!"):
                return (*shell, f"{SCRIPTS}/{first.name}"), (first,)
            return (*shell, first.content), ()
        # The shell itself reads them.
        for document in instruction.heredocs:
            text += f"\n{document.content}{document.name}"
        return (*shell, text), ()

    def _run_title(self, instruction: Instruction) -> str:
        text = instruction.original
        opening = parse_heredoc(instruction.arguments[0].strip()) if instruction.heredocs else None
        if opening is not None:
            lines = instruction.heredocs[0].content.split("\n")
            more = "..." if len(lines) > 2 else ""
            text = f"{text} ({lines[0]}{more})"
        expansion = Expansion(self._environment(), self._dockerfile.escape)
        try:
            return expansion.raw(text)
        except WordError:
            # The shell may know forms that a Dockerfile does not.
            return text

    # -- COPY, ADD ---------------------------------------------------------------------------

    def _copy(self, instruction: Instruction, expansion: Expansion, from_base: bool) -> Step:
        words = [expansion.word(word) for word in instruction.arguments]
        *sources, destination = words
        names = {document.name for document in instruction.heredocs}
        files: list[Heredoc] = []
        paths: list[str] = []
        for written, source in zip(instruction.arguments[:-1], sources, strict=True):
            opening = parse_heredoc(written) if names else None
            if opening is not None and opening.name in names:
                document = next(d for d in instruction.heredocs if d.name == opening.name)
                content = expansion.raw(document.content) if document.expand else document.content
                files.append(replace(document, content=content))
            else:
                paths.append(source)
        if any(not path for path in paths) or not destination:
            raise Invalid(f"{instruction.keyword} has an empty path once variables are expanded")
        origin: Source = FromContext()
        if instruction.flag("from") is not None:
            if files:
                raise Invalid("COPY --from cannot be used with a here-document")
            origin = self._origin(expansion.word(instruction.flag("from") or ""))
        common = self._common(
            instruction,
            _shown(instruction, words, expansion),
            _created_by(instruction, words, expansion),
            from_base,
        )
        target = self._absolute(destination)
        chown = expansion.word(instruction.flag("chown") or "")
        chmod = expansion.word(instruction.flag("chmod") or "")
        link = _switch(instruction, "link")
        excludes = tuple(expansion.word(text) for text in instruction.values("exclude"))
        if instruction.keyword == "COPY":
            return CopyStep(
                common=common,
                sources=tuple(paths),
                destination=target,
                origin=origin,
                files=tuple(files),
                chown=chown,
                chmod=chmod,
                link=link,
                parents=_switch(instruction, "parents"),
                excludes=excludes,
            )
        unpack = instruction.flag("unpack")
        checksum = expansion.word(instruction.flag("checksum") or "")
        if checksum and len(paths) + len(files) != 1:
            raise Invalid("checksum can't be specified for multiple sources")
        if checksum and not (paths and (is_web(paths[0]) or parse_git(paths[0]) is not None)):
            raise Invalid("checksum requires HTTP(S) or Git sources")
        return AddStep(
            common=common,
            sources=tuple(paths),
            destination=target,
            files=tuple(files),
            chown=chown,
            chmod=chmod,
            link=link,
            excludes=excludes,
            checksum=checksum,
            keep_git_dir=_switch(instruction, "keep-git-dir"),
            unpack=None if unpack is None else unpack != "false",
        )

    def _absolute(self, destination: str) -> str:
        joined = posixpath.join(self._config.working_dir or "/", destination)
        path = "/" + posixpath.normpath(joined).lstrip("/")
        last = destination.rpartition("/")[2]
        is_directory = last in ("", ".", "..")
        return path if not is_directory or path == "/" else path + "/"


def _switch(instruction: Instruction, name: str) -> bool:
    value = instruction.flag(name)
    return value is not None and value != "false"


def _shown(instruction: Instruction, words: list[str], expansion: Expansion) -> str:
    flags = [
        f"--{name}" + (f"={expansion.word(value)}" if value else "")
        for name, value in instruction.flags
    ]
    return " ".join((instruction.keyword, *flags, *_documents(instruction, words)))


def _created_by(instruction: Instruction, words: list[str], expansion: Expansion) -> str:
    # BuildKit tells of these two flags alone.
    flags = [
        f"--{name}={expansion.word(instruction.flag(name) or '')}"
        for name in ("chown", "chmod")
        if instruction.flag(name)
    ]
    return " ".join((instruction.keyword, *flags, *_documents(instruction, words), "# buildkit"))


def _documents(instruction: Instruction, words: list[str]) -> list[str]:
    """Return the words with here-documents written plainly."""
    names = {document.name for document in instruction.heredocs}
    out: list[str] = []
    for written, word in zip(instruction.arguments, words, strict=True):
        opening = parse_heredoc(written) if names else None
        out.append(f"<<{opening.name}" if opening and opening.name in names else word)
    return out
