"""The one table of flags: parsing, help and completion agree on it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli import entries, start, suggest, tree, usage, values
from wherry.cli.exits import EXIT_OF_KIND, exit_code, run_exit_code
from wherry.cli.failure import UsageError, WantsHelp
from wherry.cli.flags import Command, Flag, parse
from wherry.cli.style import Style
from wherry.cli.verbs import completion
from wherry.client.faults import fault_of
from wherry.model import errors

COMMANDS = completion.paths()
FLAGS = (
    Flag("all", "bool", "", short="a"),
    Flag("name", "string", "", short="n"),
    Flag("env", "string", "", short="e", many=True),
    Flag("count", "int", "", short="c", default=-1),
    Flag("on", "bool", "", default=True),
)


@pytest.mark.parametrize(
    ("arguments", "given_values", "rest"),
    [
        ([], {}, []),
        (["-a"], {"all": True}, []),
        (["-an", "x"], {"all": True, "name": "x"}, []),
        (["-anx"], {"all": True, "name": "x"}, []),
        (["-n=x"], {"name": "x"}, []),
        (["--name=x=y"], {"name": "x=y"}, []),
        (["--name", "-a"], {"name": "-a"}, []),
        (["--name="], {"name": ""}, []),
        (["-e", "a", "-eb", "--env=c"], {"env": ["a", "b", "c"]}, []),
        (["x", "-a", "y"], {"all": True}, ["x", "y"]),
        (["--", "-a"], {}, ["-a"]),
        (["x", "--", "-a"], {}, ["x", "-a"]),
        (["-"], {}, ["-"]),
        (["--all=false"], {"all": False}, []),
        (["-a=0"], {"all": False}, []),
        (["-c", "-5"], {"count": -5}, []),
        (["--on=false"], {"on": False}, []),
    ],
)
def test_parse(arguments: list[str], given_values: dict[str, object], rest: list[str]) -> None:
    options, positional = parse(FLAGS, arguments, interspersed=True)
    assert options.values == given_values
    assert positional == rest


def test_not_interspersed_stops_at_the_first_argument() -> None:
    options, positional = parse(FLAGS, ["-a", "img", "-a", "--nope"], interspersed=False)
    assert options.values == {"all": True}
    assert positional == ["img", "-a", "--nope"]


def test_defaults() -> None:
    options, _ = parse(FLAGS, [], interspersed=True)
    assert (options.on("on"), options.on("all"), options.number("count")) == (True, False, -1)
    assert (options.text("name"), options.all("env")) == ("", [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--nam"], "unknown flag: --nam\n\nDid you mean --name?"),
        (["-az"], "unknown shorthand flag: 'z' in -z"),
        (["--name"], "flag needs an argument: --name"),
        (["-an"], "flag needs an argument: 'n' in -n"),
        (["--count=x"], 'invalid argument "x" for "-c, --count" flag: '),
        (["--=x"], "bad flag syntax: --=x"),
    ],
)
def test_wrong_flags(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, arguments, interspersed=True)
    assert caught.value.text.startswith(words)
    assert caught.value.code == 125


@pytest.mark.parametrize("argument", ["--help", "-h", "-ah"])
def test_help_is_asked_for(argument: str) -> None:
    with pytest.raises(WantsHelp):
        parse(FLAGS, [argument], interspersed=True)


@given(st.lists(st.text(max_size=6), max_size=6))
def test_any_arguments_parse_or_are_refused(arguments: list[str]) -> None:
    try:
        parse(FLAGS, arguments, interspersed=True)
    except (UsageError, WantsHelp):
        pass


@pytest.mark.parametrize("path", COMMANDS)
def test_flags_of_a_command_are_sound(path: str) -> None:
    command = COMMANDS[path]
    names = [flag.name for flag in command.flags]
    shorts = [flag.short for flag in command.flags if flag.short]
    assert len(names) == len(set(names))
    assert len(shorts) == len(set(shorts))
    for flag in command.flags:
        known = flag.kind == "string" or flag.kind in entries.PARSERS
        if not known:
            with pytest.raises(ValueError):
                values.parse(flag.kind, "no value of any kind")


@pytest.mark.parametrize("columns", [40, 80, 110])
@pytest.mark.parametrize("path", COMMANDS)
def test_help_shows_every_flag_within_the_width(path: str, columns: int) -> None:
    command: Command = COMMANDS[path]
    text = usage.render_command(path, command, Style(False), columns)
    assert text.startswith(f"Usage:  wherry {path}")
    for flag in command.flags:
        assert (f"--{flag.name}" in text) is not flag.hidden or flag.hidden
    if columns > 40:
        body = text.partition("options:")[2] or text.partition("Options:")[2]
        assert all(len(line) <= columns for line in body.split("\n"))


def test_help_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.run([]) == 0
    top = capsys.readouterr().out
    for verb in tree.top_verbs():
        assert re.search(rf"^  {verb} ", top, re.MULTILINE)
    for words in (["help", "run"], ["run", "--help"], ["container", "run", "--help"]):
        assert start.run(words) == 0
        assert "Usage:  wherry" in capsys.readouterr().out
    assert start.run(["container"]) == 0
    assert "Usage:  wherry container COMMAND" in capsys.readouterr().out


def test_misspelt_verbs_are_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.run(["imges"]) == 1
    assert "Did you mean 'wherry images'?" in capsys.readouterr().err
    assert start.run(["container", "strat"]) == 1
    assert "Did you mean 'wherry container start'?" in capsys.readouterr().err
    assert start.run(["swarm"]) == 1
    assert "not in this version" in capsys.readouterr().err


@given(st.text(max_size=8), st.text(max_size=8))
def test_edits_is_a_distance(a: str, b: str) -> None:
    assert suggest.edits(a, b) == suggest.edits(b, a)
    assert (suggest.edits(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= suggest.edits(a, b) <= max(len(a), len(b))


def test_every_kind_of_error_has_an_exit_code() -> None:
    assert set(EXIT_OF_KIND) == set(errors.KINDS)
    assert all(1 <= code <= 255 for code in EXIT_OF_KIND.values())


def test_exit_codes_follow_the_kind() -> None:
    assert exit_code(fault_of(404, "No such container: x")) == 1
    assert exit_code(errors.StartFailed("x", exit_code=127)) == 127
    assert exit_code(errors.WherryError("x")) == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('exec: "nosuch": executable file not found in $PATH', 127),
        ("exec: /nosuch: no such file or directory", 127),
        ("exec /x: permission denied", 126),
        ('exec: "/tmp": is a directory', 126),
        ("Conflict. The container name is in use", 125),
    ],
)
def test_exit_codes_of_run(message: str, code: int) -> None:
    assert run_exit_code(message) == code


def test_bash_completion_completes(tmp_path: Path) -> None:
    script = completion.render_bash()
    (tmp_path / "c").write_text(script)
    ask = f"""
    source {tmp_path}/c
    compopt() {{ :; }}
    try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=(); _wherry
        echo "${{COMPREPLY[*]}}"; }}
    try wherry imag
    try wherry run --memory-sw
    try wherry container st
    try wherry -H x run --cid
    """
    done = subprocess.run(
        ["bash", "-c", ask],
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["image", "images"]
    assert lines[1].split() == ["--memory-swap", "--memory-swappiness"]
    assert lines[2].split() == ["start", "stats", "stop"]
    assert lines[3].split() == ["--cidfile"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("bootstrap", "memory-swappiness", "no-trunc"):
        assert word in script
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "c").write_text(script)
        subprocess.run([program, "-n", str(tmp_path / "c")], check=True, timeout=20)


def test_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.run(["completion", "csh"]) == 1
    assert "csh" in capsys.readouterr().err
