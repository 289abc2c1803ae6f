"""Variables and quotes, each as BuildKit resolves it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.build.dockerfile.words import Expansion, WordError

ENV = {"a": "1", "path": "/usr/lib/x.tar.gz", "empty": "", "two": "x y", "star": "a*b"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$a ${a}", "1 1"),
        ("$nobody.", "."),
        ("${nobody:-d}${empty:-d}${empty-d}", "dd"),
        ("${a:+y}${nobody:+y}${empty:+y}${empty+y}", "yy"),
        ("${nobody:-$a}", "1"),
        ("${nobody:-'$a'}", "$a"),
        ("${path#*/}", "usr/lib/x.tar.gz"),
        ("${path##*/}", "x.tar.gz"),
        ("${path%.*}", "/usr/lib/x.tar"),
        ("${path%%.*}", "/usr/lib/x"),
        ("${path/lib/share}", "/usr/share/x.tar.gz"),
        ("${path//[r]/q}", "/usr/lib/x.tar.gz"),
        ("${path//r/q}", "/usq/lib/x.taq.gz"),
        ("${star#a\\*}", "b"),
        ("'$a' \"$a\"", "$a 1"),
        ("\\$a", "$a"),
        ('"\\$a \\x"', "$a \\x"),
        ("a\\ b", "a b"),
        ("$", "$"),
        ("5$$a", "5a"),
    ],
)
def test_expansion(text: str, wanted: str) -> None:
    assert Expansion(ENV).word(text) == wanted


def test_what_a_variable_brings_is_split_unless_quoted() -> None:
    assert Expansion(ENV).words('$two "$two" p$two') == ["x", "y", "x y", "px", "y"]
    assert Expansion(ENV).words("''  a ''b") == ["", "a", "b"]


def test_raw_leaves_quotes_alone() -> None:
    assert Expansion(ENV).raw("echo '$a' \"$a\" \\$a \\n") == "echo '1' \"1\" $a \\n"


def test_names_asked_for_and_missed() -> None:
    expansion = Expansion(ENV)
    expansion.word("$a $b ${c:-x} ${d}")
    assert expansion.used == {"a", "b", "c", "d"}
    assert expansion.missing == {"b", "d"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("'a", "single-quote"),
        ('"a', "double-quote"),
        ("${a", "missing '}'"),
        ("${a:x}", "unsupported modifier"),
        ("${}", "bad substitution"),
        ("${nobody:?must be set}", "nobody: must be set"),
        ("${a/x}", "missing '/'"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises(WordError, match=words.replace("$", "\\$")):
        Expansion(ENV).word(text)


@given(st.text(st.sampled_from("ab${}:-+?#%/*\\'\" "), max_size=40))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        Expansion(ENV).words(text)
    except WordError as error:
        assert str(error)
