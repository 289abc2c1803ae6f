"""The grammar of repositories, tags and references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.registry.media import essence, is_foreign, is_media_type
from wherry.registry.names import (
    check_repository,
    is_repository,
    is_tag,
    parse_reference,
    referrers_tag,
)


@pytest.mark.parametrize(
    "name", ["a", "library/debian", "a.b/c_d/e__f/g---h", "0/1", "a" * 255, "a/b/c/d/e/f/g"]
)
def test_repositories(name: str) -> None:
    assert check_repository(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", "..", "a/..", "a/../b", "A", "a_-b", "a___b", "a..b", "-a", "a-"]
    + ["a%2eb", "a\0b", "a\n", "a b", "é", "a" * 256, "a/" * 127 + "ab"],
)
def test_no_repositories(name: str) -> None:
    with pytest.raises(Invalid, match="invalid repository name"):
        check_repository(name)


@given(st.text(max_size=300))
def test_a_repository_is_a_safe_path(text: str) -> None:
    if is_repository(text):
        assert text.isascii() and text.lower() == text
        assert all(part not in ("", ".", "..") for part in text.split("/"))


@pytest.mark.parametrize("tag", ["latest", "_a", "1.0-rc.1", "A" * 128])
def test_tags(tag: str) -> None:
    assert parse_reference(tag) == tag


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a" * 129, "a\n", "ä", "a\0"])
def test_no_tags(tag: str) -> None:
    assert not is_tag(tag)


def test_a_reference_with_a_colon_is_a_digest() -> None:
    digest = Digest.of(b"x")
    assert parse_reference(str(digest)) == digest
    for text in ("sha256:abc", "sha256:" + "G" * 64, "md5:" + "0" * 32, "a:b"):
        with pytest.raises(Invalid):
            parse_reference(text)


def test_referrers_tags_are_tags() -> None:
    assert referrers_tag(Digest("sha256", "a" * 64)) == "sha256-" + "a" * 64
    long = referrers_tag(Digest("sha512", "b" * 128))
    assert long == "sha512-" + "b" * 64 and is_tag(long)


def test_media_types() -> None:
    assert essence("Application/JSON; charset=utf-8") == "application/json"
    assert is_media_type("application/vnd.oci.image.manifest.v1+json")
    for text in ("", "json", "a/", "/a", "a/b/c", "a/b c", "a/b\n", "a/" + "b" * 128):
        assert not is_media_type(text)
    assert is_foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd")
    assert not is_foreign("application/vnd.oci.image.layer.v1.tar+gzip")
