"""The checks of `docker build --check`, with Docker's names and texts. Pure.

Source: docs.docker.com, "Build checks", and Docker Engine 28.5 asked. `# check=skip=A,B;error=true` at the
head of the file chooses; two checks are experimental and must be asked for (`experimental=all`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches

from wherry.build.arguments import PREDEFINED, platform_arguments
from wherry.build.dockerfile.syntax import Dockerfile, Form, Instruction
from wherry.build.dockerfile.words import Expansion, WordError
from wherry.images.config import host_platform
from wherry.model.build import BuildRequest, BuildWarning
from wherry.model.errors import Invalid
from wherry.model.ids import Reference

URL = "https://docs.docker.com/go/dockerfile/rule/{}/"
DESCRIPTIONS: Mapping[str, str] = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": (
        "All commands within the Dockerfile should use the same casing (either upper or lower)"
    ),
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": (
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior "
        "related to OS signals"
    ),
    "MaintainerDeprecated": (
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
    ),
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": (
        "Relative workdir without an absolute workdir declared within the build can have "
        "unexpected results if the base image changes"
    ),
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": (
        "Multiple instructions of the same type should not be used in the same stage"
    ),
    "LegacyKeyValueFormat": (
        "Legacy key/value format with whitespace separator should not be used"
    ),
    "RedundantTargetPlatform": (
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is "
        "the default behavior"
    ),
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": (
        "Default value for global ARG results in an empty or invalid base image name"
    ),
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": (
        "Comment for build stage or argument should follow the format: `# <arg/stage "
        "name> <description>`. If this is not intended to be a description comment, add "
        "an empty line or comment between the instruction and the comment."
    ),
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": (
        "IP address and host-port mapping should not be used in EXPOSE instruction. This "
        "will become an error in a future release"
    ),
}
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription", "CopyIgnoredFile"))
_RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_PUBLIC = re.compile(r"(?:_|^)public(?:_|$)", re.IGNORECASE)
_AROUND = 2
_ABSOLUTE = re.compile(r"[/\\]|[a-zA-Z]:")
Ignored = Callable[[str], bool]


def check(
    dockerfile: Dockerfile, request: BuildRequest, ignored: Ignored | None = None
) -> tuple[BuildWarning, ...]:
    """Return the findings by line. `ignored` says what .dockerignore keeps out of the context."""
    options = _Options(dict(dockerfile.directives).get("check", ""))
    found: list[BuildWarning] = []

    def report(rule: str, detail: str, line: int, last: int) -> None:
        if options.wants(rule):
            found.append(_warning(dockerfile, rule, detail, line, last))

    _Linter(dockerfile, request, report, ignored).run()
    return tuple(sorted(found, key=lambda warning: warning.line))


def check_errors(dockerfile: Dockerfile, found: tuple[BuildWarning, ...]) -> None:
    """Raise Invalid where `# check=error=true` makes the findings errors."""
    if found and _Options(dict(dockerfile.directives).get("check", "")).error:
        rules = ", ".join(dict.fromkeys(warning.rule for warning in found))
        raise Invalid(f"lint violation found for rules: {rules}")


class _Options:
    def __init__(self, text: str) -> None:
        values: dict[str, str] = {}
        for part in text.split(";"):
            key, _, value = part.partition("=")
            values[key.strip()] = value
        self._skip = _names(values.get("skip", ""))
        self._experimental = _names(values.get("experimental", ""))
        self.error = values.get("error", "").strip().lower() in ("true", "1")

    def wants(self, rule: str) -> bool:
        if "all" in self._skip or rule in self._skip:
            return False
        return rule not in EXPERIMENTAL or bool({rule, "all"} & self._experimental)


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}


def _warning(dockerfile: Dockerfile, rule: str, detail: str, line: int, last: int) -> BuildWarning:
    lines = dockerfile.lines
    shown: list[str] = []
    if line and lines:
        shown += [f"{dockerfile.name}:{line}", "-" * 20]
        for number in range(max(1, line - _AROUND), min(len(lines), last + _AROUND) + 1):
            mark = ">>>" if line <= number <= last else "   "
            shown.append(f"{number:4} | {mark} {lines[number - 1]}")
        shown.append("-" * 20)
    slug = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", rule).lower()
    return BuildWarning(
        rule, detail, DESCRIPTIONS[rule], URL.format(slug), line, last, "\n".join(shown)
    )


class _Stage:
    def __init__(self, name: str, below: _Stage | None) -> None:
        self.name = name
        self.seen: dict[str, Instruction] = {}
        self.names: set[str] = set(below.names) if below else set()
        self.has_shell = below.has_shell if below else False
        self.has_workdir = below.has_workdir if below else False


class _Linter:
    def __init__(
        self,
        dockerfile: Dockerfile,
        request: BuildRequest,
        report: Callable[[str, str, int, int], None],
        ignored: Ignored | None,
    ) -> None:
        self._file = dockerfile
        self._request = request
        self._report = report
        self._ignored = ignored
        host = host_platform()
        self._platform = platform_arguments(host, host, request.target)
        self._head: dict[str, str | None] = {}
        self._stages: dict[str, _Stage] = {}
        self._stage: _Stage | None = None

    def _say(self, rule: str, detail: str, made: Instruction) -> None:
        self._report(rule, detail, made.span.first_line, made.span.last_line)

    def run(self) -> None:
        for span in self._file.empty_continuations:
            self._report(
                "NoEmptyContinuation", "Empty continuation line", span.last_line, span.last_line
            )
        self._casing()
        for made in self._file.instructions:
            self._describe(made)
            if made.keyword == "FROM":
                self._from(made)
            elif self._stage is None:
                if made.keyword == "ARG":
                    self._head_argument(made)
            else:
                self._instruction(self._stage, made)

    def _casing(self) -> None:
        upper = lower = 0
        for made in self._file.instructions:
            upper += made.written.isupper()
            lower += made.written.islower()
        wanted, word = (str.upper, "uppercase") if upper >= lower else (str.lower, "lowercase")
        for made in self._file.instructions:
            if made.written != wanted(made.written):
                self._say(
                    "ConsistentInstructionCasing",
                    f"Command '{made.written}' should match the case of the command majority ({word})",
                    made,
                )

    def _describe(self, made: Instruction) -> None:
        if made.keyword == "FROM":
            names = [made.arguments[2]] if len(made.arguments) == 3 else []
        elif made.keyword == "ARG":
            names = [word.partition("=")[0] for word in made.arguments]
        else:
            return
        if not names or not made.comments:
            return
        name = names[0].lower() if made.keyword == "FROM" else names[0]
        if made.comments[-1].partition(" ")[0] != name:
            self._say(
                "InvalidDefinitionDescription",
                f"Comment for {made.keyword} should follow the format: `# {name} <description>`",
                made,
            )

    # -- FROM --------------------------------------------------------------------------------

    def _head_argument(self, made: Instruction) -> None:
        for word in made.arguments:
            name, equals, value = word.partition("=")
            expanded, _ = self._expand(value, self._known_head(defaults=True))
            given = self._request.args.get(name)
            self._head[name] = given if given is not None else (expanded if equals else None)

    def _known_head(self, *, defaults: bool) -> dict[str, str]:
        known = dict(self._platform)
        for name, value in self._head.items():
            if defaults and value is not None:
                known[name] = value
        return known

    def _expand(self, text: str, known: Mapping[str, str]) -> tuple[str, set[str]]:
        expansion = Expansion(known, self._file.escape)
        try:
            return expansion.word(text), expansion.missing
        except WordError:
            return "", set()

    def _from(self, made: Instruction) -> None:
        base = made.arguments[0]
        name = ""
        if len(made.arguments) == 3:
            name = made.arguments[2]
            self._stage_name(made, name)
        platform = made.flag("platform")
        if platform is not None:
            self._from_platform(made, platform)
        known = self._known_head(defaults=True)
        reference, missing = self._expand(base, known)
        undeclared = sorted(missing - set(self._head))
        declared = sorted({*self._head, *self._platform})
        for variable in undeclared:
            near = get_close_matches(variable, declared, 1, 0.75)
            hint = f" (did you mean {near[0]}?)" if near else ""
            self._say(
                "UndefinedArgInFrom", f"FROM argument '{variable}' is not declared{hint}", made
            )
        if "$" in base and not _is_reference(reference):
            self._say(
                "InvalidDefaultArgInFrom",
                f"Default value for ARG {base} results in empty or invalid base image name",
                made,
            )
        below = self._stages.get(reference.lower())
        self._stage = _Stage(name.lower(), below)
        if below is None:
            self._stage.names |= {"PATH"}
        if name:
            self._stages[name.lower()] = self._stage

    def _stage_name(self, made: Instruction, name: str) -> None:
        if name != name.lower():
            self._say("StageNameCasing", f"Stage name '{name}' should be lowercase", made)
        word = made.arguments[1]
        if (word.isupper(), word.islower()) != (made.written.isupper(), made.written.islower()):
            self._say(
                "FromAsCasing",
                f"'{word}' and '{made.written}' keywords' casing do not match",
                made,
            )
        if name.lower() in _RESERVED:
            self._say(
                "ReservedStageName",
                f'Stage name should not use the same name as reserved stage "{name.lower()}"',
                made,
            )
        if name.lower() in self._stages:
            self._say(
                "DuplicateStageName",
                f'Duplicate stage name "{name}", stage names should be unique',
                made,
            )

    def _from_platform(self, made: Instruction, platform: str) -> None:
        if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            self._say(
                "RedundantTargetPlatform",
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the"
                " default behavior",
                made,
            )
        if "$" not in platform:
            name = made.arguments[2].lower() if len(made.arguments) == 3 else ""
            # A stage that is named for its platform means it.
            if not any(part and part in name for part in platform.split("/")):
                self._say(
                    "FromPlatformFlagConstDisallowed",
                    f'FROM --platform flag should not use constant value "{platform}"',
                    made,
                )

    # -- within a stage ----------------------------------------------------------------------

    def _instruction(self, stage: _Stage, made: Instruction) -> None:
        self._variables(stage, made)
        match made.keyword:
            case "MAINTAINER":
                self._say(
                    "MaintainerDeprecated",
                    "Maintainer instruction is deprecated in favor of using label",
                    made,
                )
            case "WORKDIR":
                self._workdir(stage, made)
            case "ENV" | "LABEL":
                if made.legacy:
                    self._say(
                        "LegacyKeyValueFormat",
                        f'"{made.keyword} key=value" should be used instead of legacy'
                        f' "{made.keyword} key value" format',
                        made,
                    )
                if made.keyword == "ENV":
                    for name in made.arguments[::2]:
                        self._secret(made, name)
                        stage.names.add(name)
            case "ARG":
                for word in made.arguments:
                    name = word.partition("=")[0]
                    self._secret(made, name)
                    stage.names.add(name)
            case "CMD" | "ENTRYPOINT" | "HEALTHCHECK":
                self._command(stage, made)
            case "SHELL":
                stage.has_shell = True
            case "EXPOSE":
                self._expose(made)
            case "COPY" | "ADD":
                self._copy(made)
            case _:
                pass

    def _workdir(self, stage: _Stage, made: Instruction) -> None:
        path = made.arguments[0]
        if _ABSOLUTE.match(path.strip("\"'")):
            stage.has_workdir = True
        elif not stage.has_workdir and not path.startswith("$"):
            self._say(
                "WorkdirRelativePath",
                f'Relative workdir "{path}" can have unexpected results if the base image changes',
                made,
            )

    def _secret(self, made: Instruction, name: str) -> None:
        if _SECRET.search(name) and not _PUBLIC.search(name):
            self._say(
                "SecretsUsedInArgOrEnv",
                f'Do not use ARG or ENV instructions for sensitive data ({made.keyword} "{name}")',
                made,
            )

    def _command(self, stage: _Stage, made: Instruction) -> None:
        before = stage.seen.get(made.keyword)
        if before is not None:
            self._say(
                "MultipleInstructionsDisallowed",
                f"Multiple {made.keyword} instructions should not be used in the same stage because"
                " only the last one will be used",
                before,
            )
        stage.seen[made.keyword] = made
        if made.keyword != "HEALTHCHECK" and made.form is Form.SHELL and not stage.has_shell:
            self._say(
                "JSONArgsRecommended",
                f"JSON arguments recommended for {made.keyword} to prevent unintended behavior"
                " related to OS signals",
                made,
            )

    def _expose(self, made: Instruction) -> None:
        for word in made.arguments:
            _, slash, protocol = word.partition("/")
            if slash and protocol != protocol.lower():
                self._say(
                    "ExposeProtoCasing",
                    f"Defined protocol '{word}' in EXPOSE instruction should be lowercase",
                    made,
                )
            if ":" in word and "$" not in word:
                self._say(
                    "ExposeInvalidFormat",
                    "EXPOSE instruction should not define an IP address or host-port mapping, found"
                    f" '{word}'",
                    made,
                )

    def _copy(self, made: Instruction) -> None:
        if self._ignored is None or made.flag("from") is not None:
            return
        for source in made.arguments[:-1]:
            remote = "://" in source or source.startswith(("<<", "git@", "$"))
            path = source.strip("/").removeprefix("./")
            if not remote and path not in ("", ".") and self._ignored(path):
                self._say(
                    "CopyIgnoredFile",
                    f'Attempting to Copy file "{source}" that is excluded by .dockerignore',
                    made,
                )

    def _variables(self, stage: _Stage, made: Instruction) -> None:
        known = dict.fromkeys({*stage.names, *PREDEFINED}, "x")
        missing: dict[str, None] = {}
        for text in _expanded(made):
            expansion = Expansion(known, self._file.escape)
            try:
                expansion.word(text)
            except WordError:
                continue
            for name in sorted(expansion.missing):
                missing[name] = None
        for name in missing:
            near = get_close_matches(name, sorted(stage.names), 1, 0.75)
            hint = f" (did you mean ${near[0]}?)" if near else ""
            self._say("UndefinedVar", f"Usage of undefined variable '${name}'{hint}", made)


def _expanded(made: Instruction) -> Iterator[str]:
    """Yield the texts of an instruction in which variables are expanded."""
    if made.keyword in (
        "RUN",
        "CMD",
        "ENTRYPOINT",
        "HEALTHCHECK",
        "SHELL",
        "ONBUILD",
        "MAINTAINER",
    ):
        return
    yield from made.arguments
    for name, value in made.flags:
        if name in ("chown", "chmod", "from", "checksum", "exclude"):
            yield value
    for document in made.heredocs:
        if document.expand:
            yield from (part for part in re.findall(r"\$\{?\w+[^}\s]*\}?", document.content))


def _is_reference(text: str) -> bool:
    if not text:
        return False
    try:
        Reference.parse(text)
    except Invalid:
        return False
    return True
