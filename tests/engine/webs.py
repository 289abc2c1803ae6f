"""Networks as tests want them: named by the test, gone afterwards with the containers in them."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from tests.engine.boxes import SLEEP
from tests.harness.clients import Client


class Webs:
    """Makes networks and containers in them; removes all of them on exit."""

    def __init__(self, docker: Client, image: str) -> None:
        self.docker = docker
        self.image = image
        self._networks: list[str] = []
        self._containers: list[str] = []

    def __enter__(self) -> Webs:
        return self

    def __exit__(self, *_: object) -> None:
        if self._containers:
            self.docker("rm", "-f", "-v", *self._containers, check=False)
        if self._networks:
            self.docker("network", "rm", *self._networks, check=False)

    def name(self, prefix: str = "") -> str:
        """Return a name for a container, which is removed at the end if it is there."""
        self._containers.append(f"wt-{prefix}{secrets.token_hex(4)}")
        return self._containers[-1]

    def network_name(self, prefix: str = "") -> str:
        """Return a name for a network, which is removed at the end if it is there."""
        self._networks.append(f"wt-{prefix}{secrets.token_hex(4)}")
        return self._networks[-1]

    def network(self, *flags: str, prefix: str = "") -> str:
        """Make a network; return its name. Names sort by `prefix`."""
        name = self.network_name(prefix)
        self.docker("network", "create", *flags, name)
        return name

    def sleeper(self, *flags: str) -> str:
        """Start a container that does nothing until TERM; return its name."""
        return self.run(*flags, self.image, *SLEEP)

    def sh(self, script: str, *flags: str) -> str:
        """Start a script in busybox; return the container's name."""
        return self.run(*flags, self.image, "sh", "-c", script)

    def server(self, port: int, *flags: str) -> str:
        """Start a web server that says `hello` on `port`, and is there when this returns."""
        page = "mkdir -p /www && echo hello > /www/index.html"
        name = self.sh(f"{page}; exec httpd -f -p {port} -h /www", *flags)
        listening = f"until netstat -ltn | grep -q :{port}; do sleep 0.05; done"
        self.docker("exec", name, "timeout", "10", "sh", "-c", listening)
        return name

    def run(self, *words: str) -> str:
        """`docker run -d --name NAME WORDS`; return the name."""
        name = self.name()
        self.docker("run", "-d", "--name", name, *words)
        return name

    def create(self, *words: str) -> str:
        """`docker create --name NAME WORDS`; return the name."""
        name = self.name()
        self.docker("create", "--name", name, *words)
        return name

    def exec(self, name: str, script: str, *, check: bool = True) -> str:
        """Run a script in a running container; return its standard output."""
        return self.docker("exec", name, "sh", "-c", script, check=check).stdout

    def fetch(self, name: str, url: str) -> str:
        """Return what a web server says to a container, or an empty text."""
        return self.exec(name, f"timeout 3 wget -qO- {url}", check=False).strip()

    def settings(self, name: str) -> dict[str, Any]:
        """Return a container's NetworkSettings."""
        text = self.docker.line("inspect", "-f", "{{json .NetworkSettings}}", name)
        found: dict[str, Any] = json.loads(text)
        return found

    def endpoint(self, name: str, network: str) -> dict[str, Any]:
        """Return a container's endpoint in a network."""
        found: dict[str, Any] = self.settings(name)["Networks"][network]
        return found

    def about(self, network: str) -> dict[str, Any]:
        """Return a network's inspect."""
        found: dict[str, Any] = json.loads(self.docker.line("network", "inspect", network))[0]
        return found

    def routes(self, name: str) -> list[str]:
        """Return the lines of `ip route` inside."""
        return [line.strip() for line in self.exec(name, "ip -4 route").splitlines()]

    def wait_links(self, name: str, wanted: list[str]) -> None:
        """Wait until just these links are inside: the kernel takes its time to remove one."""
        deadline = time.monotonic() + 30
        while (found := self.links(name)) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def links(self, name: str) -> list[str]:
        """Return the names of the interfaces inside, without loopback."""
        found = self.exec(name, "ls /sys/class/net").split()
        return sorted(link for link in found if link != "lo")
