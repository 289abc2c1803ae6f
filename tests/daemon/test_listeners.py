"""Sockets: made with the right owner and mode, taken over, and never stolen from a living daemon."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.daemon.listeners import Host, Listener, open_listeners, parse_host, take_inherited
from wherry.daemon.notify import notify
from wherry.model.errors import Conflict, Invalid, Unavailable


@pytest.fixture
def opened() -> Iterator[list[Listener]]:
    listeners: list[Listener] = []
    yield listeners
    for listener in listeners:
        listener.socket.close()
        listener.remove()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("unix:///a/b.sock", Host("unix", "/a/b.sock")),
        ("unix://", Host("unix", "/run/wherry.sock")),
        ("tcp://1.2.3.4:5", Host("tcp", "1.2.3.4", 5)),
        ("tcp://", Host("tcp", "127.0.0.1", 2375)),
        ("tcp://:80", Host("tcp", "0.0.0.0", 80)),
        ("tcp://[::1]:80/", Host("tcp", "::1", 80)),
        ("tcp://[::1]", Host("tcp", "::1", 2375)),
        (":2375", Host("tcp", "0.0.0.0", 2375)),
        ("fd://", Host("fd", "")),
        ("fd://*", Host("fd", "")),
        ("fd://api", Host("fd", "api")),
    ],
)
def test_hosts(text: str, host: Host) -> None:
    assert parse_host(text) == host
    assert parse_host(str(host)) == host


@pytest.mark.parametrize(
    "text", ["unix://a", "npipe://x", "tcp://x:99999", "tcp://x:y", f"unix:///{'x' * 107}"]
)
def test_bad_hosts(text: str) -> None:
    with pytest.raises(Invalid, match="invalid host"):
        parse_host(text)


def test_a_unix_socket_is_for_root_and_its_group(tmp_path: Path, opened: list[Listener]) -> None:
    opened += open_listeners((f"unix://{tmp_path}/deep/api.sock",), tmp_path, "12345")
    found = os.stat(tmp_path / "deep" / "api.sock")
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (0, 12345)
    opened[0].remove()
    assert not (tmp_path / "deep" / "api.sock").exists()


def test_the_default_is_beside_the_exec_root(tmp_path: Path, opened: list[Listener]) -> None:
    opened += open_listeners((), tmp_path / "run", "")
    assert opened[0].host == Host("unix", f"{tmp_path}/run.sock")


def test_a_group_may_be_named(tmp_path: Path, opened: list[Listener]) -> None:
    opened += open_listeners((), tmp_path / "run", "daemon")
    assert os.stat(tmp_path / "run.sock").st_gid == grp.getgrnam("daemon").gr_gid


def test_an_unknown_group_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="group nosuchgroup not found"):
        open_listeners((), tmp_path, "nosuchgroup")


def test_a_stale_socket_is_replaced_and_a_living_one_is_not(
    tmp_path: Path, opened: list[Listener]
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    opened += open_listeners((f"unix://{path}",), tmp_path, "")
    opened[0].socket.listen()
    with pytest.raises(Conflict, match="another process does"):
        open_listeners((f"unix://{path}",), tmp_path, "")
    assert path.exists()


def test_a_busy_daemon_is_a_living_one(tmp_path: Path, opened: list[Listener]) -> None:
    path = str(tmp_path / "s")
    opened += open_listeners((f"unix://{path}",), tmp_path, "")
    opened[0].socket.listen(0)
    waiting: list[socket.socket] = []
    try:
        while True:
            client = socket.socket(socket.AF_UNIX)
            waiting.append(client)
            client.setblocking(False)
            client.connect(path)
    except BlockingIOError:
        pass  # the queue is full
    with pytest.raises(Conflict, match="another process does"):
        open_listeners((f"unix://{path}",), tmp_path, "")
    for client in waiting:
        client.close()


def test_no_other_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(Conflict, match="no socket"):
        open_listeners((f"unix://{tmp_path}/s",), tmp_path, "")
    assert (tmp_path / "s").read_text() == "precious"


def test_a_socket_that_somebody_replaced_is_left(tmp_path: Path, opened: list[Listener]) -> None:
    opened += open_listeners((f"unix://{tmp_path}/s",), tmp_path, "")
    os.unlink(tmp_path / "s")
    (tmp_path / "s").write_text("another's")
    opened[0].remove()
    assert (tmp_path / "s").exists()


def test_an_error_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        open_listeners((f"unix://{tmp_path}/s", "nosuch://"), tmp_path, "")
    with pytest.raises(Conflict):
        (tmp_path / "file").write_text("")
        open_listeners((f"unix://{tmp_path}/s", f"unix://{tmp_path}/file"), tmp_path, "")
    assert not (tmp_path / "s").exists()


def test_tcp(tmp_path: Path, opened: list[Listener]) -> None:
    opened += open_listeners(("tcp://127.0.0.1:0",), tmp_path, "")
    port = opened[0].socket.getsockname()[1]
    opened[0].socket.listen()
    with pytest.raises(Conflict, match="is in use"):
        open_listeners((f"tcp://127.0.0.1:{port}",), tmp_path, "")
    with pytest.raises(Unavailable, match="cannot listen on tcp://192.0.2.1:1"):
        open_listeners(("tcp://192.0.2.1:1",), tmp_path, "")


def in_child(count: int, pid: str | None, hosts: tuple[str, ...], names: str = "") -> str:
    """Open listeners in a fork whose descriptors from 3 on are `count` sockets."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 100)
            os.closerange(3, 100)
            for _ in range(count):
                socket.socket(socket.AF_UNIX).detach()
            os.environ |= {
                "LISTEN_FDS": str(count),
                "LISTEN_PID": str(os.getpid()) if pid is None else pid,
                "LISTEN_FDNAMES": names,
            }
            try:
                found = open_listeners(hosts, Path("/nosuch"), "")
                text = " ".join(str(listener.socket.fileno()) for listener in found)
                text += f" {'LISTEN_FDS' in os.environ}"
                text += f" {any(listener.socket.get_inheritable() for listener in found)}"
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
            os.write(100, text.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as out:
        said = out.read().decode()
    os.waitpid(child, 0)
    return said


def test_systemd_hands_sockets_over() -> None:
    assert in_child(2, None, ()) == "3 4 False False"
    assert in_child(2, None, ("fd://",)) == "3 4 False False"
    assert in_child(2, None, ("fd://4",)) == "4 False False"
    assert in_child(2, None, ("fd://api",), "other:api") == "4 False False"
    assert in_child(2, None, ("fd://nosuch",)).startswith("Invalid: no sockets found")
    assert in_child(2, "1", ("fd://",)).startswith("Invalid: no sockets found")


def test_without_systemd_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert take_inherited() == {}


def test_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    for address, bound in (
        (str(tmp_path / "n"), str(tmp_path / "n")),
        ("@wherry-notify", "\0wherry-notify"),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(bound)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            assert notify("READY=1", "MAINPID=5")
            assert systemd.recv(100) == b"READY=1\nMAINPID=5"
    assert not notify("READY=1")  # nobody is there any more
