"""Dockerfile and request to stages: what is needed, in which environment, with which history."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.build.dockerfile.faults import DockerfileError
from wherry.build.dockerfile.parser import parse
from wherry.build.graph import ImagesNeeded, plan_graph
from wherry.build.steps import (
    CopyStep,
    FromContext,
    FromImage,
    FromStage,
    Graph,
    MountKind,
    RunStep,
    Scratch,
    Sharing,
)
from wherry.model.build import BuildRequest, ContextKind, ContextRef
from wherry.model.errors import Invalid, WherryError
from wherry.model.images import ImageConfig, Platform
from wherry.model.oci import DEFAULT_PATH

HOST = Platform("linux", "amd64")


def graph(text: str, *, base: ImageConfig | None = None, **wanted: Any) -> Graph:
    """Plan, every image being `base`."""
    images: dict[FromImage, ImageConfig] = {}
    request = BuildRequest(text.encode(), **wanted)
    while True:
        try:
            return plan_graph(parse(text.encode()), request, images, HOST)
        except ImagesNeeded as needed:
            images |= {
                image: base or ImageConfig(env=(f"PATH={DEFAULT_PATH}",)) for image in needed.images
            }


def created(text: str, **wanted: Any) -> list[str]:
    """The history of the target."""
    planned = graph(text, **wanted)
    return [step.common.created_by for step in planned.stage(planned.target).steps]


def run(text: str, **wanted: Any) -> RunStep:
    """The last step, a RUN."""
    planned = graph(text, **wanted)
    step = planned.stage(planned.target).steps[-1]
    assert isinstance(step, RunStep)
    return step


def test_history_is_what_docker_writes() -> None:
    # Recorded from Docker Engine 28.5 (`docker history --no-trunc`).
    assert created(
        "ARG GLOB=glob\nFROM busybox\nARG GLOB\nARG FOO=bar\nARG UNSET\nARG TARGETARCH\n"
        'MAINTAINER me <me@x>\nENV A=1 B="two words" C=$A\nENV LEG acy value\n'
        'LABEL l1=$FOO l2="x y"\nWORKDIR /folder/$FOO\nWORKDIR rel\nRUN echo hi $FOO\n'
        'RUN ["/bin/echo", "exec form"]\nRUN <<EOT\necho one\necho two\nEOT\n'
        "RUN cat <<EOT > /x\ndata $FOO\nEOT\nRUN <<EOT\n#!/bin/sh\necho shebang $0\nEOT\n"
        "COPY --chown=1:2 --chmod=755 a.txt /d/c\nCOPY --link a.txt /linked/\n"
        'COPY <<F1 <<"F2" /here/\nf1 $FOO\nF1\nf2 $FOO\nF2\nADD a.txt /added/$FOO\n'
        'EXPOSE 80 53/udp 100-102\nVOLUME /v1 /v2\nVOLUME ["/v 3"]\nUSER 1:2\nSTOPSIGNAL SIGINT\n'
        "HEALTHCHECK --interval=5s --retries=3 CMD echo ok\nHEALTHCHECK NONE\n"
        'SHELL ["/bin/sh", "-x", "-c"]\nRUN --mount=type=cache,target=/c true\n'
        'ONBUILD RUN echo $FOO\nCMD echo $FOO\nENTRYPOINT ["/bin/sh"]\nCMD ["x", "y"]\n',
        args={"GLOB": "override"},
    ) == [
        "ARG GLOB=override",
        "ARG FOO=bar",
        "ARG UNSET",
        "ARG TARGETARCH=amd64",
        "MAINTAINER me <me@x>",
        "ENV A=1 B=two words C=",
        "ENV LEG=acy value",
        "LABEL l1=bar l2=x y",
        "WORKDIR /folder/bar",
        "WORKDIR /folder/bar/rel",
        "RUN |4 GLOB=override FOO=bar UNSET= TARGETARCH=amd64 /bin/sh -c echo hi $FOO # buildkit",
        "RUN |4 GLOB=override FOO=bar UNSET= TARGETARCH=amd64 /bin/echo exec form # buildkit",
        "RUN |4 GLOB=override FOO=bar UNSET= TARGETARCH=amd64 /bin/sh -c echo one\necho two\n # buildkit",
        "RUN |4 GLOB=override FOO=bar UNSET= TARGETARCH=amd64 /bin/sh -c cat <<EOT > /x\ndata $FOO\nEOT"
        " # buildkit",
        "RUN |4 GLOB=override FOO=bar UNSET= TARGETARCH=amd64 /bin/sh -c /dev/pipes/EOT # buildkit",
        "COPY --chown=1:2 --chmod=755 a.txt /d/c # buildkit",
        "COPY a.txt /linked/ # buildkit",
        "COPY <<F1 <<F2 /here/ # buildkit",
        "ADD a.txt /added/bar # buildkit",
        "EXPOSE [100/tcp 101/tcp 102/tcp 53/udp 80/tcp]",
        "VOLUME [/v1 /v2]",
        "VOLUME [/v 3]",
        "USER 1:2",
        "STOPSIGNAL SIGINT",
        'HEALTHCHECK &{["CMD-SHELL" "echo ok"] "5s" "0s" "0s" "0s" \'\\x03\'}',
        'HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" \'\\x00\'}',
        "SHELL [/bin/sh -x -c]",
        "RUN |4 GLOB=override FOO=bar UNSET= TARGETARCH=amd64 /bin/sh -x -c true # buildkit",
        "",
        'CMD ["/bin/sh" "-x" "-c" "echo $FOO"]',
        'ENTRYPOINT ["/bin/sh"]',
        'CMD ["x" "y"]',
    ]


def test_only_what_the_target_needs_is_planned() -> None:
    text = (
        "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=two /x /x\nFROM c AS four\n"
    )
    assert [stage.name for stage in graph(text, target="three").stages] == ["one", "two", "three"]
    assert graph(text, target="three").skipped == ("four",)
    assert [stage.name for stage in graph(text).stages] == ["four"]
    assert graph(text, target="2").stage(2).needs == (0, 1)
    with pytest.raises(Invalid, match="target stage .five. could not be found"):
        graph(text, target="five")


def test_a_circle_of_stages_is_told_with_its_way() -> None:
    with pytest.raises(DockerfileError, match="circular dependency detected on stage: b > a > b"):
        graph("FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\n")


def test_from_names_stages_numbers_contexts_and_images() -> None:
    planned = graph(
        "FROM busybox AS one\nFROM scratch\nCOPY --from=one a /\nCOPY --from=0 a /\n"
        "COPY --from=files a /\nCOPY --from=alias a /\nCOPY --from=other:1 a /\nCOPY a /\n",
        contexts={
            "files": ContextRef(ContextKind.TREE, "id"),
            "alias": ContextRef(ContextKind.IMAGE, "debian:12"),
        },
    )
    origins = [step.origin for step in planned.stage(1).steps if isinstance(step, CopyStep)]
    assert origins == [
        FromStage(0),
        FromStage(0),
        FromContext("files"),
        FromImage("debian:12", "linux/amd64"),
        FromImage("other:1", "linux/amd64"),
        FromContext(),
    ]


def test_environment_goes_before_arguments_and_stages_inherit_both() -> None:
    step = run(
        "FROM busybox AS a\nARG X=arg\nARG Y=y\nENV X=env\nFROM a\nARG HTTP_PROXYISH=1\nRUN echo\n",
        args={"X": "given", "http_proxy": "p"},
    )
    env = {entry.partition("=")[0]: entry.partition("=")[2] for entry in step.env}
    assert env["X"] == "env"
    assert env["Y"] == "y"
    assert env["http_proxy"] == "p"
    assert not any(entry.startswith("http_proxy") for entry in step.key_env)


def test_triggers_of_the_base_come_first_and_are_not_handed_on() -> None:
    base = ImageConfig(env=(f"PATH={DEFAULT_PATH}",), on_build=("RUN one", "COPY . /src"))
    planned = graph("FROM base\nRUN two\nONBUILD RUN three\n", base=base)
    stage = planned.stage(0)
    assert [step.common.title for step in stage.steps[:3]] == ["RUN one", "COPY . /src", "RUN two"]
    assert [step.common.from_base for step in stage.steps[:3]] == [True, True, False]
    assert stage.config.on_build == ("RUN three",)


def test_global_arguments_expand_in_from() -> None:
    text = "ARG V=1\nARG W=${V}-slim\nFROM --platform=$BUILDPLATFORM img:$W AS x\nARG V\nRUN $V\n"
    assert graph(text).stage(0).base == FromImage("img:1-slim", "linux/amd64")
    assert graph(text, args={"V": "2"}).stage(0).base == FromImage("img:2-slim", "linux/amd64")
    with pytest.raises(DockerfileError, match="should not be blank"):
        graph("ARG X\nFROM $X\n")


def test_mounts_of_run() -> None:
    text = (
        "FROM a AS s\nFROM b\nARG D=/d\nWORKDIR /w\n"
        "RUN --mount=target=ctx --mount=type=cache,target=$D,id=i,sharing=locked,uid=5,mode=0700"
        " --mount=type=tmpfs,target=/t,size=64m --mount=type=secret,id=k,required=true"
        " --mount=type=ssh --mount=type=bind,from=s,source=/x,target=/y,rw x\n"
    )
    context, cache, tmpfs, secret, ssh, bind = run(text).mounts
    assert (context.target, context.read_only, context.origin) == ("/w/ctx", True, FromContext())
    assert (cache.target, cache.id, cache.sharing, cache.uid, cache.mode) == (
        "/d",
        "i",
        Sharing.LOCKED,
        5,
        0o700,
    )
    assert tmpfs.size == 64 << 20
    assert (secret.target, secret.required) == ("/run/secrets/k", True)
    assert (ssh.kind, ssh.id) == (MountKind.SSH, "default")
    assert (bind.origin, bind.source, bind.read_only) == (FromStage(0), "/x", False)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("type=nope,target=/x", "unsupported mount type"),
        ("type=cache", "target is required"),
        ("type=tmpfs,target=/x,sharing=locked", "unexpected key 'sharing' for mount type 'tmpfs'"),
        ("type=cache,tagret=/x", "did you mean target"),
        ("type=cache,target=/x,sharing=some", "unsupported sharing"),
        ("type=bind,target=/", "cannot be the root"),
        ("type=cache,target=/x,mode=999", "invalid value 999 for mode"),
    ],
)
def test_mounts_that_are_none(flag: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        graph(f"FROM b\nRUN --mount={flag} x\n")
    assert "Dockerfile:2" in str(caught.value)


@given(
    st.lists(
        st.sampled_from(
            [
                "FROM a AS one",
                "FROM one",
                "FROM scratch AS two",
                "COPY --from=two a b",
                "COPY --from=one . /",
                "COPY --from=3 . /",
                "RUN --mount=from=two,target=/x y",
                "ARG A=${B:-x}",
                "ENV B=$A",
                "USER $B",
                "WORKDIR $A",
                "EXPOSE $A",
                "ONBUILD RUN x",
                "ADD <<E /x\n$A\nE",
                "SHELL []",
                "HEALTHCHECK --retries=x CMD y",
                "VOLUME $B",
            ]
        ),
        max_size=12,
    )
)
def test_any_order_of_instructions_is_planned_or_refused_with_words(lines: list[str]) -> None:
    try:
        planned = graph("\n".join(lines) or "#")
    except WherryError as error:
        assert str(error)
    else:
        for stage in planned.stages:
            for index in stage.needs:
                assert planned.stage(index)


def test_a_folder_as_base_is_copied_whole() -> None:
    contexts = {"base": ContextRef(ContextKind.TREE, "t"), "": ContextRef()}
    for name in ("base", "base:latest", "docker.io/library/base"):
        planned = graph(f"FROM {name}\nRUN x", contexts=contexts)
        (stage,) = planned.stages
        assert isinstance(stage.base, Scratch) and f"PATH={DEFAULT_PATH}" in stage.config.env
        copied = stage.steps[0]
        assert isinstance(copied, CopyStep) and copied.origin == FromContext("base")
        assert (copied.sources, copied.destination) == ((".",), "/")


def test_a_context_of_a_stage_s_name_stands_for_the_stage() -> None:
    text = "FROM scratch AS one\nCOPY a /\nFROM scratch\nCOPY --from=one / /"
    planned = graph(text, contexts={"one": ContextRef(ContextKind.TREE, "t")})
    (copied,) = planned.stages[0].steps
    assert isinstance(copied, CopyStep) and copied.origin == FromContext("one")
    planned = graph(text, contexts={"one": ContextRef(ContextKind.IMAGE, "x")})
    assert planned.stages[0].steps == () and isinstance(planned.stages[0].base, FromImage)
    planned = graph(text, contexts={"one": ContextRef(ContextKind.TREE, "t")}, target="one")
    assert [stage.name for stage in planned.stages] == ["one"]
