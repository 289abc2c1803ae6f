"""Variables and quotes, each as BuildKit resolves it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.build.dockerfile.patterns import trim_back, trim_front
from wherry.build.dockerfile.words import Expansion, WordError

ENV = {
    "a": "1",
    "path": "/usr/lib/x.tar.gz",
    "empty": "",
    "two": "x y",
    "star": "a*b",
    "abc": "abcabc",
}


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
        # As Docker 28.5 has them.
        ("${abc//*/X}", "X"),
        ("${abc//b?/X}", "aXaX"),
        ("${abc//\\?/X}", "abcabc"),
        ("${abc/*b/X}", "Xc"),
        ("${empty//*/X}", "X"),
        ("${abc//?/XY}", "XYXYXYXYXYXY"),
        ("${abc/b*/X}", "aX"),
        ("${abc//b*c/X}", "aX"),
        ("${abc///X}", "XaXbXcXaXbXcX"),
        ("${abc##*b}${abc#*b}${abc%b*}${abc%%b*}", "ccabcabcaa"),
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
        ("${no:-" * 101 + "}" * 101, "more than 100 deep"),
        ("${no:-" * 5000 + "}" * 5000, "more than 100 deep"),
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


LETTERS = st.text(st.sampled_from("ab"), max_size=12)


@given(st.text(st.sampled_from("ab?*\\"), max_size=8), LETTERS)
def test_patterns_match_as_expressions_would(pattern: str, value: str) -> None:
    """What is there of each beginning and end, said by the expressions that take too long for more."""
    words = {"*": ".*", "?": "."}
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    matches = re.compile(
        "".join(words.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL
    ).fullmatch
    fronts = [size for size in range(len(value) + 1) if matches(value[:size])]
    backs = [size for size in range(len(value) + 1) if matches(value[len(value) - size :])]
    for longest, chosen in ((True, max), (False, min)):
        front = chosen(fronts) if fronts else 0
        back = chosen(backs) if backs else 0
        assert trim_front(pattern, value, longest=longest) == value[front:]
        assert trim_back(pattern, value, longest=longest) == value[: len(value) - back]


@pytest.mark.parametrize("operator", ["##", "#", "%", "%%", "/", "//"])
def test_a_pattern_of_stars_takes_no_more_time_than_its_value(operator: str) -> None:
    rest = "/x}" if operator.startswith("/") else "}"
    before = time.thread_time()
    value = Expansion({"v": "a" * 1000}).word("${v" + operator + "*a" * 50 + "*b*" + rest)
    assert value == "a" * 1000
    assert time.thread_time() - before < 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$v" * 20, "bring more than"),
        ("${v//a/" + "b" * 20 + "}", "would become longer"),
        ("${v//?/" + "b" * 20 + "}", "would become longer"),
        ("${v/*b*/x}", "too long for its pattern"),
        ("${v##" + "?" * 100_000 + "}", "too long for its pattern"),
    ],
)
def test_no_text_grows_without_end(text: str, words: str) -> None:
    with pytest.raises(WordError, match=words):
        Expansion({"v": "a" * 100_000}).word(text)
