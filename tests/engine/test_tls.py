"""TCP with mutual TLS: the unmodified client, half-closed streams, and everybody who may not come in."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.engine.boxes import eventually
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.clients import Client, find_docker
from tests.harness.engine import Engine, script
from tests.harness.hosts import Host


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


FILES = {"cacert": "ca", "cert": "cert", "key": "key"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Remote:
    """An engine behind TLS, and clients that are let in."""

    def __init__(self, engine: Engine, port: int, certificates: Certificates) -> None:
        self.engine = engine
        self.port = port
        self.certificates = certificates

    def client(self, command: str, home: Path, folder: Path | None = None) -> Client:
        client = Client([command], f"tcp://127.0.0.1:{self.port}", home)
        client.env["DOCKER_TLS_VERIFY"] = "1"
        client.env["DOCKER_CERT_PATH"] = str(folder or self.certificates.folder)
        return client

    def terminator(self) -> int:
        """The pid of the process in which TLS ends."""
        needle = b"wherry.tls.terminator"
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                words = (entry / "cmdline").read_bytes()
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if needle in words and int(parent) == self.engine.pid:
                return int(entry.name)
        raise AssertionError("there is no terminator")


@pytest.fixture(scope="module")
def remote(nothing_left: None, certificates: Certificates) -> Iterator[Remote]:
    port = _free_port()
    cert, key = certificates.server
    options = (
        *("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", certificates.ca),
        *("--tlscert", cert, "--tlskey", key),
    )
    with Engine.on_the_machine(*options) as engine:
        Client([script("wherry")], engine.host, engine.root)("image", "bootstrap", "busybox")
        yield Remote(engine, port, certificates)


@pytest.fixture
def docker_tls(remote: Remote, client_home: Path) -> Client:
    command = find_docker()
    assert command is not None
    return remote.client(command, client_home)


RUN = ("run", "--rm", "--network", "none")


def test_the_docker_client_works_through_it(docker_tls: Client) -> None:
    assert "wherry" in docker_tls("version").stdout.lower()
    assert docker_tls(*RUN, "busybox", "echo", "hello").stdout == "hello\n"
    done = docker_tls(*RUN, "busybox", "sh", "-c", "echo e >&2; exit 7", check=False)
    assert (done.returncode, done.stderr) == (7, "e\n")


def test_a_half_closed_stream_goes_on_the_other_way(docker_tls: Client) -> None:
    data = os.urandom(3 << 20)
    done = docker_tls.raw(*RUN, "-i", "busybox", "cat", stdin=data)
    assert done.stdout == data
    late = "cat >/dev/null; sleep 0.2; echo after the end"
    assert docker_tls(*RUN, "-i", "busybox", "sh", "-c", late, stdin="x").stdout == (
        "after the end\n"
    )


def test_the_wherry_command_works_through_it(remote: Remote, client_home: Path) -> None:
    wherry = remote.client(script("wherry"), client_home)
    data = os.urandom(1 << 20)
    assert wherry.raw(*RUN, "-i", "busybox", "cat", stdin=data).stdout == data
    assert wherry(*RUN, "busybox", "echo", "hello").stdout == "hello\n"
    assert "busybox" in wherry("images").stdout


def test_a_context_with_its_certificates_works_for_both_clients(
    remote: Remote, tmp_path: Path
) -> None:
    """Made by one, exported, imported and used by the other: the files travel with it."""
    docker = Client([find_docker() or "docker"], "", tmp_path)
    wherry = Client([script("wherry")], "", tmp_path)
    for client in (docker, wherry):
        del client.env["DOCKER_HOST"]
    folder = remote.certificates.folder
    where = f"host=tcp://127.0.0.1:{remote.port}"
    files = ",".join(f"{name}={folder}/{name}.pem" for name in ("ca", "cert", "key"))
    names = [("made-by-docker", docker, wherry), ("made-by-wherry", wherry, docker)]
    for name, maker, user in names:
        maker("context", "create", name, "--docker", f"{where},{files}")
        assert user.line("-c", name, "version", "-f", "{{.Server.Version}}")
        maker("context", "export", name, str(tmp_path / name))
        user("context", "import", f"{name}-too", str(tmp_path / name))
        assert maker.line("--context", f"{name}-too", "version", "-f", "{{.Server.Version}}")
        user.env["DOCKER_CONTEXT"] = name
        assert user.line("version", "-f", "{{.Client.Context}}") == name
        del user.env["DOCKER_CONTEXT"]
        # Without the files nobody is let in.
        maker("context", "update", name, "--docker", f"{where},ca={folder}/ca.pem")
        assert user("-c", name, "ps", check=False).returncode == 1


@pytest.mark.parametrize("program", ["docker", "wherry"])
def test_certificates_are_named_by_flags(remote: Remote, tmp_path: Path, program: str) -> None:
    command = find_docker() or "docker" if program == "docker" else script("wherry")
    client = Client([command], f"tcp://127.0.0.1:{remote.port}", tmp_path)
    folder = remote.certificates.folder
    flags = [f"--tls{name}={folder}/{file}.pem" for name, file in FILES.items()]
    assert client.line("--tlsverify", *flags, "version", "-f", "{{.Server.Version}}")
    assert client("--tlsverify", "ps", check=False).returncode == 1


def test_a_client_without_a_certificate_is_not_let_in(remote: Remote) -> None:
    context = ssl.create_default_context(cafile=remote.certificates.ca)
    with socket.create_connection(("127.0.0.1", remote.port), 10) as plain:
        with pytest.raises(
            (ssl.SSLError, ConnectionResetError)
        ):  # TLS 1.3 tells it at the first read
            with context.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(b"GET /_ping HTTP/1.1\r\nHost: e\r\n\r\n")
                assert client.recv(100) == b""
                raise ssl.SSLError("closed without an answer")


def test_a_certificate_of_another_authority_is_not_let_in(
    remote: Remote, client_home: Path, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path / "other")
    (other.folder / "ca.pem").write_bytes(Path(remote.certificates.ca).read_bytes())
    for command in (find_docker() or "", script("wherry")):
        done = remote.client(command, client_home, other.folder)("ps", check=False)
        assert done.returncode != 0
        assert "certificate" in done.stderr.lower() or "tls" in done.stderr.lower(), done.stderr


def test_a_server_that_cannot_prove_itself_is_not_spoken_to(
    remote: Remote, client_home: Path, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path / "other")
    for command in (find_docker() or "", script("wherry")):
        done = remote.client(command, client_home, other.folder)("ps", check=False)
        assert done.returncode != 0 and "certificate" in done.stderr.lower(), done.stderr


def test_plain_http_and_rubbish_are_hung_up_on_and_harm_nobody(
    remote: Remote, docker_tls: Client
) -> None:
    for data in (b"GET /_ping HTTP/1.1\r\nHost: e\r\n\r\n", os.urandom(4096), b""):
        with socket.create_connection(("127.0.0.1", remote.port), 10) as plain:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            answer = plain.recv(4096)
            assert b"HTTP" not in answer
    silent = [socket.create_connection(("127.0.0.1", remote.port), 10) for _ in range(100)]
    try:
        assert docker_tls(*RUN, "busybox", "echo", "still").stdout == "still\n"
    finally:
        for connection in silent:
            connection.close()


def test_another_terminator_follows_one_that_was_killed(remote: Remote, docker_tls: Client) -> None:
    before = remote.terminator()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: docker_tls("version", check=False).returncode == 0, 20)
    assert remote.terminator() != before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tls", "--tlscert", "no.pem"), "no.pem cannot be read"),
        (("--tls", "--tlscert", "bad.pem", "--tlskey", "bad.pem"), "cannot load the TLS"),
        (("--metrics-addr", "127.0.0.1:1"), "127.0.0.1:1 is in use"),
    ],
)
def test_what_keeps_the_engine_from_starting_leaves_nothing(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "bad.pem").write_text("no certificate\n")
    words = ("--data-root", "d", "--exec-root", "r", "--pidfile", "p", "-H", "tcp://127.0.0.1:2")
    with Host("alone") as host, closing(host.listen("127.0.0.1", 1)):
        done = subprocess.run(
            host.command(script("wherryd"), *words, *options),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1 and said in done.stderr
        # No bridge, no rules: nobody is there who would take them away.
        assert host.ip("-o", "link").count("\n") == 1
        assert host.run("nft", "list", "tables") == ""
