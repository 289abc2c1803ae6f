"""Configurations: every field there and back, and hostile JSON refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.images.config import (
    Configuration,
    decode_config,
    encode_config,
    host_platform,
    parse_platform,
)
from wherry.model.containers import HealthSpec
from wherry.model.errors import Invalid, Unsupported, WherryError
from wherry.model.ids import Digest
from wherry.model.images import HistoryEntry, ImageConfig, Platform

text = st.text(st.characters(codec="utf-8"), max_size=20)
words = st.lists(text, max_size=4).map(tuple)
some_words = st.none() | words
unique = st.frozensets(text, max_size=4).map(lambda items: tuple(sorted(items)))
pairs = st.dictionaries(text, text, max_size=4).map(lambda items: tuple(sorted(items.items())))
count = st.integers(0, 2**62)
health = st.builds(HealthSpec, words, count, count, count, count, count)
configs = st.builds(
    ImageConfig,
    env=words,
    entrypoint=some_words,
    command=some_words,
    working_dir=text,
    user=text,
    labels=pairs,
    exposed_ports=unique,
    volumes=unique,
    stop_signal=text,
    health=st.none() | health,
    on_build=words,
    shell=words,
)
digests = st.binary(min_size=1, max_size=4).map(Digest.of)
history = st.builds(HistoryEntry, text, text, text, text, st.just(True))
configurations = st.builds(
    Configuration,
    config=configs,
    diff_ids=st.lists(digests, max_size=4).map(tuple),
    platform=st.builds(Platform, st.just("linux"), text, text),
    created=text,
    author=text,
    comment=text,
    history=st.lists(history, max_size=3).map(tuple),
    container=text,
)


@given(configurations)
def test_decode_undoes_encode(made: Configuration) -> None:
    assert decode_config(encode_config(made), "it") == made


def test_docker_writes_nulls_and_more_fields() -> None:
    wire = {
        "architecture": "arm64",
        "variant": "v8",
        "config": {
            "Hostname": "",
            "Env": None,
            "Cmd": "old style",
            "Entrypoint": None,
            "Volumes": {"/data": {}},
            "ExposedPorts": {"80/tcp": {}},
            "Labels": None,
            "ArgsEscaped": True,
        },
        "history": [{"created": None, "empty_layer": True}, {"created_by": "x"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"1"))]},
    }
    made = decode_config(json.dumps(wire).encode(), "it")
    assert made.platform == Platform("linux", "arm64", "v8")
    assert made.config == ImageConfig(
        command=("old style",), volumes=("/data",), exposed_ports=("80/tcp",)
    )
    assert made.history[1].created_by == "x"


GOOD = {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"1"))]}}


@pytest.mark.parametrize(
    "broken",
    [
        {"rootfs": None},
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:short"]}},
        {"rootfs": {"type": "windows", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": [1]}},
        {"rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"1"))] * 5000}},
        {"config": []},
        {"config": {"Env": "A=b"}},
        {"config": {"Env": [1]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Healthcheck": {"Interval": -1}}},
        {"config": {"Healthcheck": {"Interval": 10**30}}},
        {"history": [{}, {}]},
        {"history": {}},
    ],
)
def test_wrong_shapes_are_refused_by_name(broken: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=r"the-config|digest"):
        decode_config(json.dumps(GOOD | broken).encode(), "the-config")


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match="the-config"):
        decode_config(data, "the-config")


def test_other_systems_are_refused() -> None:
    with pytest.raises(Unsupported, match="windows"):
        decode_config(json.dumps(GOOD | {"os": "windows"}).encode(), "it")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | text,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["rootfs", "config", "history", "Env", "type", "diff_ids"]), inner
            )
        ),
    )
)
def test_no_json_does_worse_than_an_error(value: object) -> None:
    try:
        decode_config(json.dumps(value).encode(), "it")
    except WherryError:
        pass


def test_platforms() -> None:
    assert parse_platform("") == host_platform()
    assert parse_platform("linux/arm/v6") == Platform("linux", "arm", "v6")
    assert parse_platform("linux/x86_64") == Platform("linux", "amd64", "")
    with pytest.raises(Unsupported):
        parse_platform("windows/amd64")
    for text in ("linux/", "a/b/c/d", "linux/am d64"):
        with pytest.raises(Invalid):
            parse_platform(text)
