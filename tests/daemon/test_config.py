"""Settings from flags and daemon.json: what they mean, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wherry.daemon.arguments import parse_arguments, render_help
from wherry.daemon.config import Config, load_config
from wherry.daemon.main import main
from wherry.daemon.options import NOT_YET, OPTIONS
from wherry.model.containers import Ulimit
from wherry.model.errors import Invalid, Unsupported


def config(tmp_path: Path, words: str = "", document: Any = None) -> Config:
    path = tmp_path / "daemon.json"
    if document is not None:
        path.write_text(document if isinstance(document, str) else json.dumps(document))
    return load_config(parse_arguments(words.split()), default_file=path)


def test_nothing_said_is_the_defaults(tmp_path: Path) -> None:
    assert config(tmp_path) == Config()


def test_flags(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        "-H unix:///a -Htcp://b:1 --host=fd:// --data-root /d --exec-root=/e -G 5 -l warn -D "
        "--log-driver local --log-opt max-size=1m --log-opt max-file=2 --live-restore=false "
        "--shutdown-timeout -1 --default-shm-size 1g --default-ulimit nofile=1:2 "
        "--default-ulimit core=0 --label a=b --userns-remap default --cgroup-parent /x --init "
        "--bip 10.0.0.1/24 -s overlay2",
    )
    assert found == Config(
        data_root=Path("/d"),
        exec_root=Path("/e"),
        hosts=("unix:///a", "tcp://b:1", "fd://"),
        pidfile=Path("/e/wherryd.pid"),
        group="5",
        log_level="warn",
        log_driver="local",
        log_options=(("max-file", "2"), ("max-size", "1m")),
        debug=True,
        bip="10.0.0.1/24",
        live_restore=False,
        shutdown_timeout=-1,
        default_shm_size=1 << 30,
        default_ulimits=(Ulimit("nofile", 1, 2), Ulimit("core", 0, 0)),
        labels=("a=b",),
        userns_remap="default",
        cgroup_parent="/x",
        init=True,
    )


def test_daemon_json(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        document={
            "hosts": ["unix:///a"],
            "data-root": "/d",
            "pidfile": "/p",
            "debug": True,
            "log-opts": {"max-size": "1m"},
            "labels": ["a=b"],
            "live-restore": False,
            "shutdown-timeout": 3,
            "default-shm-size": "64M",
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1}},
            # What asks for nothing is let pass.
            "registry-mirrors": [],
            "experimental": False,
            "storage-driver": "overlay2",
        },
    )
    assert found == Config(
        data_root=Path("/d"),
        hosts=("unix:///a",),
        pidfile=Path("/p"),
        debug=True,
        log_options=(("max-size", "1m"),),
        labels=("a=b",),
        live_restore=False,
        shutdown_timeout=3,
        default_shm_size=64 << 20,
        default_ulimits=(Ulimit("nofile", 1, 2),),
        config_file=tmp_path / "daemon.json",
    )


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert config(tmp_path, document="").hosts == ()


def test_flags_and_file_add_up(tmp_path: Path) -> None:
    found = config(tmp_path, "--exec-root /e", {"data-root": "/d"})
    assert (found.exec_root, found.data_root) == (Path("/e"), Path("/d"))


@pytest.mark.parametrize(
    ("words", "document", "message"),
    [
        ("-H unix:///a --data-root /x", {"hosts": ["unix:///b"], "data-root": "/y"},
         "specified both as a flag and in the configuration file: data-root: (from flag: /x, from "
         "file: /y), hosts: (from flag: [unix:///a], from file: [unix:///b])"),
        ("--log-opt a=b", {"log-opts": {"a": "b"}}, "log-opts: (from flag: [a=b], from file: [a=b])"),
        ("", {"nosuch": 1}, "don't match any configuration option: nosuch"),
        ("", {"debug": "yes"}, "debug in"),
        ("", {"hosts": "unix:///a"}, "expected list"),
        ("", {"hosts": [5]}, "expected list"),
        ("", {"shutdown-timeout": True}, "expected int"),
        ("", {"log-opts": {"a": 5}}, "expected map"),
        ("", {"default-ulimits": {"nofile": 5}}, 'needs "Soft" and "Hard"'),
        ("", {"default-shm-size": "lots"}, "is not a size"),
        ("", "[]", "holds no JSON object"),
        ("", "{", "is no JSON"),
        ("--config-file /no/such", None, "/no/such does not exist"),
        ("--nosuch", None, "unknown flag: --nosuch"),
        ("-Z", None, "unknown shorthand flag: 'Z'"),
        ("--data-root", None, "flag needs an argument: --data-root"),
        ("stray", None, "unexpected argument: stray"),
        ("--debug=maybe", None, "invalid boolean value"),
        ("-l loud", None, "invalid logging level: loud"),
        ("--shutdown-timeout soon", None, "is not a number"),
        ("--shutdown-timeout -2", None, "cannot be negative"),
        ("--label x", None, "bad attribute format: x"),
        ("--log-opt x", None, "is not key=value"),
        ("--default-ulimit x", None, "invalid ulimit"),
        ("--default-shm-size 0", None, "must be positive"),
        ("--bridge x --bip y", None, "mutually exclusive"),
        ("--firewall-backend pf", None, "nftables is the only one"),
        ("--default-network-opt bridge=x", None, "is not key=value"),
        ("", {"default-network-opts": {"bridge": ["x"]}}, "expected group=key=value"),
        ("", {"default-network-opts": {"overlay": {"x": "y"}}}, "no driver overlay"),
        ("stop --timeout x", None, "is no number of seconds"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, words: str, document: Any, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        config(tmp_path, words, document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "document"),
    [
        ("", {"experimental": True}),
        ("", {"firewall-backend": "iptables"}),
        ("--ip6tables=false", None),
        ("--log-driver splunk", None),
        ("--userns-remap me", None),
        ("-s btrfs", None),
    ],
)
def test_not_in_this_version(tmp_path: Path, words: str, document: Any) -> None:
    with pytest.raises(Unsupported):
        config(tmp_path, words, document)


def test_default_network_options(tmp_path: Path) -> None:
    words = "--default-network-opt bridge=b=1 --default-network-opt bridge=a=2=3"
    expected = (("bridge", (("a", "2=3"), ("b", "1"))),)
    assert config(tmp_path, words, None).default_network_opts == expected
    document = {"default-network-opts": {"bridge": {"b": "1", "a": "2=3"}}}
    assert config(tmp_path, "", document).default_network_opts == expected


def test_no_key_is_both_known_and_not() -> None:
    assert not NOT_YET & {option.key for option in OPTIONS}


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.strip() == render_help().strip()
    assert all(f"--{option.flag}" in shown for option in OPTIONS)


def test_the_program_answers_without_starting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("wherryd version ")
    good = tmp_path / "good.json"
    good.write_text('{"debug": true}')
    assert main(["--validate", "--config-file", str(good)]) == 0
    assert capsys.readouterr().out == "configuration OK\n"
    good.write_text('{"debog": true}')
    assert main(["--validate", "--config-file", str(good)]) == 1
    assert "debog" in capsys.readouterr().err
