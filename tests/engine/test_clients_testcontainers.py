"""testcontainers-python with its reaper: what a killed test run leaves is cleaned up.

Ryuk's own image is on a registry out of reach, so a stand-in of a few lines speaks its protocol: a line
`label=…` names what to remove once the connection ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.clients import Client
from tests.harness.engine import Engine

pytest.importorskip("testcontainers")

_REAPER = r"""
use strict; use warnings; use IO::Socket::INET; use IO::Socket::UNIX; $| = 1;
sub ask {
    my ($method, $path) = @_;
    my $engine = IO::Socket::UNIX->new(Peer => "/var/run/docker.sock") or die "engine: $!";
    print $engine "$method $path HTTP/1.0\r\nHost: e\r\n\r\n";
    local $/; return <$engine>;
}
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "listen: $!";
ask("GET", "/_ping") =~ /200 OK/ or die "no engine";
print "Started!\n";
my $client = $server->accept; my @labels;
while (my $line = <$client>) {
    push @labels, $1 if $line =~ /label=([^\r\n&]+)/;
    print $client "ACK\n";
}
for my $label (@labels) {
    my $filter = "%7B%22label%22%3A%5B%22$label%22%5D%7D";
    for my $id (ask("GET", "/v1.41/containers/json?all=1&filters=$filter") =~ /"Id":"(\w+)"/g) {
        ask("DELETE", "/v1.41/containers/$id?force=1&v=1");
    }
    ask("POST", "/v1.41/networks/prune?filters=$filter");
    ask("POST", "/v1.41/volumes/prune?filters=$filter");
}
print "Removed.\n";
"""
_PROGRAM = """
import os, sys, urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs
from testcontainers.core.network import Network
box = DockerContainer(sys.argv[1]).with_exposed_ports(80).with_env("WORD", "said")
box = box.with_command(["sh", "-c", "echo $WORD >/index.html; echo ready; exec httpd -f -h /"])
box.start()
wait_for_logs(box, "ready", timeout=20)
url = f"http://{box.get_container_host_ip()}:{box.get_exposed_port(80)}/index.html"
for _ in range(100):
    try:
        print(urllib.request.urlopen(url, timeout=2).read().decode().strip(), flush=True)
        break
    except OSError:
        import time; time.sleep(0.05)
assert box.exec("cat /index.html").output == b"said\\n"
if sys.argv[2] == "polite":
    box.stop()
print(box.get_wrapped_container().id, flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def reaper(docker: Client, debian: str) -> str:
    """The name of an image whose program does what Ryuk does."""
    name = "testcontainers-stand-in:latest"
    made = docker("create", "--network", "none", debian).stdout.strip()
    try:
        docker.raw("container", "cp", "-", f"{made}:/", stdin=_script())
        docker("commit", "-c", 'ENTRYPOINT ["perl", "/reaper"]', "-c", "EXPOSE 8080", made, name)
    finally:
        docker("rm", made)
    return name


def _script() -> bytes:
    from tests.engine.tars import file, tar_of

    return tar_of([file("reaper", _REAPER.encode())])


@pytest.mark.parametrize("end", ["polite", "killed"])
def test_its_own_work(
    end: str, engine: Engine, docker: Client, busybox: str, reaper: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "HOME": str(tmp_path),
        "RYUK_CONTAINER_IMAGE": reaper,
        "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": str(engine.socket),
        "TC_HOST": "127.0.0.1",
        "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
    }
    done = subprocess.run(
        engine.command(sys.executable, "-c", _PROGRAM, busybox, end),
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said, box = done.stdout.split()[-2:]
    assert said == "said"
    deadline = time.monotonic() + 20
    while left := docker("ps", "-aq", "--no-trunc", "--filter", f"id={box}").stdout.strip():
        assert time.monotonic() < deadline, f"{left} was not reaped: {docker('ps', '-a').stdout}"
        time.sleep(0.1)
    while left := docker("ps", "-aq", "--filter", "name=testcontainers-ryuk").stdout.strip():
        assert time.monotonic() < deadline, f"the reaper {left} is left"
        time.sleep(0.1)
