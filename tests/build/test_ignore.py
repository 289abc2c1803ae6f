"""`.dockerignore`: Docker's rules."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.model.ignore import Matcher, parse, translated


@pytest.mark.parametrize(
    ("lines", "ignored", "kept"),
    [
        (["*.txt"], ["a.txt", ".txt"], ["d/a.txt", "a.txtx"]),
        (["**/*.txt"], ["a.txt", "d/a.txt", "d/e/a.txt"], ["a.md"]),
        (["*/temp*"], ["d/temporary", "d/temp/x"], ["temp", "d/e/temp"]),
        (["*/*/temp*"], ["a/b/temp1"], ["a/temp"]),
        (["temp?"], ["tempa", "tempb/x"], ["temp", "tempab"]),
        (["/foo/"], ["foo", "foo/x/y"], ["a/foo", "foobar"]),
        (["./foo/../bar"], ["bar"], ["foo"]),
        (["foo/**"], ["foo/a", "foo/a/b"], ["foo"]),
        (["**/foo/bar"], ["foo/bar", "a/foo/bar"], ["foo"]),
        (["a/**/b"], ["a/b", "a/x/b", "a/x/y/b"], ["a"]),
        (["**"], ["a", "a/b"], []),
        (["**.md"], ["a.md", ".md", "a/b.md", "b.md/x"], ["a.mdx", "md"]),
        (["**d"], ["d", "a/bd"], ["a/c"]),
        (["**.m?"], [".md", "a/.md"], ["a.md"]),
        (["*.md", "!README*.md", "README-secret.md"], ["x.md", "README-secret.md"], ["README.md"]),
        (["*.md", "README-secret.md", "!README*.md"], ["x.md"], ["README.md", "README-secret.md"]),
        (["docs", "!docs/keep"], ["docs", "docs/a"], ["docs/keep", "docs/keep/all"]),
        (["[a-c]x", "[^a]y", "\\*z"], ["ax", "cx", "by", "*z"], ["dx", "ay", "bz"]),
        (["a+b", "a.c", "(x)"], ["a+b", "a.c", "(x)"], ["aab", "abc", "x"]),
        (["!a", "  b  "], ["b"], ["a"]),
    ],
)
def test_what_is_left_out(lines: list[str], ignored: list[str], kept: list[str]) -> None:
    matcher = Matcher(lines)
    assert [path for path in ignored if not matcher.ignored(path)] == []
    assert [path for path in kept if matcher.ignored(path)] == []


def test_parsing() -> None:
    data = b"\xef\xbb\xbf# comment\n  \n /a/ \n!  b/./c \n #d\n\\#e\n./\n"
    assert parse(data) == ("a", "!b/c", "#d", "\\#e", ".")


@pytest.mark.parametrize("line", ["[", "a[b-", "x\\", "!"])
def test_malformed_patterns(line: str) -> None:
    with pytest.raises(Invalid):
        Matcher([line])


def test_where_something_may_come_back() -> None:
    matcher = Matcher(["*", "!a/b/c", "!d*/**/x"])
    assert [p for p in ("a", "a/b", "dd", "dd/e/f", "e", "a/c") if matcher.descend(p)] == [
        "a",
        "a/b",
        "dd",
        "dd/e/f",
    ]


PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c.txt"]), min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(
    st.tuples(
        st.booleans(),
        st.lists(
            st.sampled_from(["a", "*", "**", "a*", "?", "c.txt", "[ab]"]), min_size=1, max_size=4
        ),
    ).map(lambda made: ("!" if made[0] else "") + "/".join(made[1])),
    max_size=4,
)


@given(PATTERNS, PATHS, PATHS)
def test_a_kept_path_below_an_ignored_folder_is_found(
    lines: list[str], folder: str, below: str
) -> None:
    matcher = Matcher(lines)
    if matcher.ignored(folder) and not matcher.ignored(f"{folder}/{below}"):
        assert matcher.descend(folder)


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=20))
def test_any_text_is_a_pattern_or_invalid(lines: list[str], path: str) -> None:
    try:
        Matcher(parse("\n".join(lines).encode(errors="surrogatepass"))).ignored(path)
    except Invalid:
        pass


@given(
    st.lists(st.sampled_from(["*", "?", "a", "b", "/", "[ab]"]), max_size=10),
    st.text(st.sampled_from("ab/"), max_size=12),
)
def test_stars_mean_what_they_say(pieces: list[str], path: str) -> None:
    """Those that are matched where they first can be find what trying all ways finds."""
    pattern = re.sub(r"\*+", "*", "".join(pieces))
    plain = pattern.replace("*", "[^/]*").replace("?", "[^/]")
    wanted = re.fullmatch(plain, path) is not None
    assert (re.fullmatch(translated(pattern), path) is not None) == wanted


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    """A build's context and its .dockerignore may be anybody's."""
    before = time.thread_time()
    assert not Matcher(["*a" * 30 + "*b", "x/" + "*[ab]" * 30 + "c"]).ignored("a" * 250)
    assert Matcher(["*a" * 30 + "*b"]).ignored("a" * 250 + "b")
    assert time.thread_time() - before < 1
