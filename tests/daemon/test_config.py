"""Settings from flags and daemon.json: what they mean, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wherry.daemon.arguments import parse_arguments, render_help
from wherry.daemon.config import Config, load_config
from wherry.daemon.main import main
from wherry.daemon.options import BY_FLAG, OPTIONS
from wherry.daemon.refused import REFUSED_FLAGS, REFUSED_KEYS
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
        ("--default-ipc-mode host", None, 'invalid default-ipc-mode: "host"'),
        ("", {"default-cgroupns-mode": "none"}, "invalid default-cgroupns-mode"),
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
        ("", {"runtimes": {"kata": {"path": "/usr/bin/kata"}}}),
        ("", {"features": {"containerd-snapshotter": True}}),
        ("", {"builder": {"gc": {"enabled": True}}}),
        ("", {"exec-opts": ["native.cgroupdriver=systemd"]}),
        ("--default-runtime kata", None),
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


def test_what_asks_for_nothing_new_is_let_pass(tmp_path: Path) -> None:
    words = "--default-runtime runc --exec-opt native.cgroupdriver=cgroupfs --feature buildkit=true"
    document = {
        "runtimes": {},
        "features": {"buildkit": True, "containerd-snapshotter": False},
        "cpu-rt-period": 0,
        "authorization-plugins": [],
        "host-gateway-ip": "10.0.0.1",
    }
    assert config(tmp_path, f"{words} --rootless=false --cri-containerd=0") == Config()
    found = config(tmp_path, "", document)
    assert found.host_gateway_ips == ("10.0.0.1",)


_RECORDED = Path(__file__).parent / "recorded/dockerd_flags.txt"
_FLAGS = [line for line in _RECORDED.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("line", _FLAGS)
def test_every_flag_of_dockerd_is_honoured_or_refused_with_a_reason(
    tmp_path: Path, line: str
) -> None:
    flag, bang, value = line.partition(" ! ")
    flag = flag.partition(" ~ ")[0]
    if not bang:
        assert flag in BY_FLAG and flag not in REFUSED_FLAGS
        return
    refused = REFUSED_FLAGS[flag]
    assert flag not in BY_FLAG
    with pytest.raises(Unsupported) as caught:
        config(tmp_path, f"--{flag}={value}")
    assert f"--{flag}: {value} cannot be honoured: {refused.reason}" in str(caught.value)


def test_no_other_flag_is_refused_by_name() -> None:
    recorded = {line.split()[0] for line in _FLAGS}
    assert set(REFUSED_FLAGS) <= recorded
    assert {line.split()[0] for line in _FLAGS if " ! " in line} == set(REFUSED_FLAGS)
    assert not set(REFUSED_KEYS) & {option.key for option in OPTIONS}


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
