"""Flags and the file: one table, flags win, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.registry.server.settings import (
    Settings,
    parse_duration,
    parse_settings,
    render_help,
)


def test_defaults() -> None:
    assert parse_settings([]) == Settings()
    assert Settings().listen == ("127.0.0.1:5000",)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(
        'listen = ["0.0.0.0:1", "[::]:1"]\nmax-blob = "10g"\ngc-grace = 90\nread-only = true\n'
        'htpasswd = "/users"\nmax-uploads = 7\n'
    )
    found = parse_settings(["--config", str(file), "--gc-grace=2h", "--no-delete", "--root", "/r"])
    assert found.listen == ("0.0.0.0:1", "[::]:1")
    assert (found.max_blob, found.gc_grace, found.max_uploads) == (10 << 30, 7200.0, 7)
    assert found.read_only and found.no_delete and not found.basic
    assert (found.root, found.htpasswd) == (Path("/r"), Path("/users"))
    assert parse_settings(["--listen=a:1", "--listen", "b:2"]).listen == ("a:1", "b:2")
    assert not parse_settings(["--read-only=false"]).read_only


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bad"], "--bad"),
        (["bad"], "bad"),
        (["--root"], "--root"),
        (["--gc-grace=soon"], "--gc-grace"),
        (["--gc-grace="], "--gc-grace"),
        (["--max-blob=-1"], "--max-blob"),
        (["--max-uploads=x"], "--max-uploads"),
        (["--read-only=maybe"], "--read-only"),
        (["--tls-cert=x"], "--tls-key"),
        (["--tls-client-ca=x"], "--tls-client-ca"),
        (["--rights=x"], "--htpasswd"),
        (["--log-level=loud"], "--log-level"),
        (['--service=a"b'], "--service"),
        (["--config=/nowhere"], "/nowhere"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], said: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_settings(words)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["x = 1", "listen = ", 'max-blob = "much"', "\xff"])
def test_bad_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "registry.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(Invalid, match="registry.toml"):
        parse_settings([f"--config={file}"])


@given(st.integers(0, 10**6), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations(days: int, hours: int, minutes: int, seconds: int) -> None:
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s", "x") == total
    assert parse_duration(str(total), "x") == total


@given(st.text())
def test_every_text_is_parsed_or_refused(text: str) -> None:
    for wanted in (f"--gc-interval={text}", f"--max-blob={text}"):
        try:
            settings = parse_settings([wanted])
            assert settings.gc_interval >= 0 and settings.max_blob >= 0
        except Invalid:
            pass


def test_help_has_every_flag() -> None:
    assert "--delete-untagged duration" in render_help()
