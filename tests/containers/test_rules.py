"""Small rules: signals, sizes, logs, restarts, filters, names, ps, paths. Examples and laws."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.containers.fakes import make_container, spec
from wherry.containers import filters, hostfiles, restart, words
from wherry.containers.inside import go_mode, parse_path, read_user
from wherry.containers.log_settings import LogPolicy, parse_log_config
from wherry.containers.merge import merge_env, process_env
from wherry.containers.mount_checks import check_propagation
from wherry.containers.roots import find_mount, hidden_mounts
from wherry.containers.runtime_spec import plan_mount
from wherry.containers.stats import parse_net_dev, parse_proc_stat
from wherry.containers.top import parse_ps, read_processes
from wherry.model.containers import (
    ContainerSpec,
    ContainerState,
    LogConfig,
    MountKind,
    MountSpec,
    RestartPolicy,
    Status,
)
from wherry.model.errors import Invalid, StartFailed
from wherry.model.ids import check_container_name
from wherry.model.networks import EndpointSpec
from wherry.model.oci import Mount
from wherry.model.signals import check_known, parse_signal
from wherry.model.stats import LinkStats


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("term", 15), ("15", 15), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "FOO", "0", "-1", "SIG", "RTMIN+31", "1.5", "9" * 5000])
def test_no_signals(text: str) -> None:
    with pytest.raises(Invalid, match="invalid signal"):
        parse_signal(text)


def test_signals_that_linux_does_not_have() -> None:
    assert check_known(64) == 64
    with pytest.raises(Invalid, match="the linux daemon does not support signal 65"):
        check_known(65)


def _log(driver: str = "", **options: str) -> LogConfig:
    return LogConfig(driver, tuple((k.replace("_", "-"), v) for k, v in options.items()))


@pytest.mark.parametrize(
    ("asked", "default", "policy"),
    [
        (_log(), _log("json-file"), LogPolicy("json-file", 10 << 20, 10)),
        (_log(), _log("local", max_size="1m"), LogPolicy("local", 1 << 20, 5)),
        (_log("json-file", max_size="2k"), _log("local"), LogPolicy("json-file", 2048, 1)),
        (
            _log("json-file", max_size="1.5m", max_file="3"),
            _log(),
            LogPolicy("json-file", 3 << 19, 3),
        ),
        (_log("local", max_size="1m", compress="true"), _log(), LogPolicy("local", 1 << 20, 5)),
        (_log("json-file", max_size="-1"), _log(), LogPolicy("json-file", 0, 1)),
        (_log("json-file", max_file="7"), _log(), LogPolicy("json-file", 10 << 20, 7)),
        (_log("none"), _log("local", max_size="1m"), LogPolicy("none", readable=False)),
    ],
)
def test_log_policies(asked: LogConfig, default: LogConfig, policy: LogPolicy) -> None:
    assert parse_log_config(asked, default) == policy


@given(st.floats(0, 3600), st.integers(0, 10**11))
def test_delays_stay_within_bounds(previous: float, ran: int) -> None:
    delay = restart.next_delay(previous, ran)
    assert restart.FIRST_DELAY <= delay <= restart.LONGEST_DELAY
    if ran >= restart.STEADY_NS:
        assert delay == restart.FIRST_DELAY


def test_delays_double() -> None:
    delays = [0.0]
    for _ in range(12):
        delays.append(restart.next_delay(delays[-1], 0))
    assert delays[1:5] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60.0


@pytest.mark.parametrize(
    ("policy", "code", "stopped", "count", "again"),
    [
        ("no", 1, False, 0, False),
        ("", 1, False, 0, False),
        ("always", 0, False, 9, True),
        ("always", 0, True, 0, False),
        ("unless-stopped", 0, False, 0, True),
        ("unless-stopped", 0, True, 0, False),
        ("on-failure", 0, False, 0, False),
        ("on-failure", 1, False, 99, True),
        ("on-failure", 1, True, 0, False),
    ],
)
def test_policies(policy: str, code: int, stopped: bool, count: int, again: bool) -> None:
    wanted = restart.wants_restart(
        RestartPolicy(policy), exit_code=code, stopped_by_user=stopped, restart_count=count
    )
    assert wanted is again


def test_on_failure_gives_up() -> None:
    policy = RestartPolicy("on-failure", 3)
    tries = [
        restart.wants_restart(policy, exit_code=1, stopped_by_user=False, restart_count=n)
        for n in range(5)
    ]
    assert tries == [True, True, True, False, False]


env = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(["", "=1", "=2=3"])).map("".join), max_size=6
)


@given(env, env)
def test_env_of_the_container_wins(base: list[str], over: list[str]) -> None:
    merged = merge_env(base, over)
    assert merged[: len(over)] == tuple(over)
    seen = {entry.partition("=")[0] for entry in process_env(merged)}
    for entry in over:
        name, equals, _ = entry.partition("=")
        last = [e for e in over if e.partition("=")[0] == name][-1]
        assert (name in seen) == ("=" in last)
    assert all("=" in entry for entry in process_env(base, over))


def test_names_are_valid_and_free() -> None:
    taken: set[str] = set()
    for _ in range(300):
        name = words.random_name(taken.__contains__)
        assert check_container_name(name) == name
        assert name not in taken
        taken.add(name)
    assert len(set(words.ADJECTIVES)) == len(words.ADJECTIVES)
    assert words.random_name(lambda name: not name[-1].isdigit())[-1].isdigit()


DIRECT, SERVICE, HOSTS = (
    hostfiles.Resolving.DIRECT,
    hostfiles.Resolving.SERVICE,
    hostfiles.Resolving.HOST,
)


def test_hosts() -> None:
    assert hostfiles.render_hosts(["a:1.2.3.4", "b:::1", "c:[::2]"]) == (
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::\tip6-localnet\n"
        "ff00::\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\n"
        "ff02::2\tip6-allrouters\n"
        "1.2.3.4\ta\n"
        "::1\tb\n"
        "::2\tc\n"
    )


@pytest.mark.parametrize(
    ("host", "spec", "resolving", "lines"),
    [
        ("nameserver 9.9.9.9\n", {}, DIRECT, ["nameserver 9.9.9.9"]),
        (
            "nameserver 127.0.0.53\nsearch a b\n",
            {},
            DIRECT,
            ["nameserver 8.8.8.8", "nameserver 8.8.4.4", "search a b"],
        ),
        ("nameserver 127.0.0.5\n", {}, HOSTS, ["nameserver 127.0.0.5"]),
        (
            "nameserver 1.1.1.1\nsearch a\noptions x\n",
            {"dns": ("9.9.9.9",), "dns_search": ("x.org",), "dns_options": ("ndots:3",)},
            DIRECT,
            ["nameserver 9.9.9.9", "search x.org", "options ndots:3"],
        ),
        ("search a\n", {"dns": ("::1",), "dns_search": (".",)}, DIRECT, ["nameserver ::1"]),
        (
            "nameserver 127.0.0.5\n",
            {},
            SERVICE,
            ["nameserver 127.0.0.11", "options ndots:0"],
        ),
    ],
)
def test_resolv_conf(
    host: str,
    spec: dict[str, tuple[str, ...]],
    resolving: hostfiles.Resolving,
    lines: list[str],
) -> None:
    text = hostfiles.render_resolv_conf(host, ContainerSpec("bb", **spec), resolving)  # type: ignore[arg-type]
    assert [line for line in text.splitlines() if line and line[0] != "#"] == lines


@pytest.mark.parametrize(
    ("mount", "planned"),
    [
        (
            MountSpec(MountKind.BIND, "/t", "/s"),
            Mount("/t", "bind", "/s", ("rbind", "rprivate")),
        ),
        (
            MountSpec(MountKind.BIND, "/t", "/s", read_only=True),
            Mount("/t", "bind", "/s", ("rbind", "rro", "rprivate")),
        ),
        (
            MountSpec(MountKind.BIND, "/t", "/s", read_only=True, non_recursive=True),
            Mount("/t", "bind", "/s", ("bind", "ro", "rprivate")),
        ),
        (
            MountSpec(MountKind.TMPFS, "/t"),
            Mount("/t", "tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", "mode=1777")),
        ),
        (
            MountSpec(MountKind.TMPFS, "/t", tmpfs_options="exec,size=10m,mode=700"),
            Mount("/t", "tmpfs", "tmpfs", ("nosuid", "nodev", "exec", "size=10m", "mode=700")),
        ),
        (
            MountSpec(MountKind.TMPFS, "/t", tmpfs_size=100, tmpfs_mode=0o700),
            Mount("/t", "tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", "size=100", "mode=700")),
        ),
    ],
)
def test_mounts(mount: MountSpec, planned: Mount) -> None:
    assert plan_mount(mount) == planned


PS = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 03:00 ?        00:00:01 /sbin/init splash
root          42       1  0 03:00 ?        00:00:01 sh -c  echo  hi
root           -       -  0 03:00 -        00:00:00 -
me            43       1  0 03:00 ?        00:00:01 sleep 9
"""


def test_ps_is_filtered_by_pid() -> None:
    titles, rows = parse_ps(PS, [42])
    assert titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [row[1] for row in rows] == ["42", "-"]
    assert rows[0][-1] == "sh -c  echo  hi"
    with pytest.raises(Invalid, match="Couldn't find PID field in ps output"):
        parse_ps("CMD\nx\n", [1])
    with pytest.raises(Invalid, match="PID"):
        parse_ps("", [1])


@pytest.mark.parametrize("args", ["-o pid,comm", "-eo pid,comm", "o pid,comm"])
def test_ps_shows_what_has_no_terminal_or_another(args: str) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            titles, rows = asyncio.run(read_processes(args, [process.pid]))
        finally:
            process.kill()
    assert titles[0] == "PID"
    assert [row[0] for row in rows] == [str(process.pid)]


def test_arguments_of_ps_that_no_program_can_get() -> None:
    with pytest.raises(Invalid, match="a zero byte"):
        asyncio.run(read_processes("-o pid\0comm", [1]))
    with pytest.raises(Invalid, match="No closing quotation"):
        asyncio.run(read_processes("-o 'pid", [1]))


def test_users_are_those_of_the_container(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("app:x:7:8::/home/app:/bin/sh\n")
    os.symlink("/etc/../../groups", tmp_path / "etc/group")
    (tmp_path / "groups").write_text("crew:x:9:app\n")
    root = os.open(tmp_path, os.O_PATH)
    try:
        who = read_user(root, "app")
        assert (who.uid, who.gid, who.groups) == (7, 8, (8, 9))
        with pytest.raises(StartFailed, match="unable to find user root: no matching entries"):
            read_user(root, "root")
        (tmp_path / "groups").unlink()
        os.mkfifo(tmp_path / "groups")
        with pytest.raises(StartFailed, match="unable to find group crew"):
            read_user(root, "app:crew")
    finally:
        os.close(root)


def test_proc_stat() -> None:
    cpus, busy = parse_proc_stat("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2\ncpu1 1 2\nintr 5\n")
    assert (cpus, busy) == (2, 28 * 10_000_000)


def test_interfaces_counters() -> None:
    text = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs …\n"
        "    lo:       0       0    0    0    0     0          0         0        0       0"
        "    0    0    0     0       0          0\n"
        "eth0:1:     835      11    1    2    3     4          5         6      631       7"
        "    8    9   10    11      12         13\n"
    )
    found = parse_net_dev(text)
    assert found["eth0:1"] == LinkStats(835, 11, 1, 2, 631, 7, 8, 9)
    assert set(found) == {"lo", "eth0:1"}


@pytest.mark.parametrize(
    ("text", "path", "name", "follow"),
    [
        ("/etc/passwd", "/etc/passwd", "passwd", False),
        ("etc", "/etc", "etc", False),
        ("../../etc", "/etc", "etc", False),
        ("/etc/", "/etc", "etc", True),
        ("/etc/.", "/etc", ".", True),
        ("/", "/", "/", True),
        ("/.", "/", ".", True),
        ("//a//b/../c", "/a/c", "c", False),
    ],
)
def test_paths(text: str, path: str, name: str, follow: bool) -> None:
    wanted = parse_path(text)
    assert (wanted.path, wanted.name, wanted.follow) == (path, name, follow)


@given(st.text(st.sampled_from("ab./"), min_size=1, max_size=12))
def test_no_path_leads_out(text: str) -> None:
    wanted = parse_path(text)
    assert wanted.path.startswith("/") and ".." not in wanted.path.split("/")


@pytest.mark.parametrize(
    ("mode", "go"),
    [
        (stat.S_IFREG | 0o644, 420),
        (stat.S_IFDIR | 0o755, 2147484141),
        (stat.S_IFLNK | 0o777, 134218239),
        (stat.S_IFREG | stat.S_ISUID | 0o755, (1 << 23) | 0o755),
        (stat.S_IFDIR | stat.S_ISVTX | 0o777, (1 << 31) | (1 << 20) | 0o777),
    ],
)
def test_modes_are_go_s(mode: int, go: int) -> None:
    assert go_mode(mode) == go


def test_the_deepest_bind_is_found() -> None:
    mounts = [
        MountSpec(MountKind.BIND, "/a", "/x"),
        MountSpec(MountKind.BIND, "/a/b", "/y"),
        MountSpec(MountKind.TMPFS, "/a/b/c"),
    ]
    found = {path: find_mount(mounts, path) for path in ("/a", "/a/c", "/a/b/z", "/ab", "/")}
    sources = {path: bind and bind.source for path, bind in found.items()}
    assert sources == {"/a": "/x", "/a/c": "/x", "/a/b/z": "/y", "/ab": None, "/": None}


def test_the_kernel_s_mounts_are_hidden() -> None:
    text = (
        "1 0 0:1 / / rw - overlay overlay rw\n"
        "2 1 0:2 / /proc rw,nosuid shared:1 - proc proc rw\n"
        "3 1 0:3 / /dev rw - tmpfs tmpfs rw\n"
        "4 1 0:4 / /tmp rw - tmpfs tmpfs rw\n"
        "5 1 8:1 /x /data rw - ext4 /dev/a rw\n"
    )
    assert hidden_mounts(text) == {"/proc", "/dev"}


class _Nobody:
    def resolve(self, ref: str) -> object:
        raise AssertionError(ref)

    def descendants(self, ref: str) -> frozenset[object]:
        return frozenset()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"foo": ["a"]}, "invalid filter 'foo'"),
        (
            {"status": ["a"]},
            "invalid filter 'status=a': invalid value for state (a): must be one of created, running, "
            "paused, restarting, removing, exited, dead",
        ),
        (
            {"exited": ["a"]},
            "invalid filter 'exited=a': strconv.Atoi: parsing \"a\": invalid syntax",
        ),
        (
            {"health": ["a"]},
            "invalid filter 'health=a': invalid value for health (a): must be one of none, starting, "
            "healthy, unhealthy",
        ),
        ({"is-task": ["x"]}, "invalid filter 'is-task=[x]'"),
    ],
)
def test_bad_filters(wanted: dict[str, list[str]], message: str) -> None:
    with pytest.raises(Invalid) as refused:
        filters.compile_filters(wanted, _Nobody(), _Nobody())  # type: ignore[arg-type]
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({}, True),
        ({"label": ["a"]}, True),
        ({"label": ["a=1", "b"]}, True),
        ({"label": ["a=2"]}, False),
        ({"label!": ["a=2"]}, True),
        ({"label!": ["a"]}, False),
        ({"name": ["we"]}, True),
        ({"name": ["^/web$"]}, True),
        ({"name": ["^web$"]}, True),
        ({"name": ["^eb"]}, False),
        ({"name": ["nope", "web"]}, True),
        ({"name": ["["]}, False),
        ({"exited": ["3", "4"]}, True),
        ({"exited": ["0"]}, False),
        ({"status": ["exited"], "label": ["zz"]}, False),
        ({"network": ["none"]}, True),
        ({"network": ["abc"]}, True),
        ({"network": ["bridge"]}, False),
        ({"volume": ["/s"]}, True),
        ({"volume": ["/t"]}, True),
        ({"expose": ["80"]}, True),
        ({"expose": ["70-81/tcp"]}, True),
        ({"expose": ["80/udp"]}, False),
        ({"is-task": ["true"]}, False),
        ({"is-task": ["false"]}, True),
    ],
)
def test_filters(wanted: dict[str, list[str]], passes: bool) -> None:
    container = make_container(
        labels=(("a", "1"), ("b", "")),
        spec=spec(
            "x",
            mounts=(MountSpec(MountKind.BIND, "/t", "/s"),),
            exposed_ports=("80/tcp",),
            endpoints=(EndpointSpec("none", network_id="abc"),),
        ),
        state=ContainerState(Status.EXITED, exit_code=3),
    )
    assert filters.compile_filters(wanted, _Nobody(), _Nobody())(container) is passes  # type: ignore[arg-type]


MOUNTINFO = r"""
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
28 27 0:30 / /proc/apart rw - tmpfs apart rw
29 27 0:31 / /proc/a\040b rw master:3 - tmpfs apart rw
30 28 0:32 / /proc/apart rw shared:4 master:2 - tmpfs over rw
31 27 0:33 / /proc/none rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("source", "propagation", "lacks"),
    [
        ("/srv", "rshared", ""),
        ("/srv", "slave", ""),
        ("/proc/none", "rprivate", ""),
        ("/proc/none/x", "shared", "/proc/none but it is not a shared mount"),
        ("/proc/none", "rslave", "/proc/none but it is not a shared or slave mount"),
        ("/proc/nonesuch", "shared", ""),
        ("/proc/apart/x", "shared", ""),
        ("/proc/a b/x", "slave", ""),
        ("/proc/a b/x", "rshared", "/proc/a b but it is not a shared mount"),
    ],
)
def test_propagation_is_held_against_the_sources_mount(
    source: str, propagation: str, lacks: str
) -> None:
    wanted = (MountSpec(MountKind.BIND, "/x", source, propagation=propagation),)
    if not lacks:
        check_propagation(wanted, MOUNTINFO)
        return
    with pytest.raises(StartFailed) as caught:
        check_propagation(wanted, MOUNTINFO)
    assert caught.value.message == f"path {source} is mounted on {lacks}"
