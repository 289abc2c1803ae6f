"""`--call=outline` and `targets`, beside what BuildKit in Docker 28.5 answered for the same file."""

from __future__ import annotations

import pytest

from wherry.build.dockerfile.parser import parse
from wherry.build.outline import describe
from wherry.cli.building.outline import render
from wherry.model.build import BuildRequest
from wherry.model.errors import Invalid, NotFound

DOCKERFILE = """\
# VERSION of the thing
ARG VERSION=1.2
ARG REGISTRY

# base is the base
FROM scratch AS base
ARG DEBUG
ARG SOURCE_DATE_EPOCH
RUN --mount=type=secret,id=tok,required true

# app builds the app
#  twice
FROM base AS app
# PORT to listen at
ARG PORT=80
ARG VERSION
RUN --mount=type=cache,target=/c,id=cc --mount=type=ssh true

FROM scratch
COPY --from=app / /
"""
TARGETS = """\
TARGET    DESCRIPTION
base      is the base
app       builds the app
(default)
"""
TABLES = """\
BUILD ARG           VALUE   DESCRIPTION
VERSION             1.2     of the thing
DEBUG
SOURCE_DATE_EPOCH
PORT                80      to listen at

SECRET   REQUIRED
tok      true

SSH       REQUIRED
default
"""
HEAD = "TARGET:      app\nDESCRIPTION: builds the app\n\n"
BASE = """\
TARGET:      base
DESCRIPTION: is the base

BUILD ARG           VALUE   DESCRIPTION
DEBUG
SOURCE_DATE_EPOCH

SECRET   REQUIRED
tok      true
"""
SECOND = """\
ARG TAG=scratch
# word OTHER
ARG OTHER=2
FROM ${TAG} AS tools
ARG TOOL=hammer
FROM scratch AS mid
ARG TARGETARCH
# Y other
ARG X=$VERSION Y=${OTHER}-y
COPY --from=tools / /t
RUN --mount=type=secret,id=a --mount=type=secret,id=a,required --mount=type=secret,id=b,env=B true
RUN --mount=type=secret,target=/x/y --mount=type=bind,from=tools,target=/q true
RUN --mount=type=ssh,id=k,required --mount=type=ssh true
FROM mid
ARG X=2
"""
SECOND_TABLES = """\
BUILD ARG   VALUE     DESCRIPTION
TAG         scratch
TOOL        hammer
Y           -y        other
X           2

SECRET   REQUIRED
a
b
y

SSH       REQUIRED
default
k         true
"""


def ask(text: str, call: str, target: str = "", **args: str) -> dict[str, object]:
    data = text.encode()
    return describe(parse(data), BuildRequest(data, call=call, target=target, args=args))


@pytest.mark.parametrize(
    ("text", "call", "target", "expected"),
    [
        (DOCKERFILE, "targets", "", TARGETS),
        (DOCKERFILE, "outline", "", TABLES),
        (DOCKERFILE, "outline", "app", HEAD + TABLES),
        (DOCKERFILE, "outline", "base", BASE),
        (SECOND, "outline", "", SECOND_TABLES),
        ("FROM scratch\nCOPY a b\n", "outline", "", ""),
        ("FROM scratch\nCOPY a b\n", "targets", "", "TARGET    DESCRIPTION\n(default)\n"),
    ],
)
def test_tables(text: str, call: str, target: str, expected: str) -> None:
    found = render(call, "", ask(text, call, target))
    assert [line.rstrip() for line in found.splitlines()] == expected.splitlines()


def test_an_argument_that_is_given_is_told_where_the_stage_takes_it() -> None:
    def at(line: int) -> dict[str, object]:
        return {"ranges": [{"start": {"line": line}, "end": {"line": line}}]}

    found = ask(DOCKERFILE, "outline", "app", PORT="9", VERSION="7")
    assert found["name"] == "app" and found["description"] == "builds the app"
    assert found["args"] == [
        {"name": "DEBUG", "location": at(7)},
        {"name": "SOURCE_DATE_EPOCH", "location": at(8)},
        {"name": "PORT", "description": "to listen at", "value": "9", "location": at(15)},
        {"name": "VERSION", "value": "7", "location": at(16)},
    ]
    assert found["secrets"] == [{"name": "tok", "required": True, "location": at(9)}]
    assert found["ssh"] == [{"name": "default", "location": at(17)}]


def test_what_is_not_there() -> None:
    with pytest.raises(NotFound, match="nix"):
        ask(DOCKERFILE, "outline", "nix")
    with pytest.raises(Invalid, match="unsupported request"):
        ask(DOCKERFILE, "foo")
