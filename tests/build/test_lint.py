# ruff: noqa: E501 - recorded texts
"""The checks: recorded from Docker Engine 28.5's `docker build --check`."""

from __future__ import annotations

import pytest

from wherry.build.dockerfile.parser import parse
from wherry.build.lint import DESCRIPTIONS, check, check_errors
from wherry.model.build import BuildRequest, BuildWarning
from wherry.model.errors import Invalid

_HEADS = """\
# check=experimental=all
ARG VERSION
ARG tag=latest
ARG nodef
# Baz is something
FROM busybox:${nodef} AS Base
FROM --platform=linux/amd64 busybox:$VERSIN as two
FROM --platform=$TARGETPLATFORM busybox AS scratch
FROM busybox AS two
# wrong comment
ARG foo=1
from busybox AS context
Run echo hi \\

  there
MAINTAINER x
"""
_BODY = """\
ARG B=busybox
FROM $B AS base
WORKDIR rel
ENV KEY val
LABEL a b
ENV API_KEY=abc PASSWORD=x
ARG AWS_SECRET_TOKEN
ARG MY_pass=1
ENV public_key=1 TOKEN_FILE=/x GIT_AUTH=x
CMD echo hi
CMD echo there
ENTRYPOINT foo bar
ENTRYPOINT ["x"]
HEALTHCHECK CMD a
HEALTHCHECK CMD b
EXPOSE 80/TcP 8080/UDP
EXPOSE 127.0.0.1:80:80
EXPOSE 1.2.3.4:90:91/TCP
COPY ig.txt /x
COPY $undefd ${PAHT} ${API_KEi} /z/
USER $usr
RUN echo $foo $undefinedinrun
SHELL ["/bin/sh", "-c"]
CMD x y
WORKDIR /abs
WORKDIR rel2
FROM base
ENTRYPOINT x
WORKDIR $B
WORKDIR q
"""


def found(text: str) -> list[BuildWarning]:
    return list(check(parse(text.encode()), BuildRequest(b""), lambda path: path == "ig.txt"))


def told(text: str) -> set[tuple[int, str, str]]:
    return {(warning.line, warning.rule, warning.message) for warning in found(text)}


def test_checks_of_heads() -> None:
    assert told(_HEADS) == {
        (6, "InvalidDefaultArgInFrom", "Default value for ARG busybox:${nodef} results in empty or invalid base image name"),
        (6, "StageNameCasing", "Stage name 'Base' should be lowercase"),
        (6, "InvalidDefinitionDescription", "Comment for FROM should follow the format: `# base <description>`"),
        (7, "FromAsCasing", "'as' and 'FROM' keywords' casing do not match"),
        (7, "FromPlatformFlagConstDisallowed", 'FROM --platform flag should not use constant value "linux/amd64"'),
        (7, "UndefinedArgInFrom", "FROM argument 'VERSIN' is not declared (did you mean VERSION?)"),
        (7, "InvalidDefaultArgInFrom", "Default value for ARG busybox:$VERSIN results in empty or invalid base image name"),
        (8, "RedundantTargetPlatform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"),
        (8, "ReservedStageName", 'Stage name should not use the same name as reserved stage "scratch"'),
        (9, "DuplicateStageName", 'Duplicate stage name "two", stage names should be unique'),
        (11, "InvalidDefinitionDescription", "Comment for ARG should follow the format: `# foo <description>`"),
        (12, "ConsistentInstructionCasing", "Command 'from' should match the case of the command majority (uppercase)"),
        (12, "ReservedStageName", 'Stage name should not use the same name as reserved stage "context"'),
        (12, "FromAsCasing", "'AS' and 'from' keywords' casing do not match"),
        (13, "ConsistentInstructionCasing", "Command 'Run' should match the case of the command majority (uppercase)"),
        (15, "NoEmptyContinuation", "Empty continuation line"),
        (16, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label"),
    }  # fmt: skip


def test_checks_of_a_stage() -> None:
    secret = "Do not use ARG or ENV instructions for sensitive data"
    several = (
        "instructions should not be used in the same stage because only the last one will be used"
    )
    json = "to prevent unintended behavior related to OS signals"
    assert told(_BODY) == {
        (3, "WorkdirRelativePath", 'Relative workdir "rel" can have unexpected results if the base image changes'),
        (4, "LegacyKeyValueFormat", '"ENV key=value" should be used instead of legacy "ENV key value" format'),
        (4, "SecretsUsedInArgOrEnv", f'{secret} (ENV "KEY")'),
        (5, "LegacyKeyValueFormat", '"LABEL key=value" should be used instead of legacy "LABEL key value" format'),
        (6, "SecretsUsedInArgOrEnv", f'{secret} (ENV "API_KEY")'),
        (6, "SecretsUsedInArgOrEnv", f'{secret} (ENV "PASSWORD")'),
        (7, "SecretsUsedInArgOrEnv", f'{secret} (ARG "AWS_SECRET_TOKEN")'),
        (9, "SecretsUsedInArgOrEnv", f'{secret} (ENV "TOKEN_FILE")'),
        (9, "SecretsUsedInArgOrEnv", f'{secret} (ENV "GIT_AUTH")'),
        (10, "JSONArgsRecommended", f"JSON arguments recommended for CMD {json}"),
        (10, "MultipleInstructionsDisallowed", f"Multiple CMD {several}"),
        (11, "JSONArgsRecommended", f"JSON arguments recommended for CMD {json}"),
        (11, "MultipleInstructionsDisallowed", f"Multiple CMD {several}"),
        (12, "JSONArgsRecommended", f"JSON arguments recommended for ENTRYPOINT {json}"),
        (12, "MultipleInstructionsDisallowed", f"Multiple ENTRYPOINT {several}"),
        (14, "MultipleInstructionsDisallowed", f"Multiple HEALTHCHECK {several}"),
        (16, "ExposeProtoCasing", "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase"),
        (16, "ExposeProtoCasing", "Defined protocol '8080/UDP' in EXPOSE instruction should be lowercase"),
        (17, "ExposeInvalidFormat", "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"),
        (18, "ExposeProtoCasing", "Defined protocol '1.2.3.4:90:91/TCP' in EXPOSE instruction should be lowercase"),
        (18, "ExposeInvalidFormat", "EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:90:91/TCP'"),
        (20, "UndefinedVar", "Usage of undefined variable '$undefd'"),
        (20, "UndefinedVar", "Usage of undefined variable '$PAHT' (did you mean $PATH?)"),
        (20, "UndefinedVar", "Usage of undefined variable '$API_KEi' (did you mean $API_KEY?)"),
        (21, "UndefinedVar", "Usage of undefined variable '$usr'"),
        (29, "UndefinedVar", "Usage of undefined variable '$B'"),
    }  # fmt: skip


def test_an_ignored_file_is_told_where_the_check_is_asked_for() -> None:
    text = "# check=experimental=CopyIgnoredFile\nFROM busybox\nCOPY ig.txt ok.txt /x/\n"
    (warning,) = found(text)
    assert warning.rule == "CopyIgnoredFile"
    assert '"ig.txt"' in warning.message


def test_there_are_21_each_with_a_page() -> None:
    assert len(DESCRIPTIONS) == 21
    (warning,) = found("FROM busybox\nCMD x\n")
    assert warning.url == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    assert warning.excerpt.splitlines() == [
        *("Dockerfile:2", "-" * 20, "   1 |     FROM busybox", "   2 | >>> CMD x", "-" * 20)
    ]


def test_the_directive_skips_and_makes_errors() -> None:
    assert found("# check=skip=JSONArgsRecommended\nFROM busybox\nCMD x\n") == []
    assert found("# check=skip=all\nFROM busybox\nCMD x\n") == []
    failing = parse(b"# check=error=true\nFROM busybox\nCMD x\n")
    with pytest.raises(Invalid, match="lint violation found for rules: JSONArgsRecommended"):
        check_errors(failing, check(failing, BuildRequest(b"")))
