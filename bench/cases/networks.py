"""Networks: what they add to a start, what goes through them, and many of everything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench import traffic
from bench.cases.case import Settings, timed
from bench.engine import IMAGE, Engine
from bench.samples import Row

_AT_ONCE = 8
_PORT, _HOST_PORT = 8000, 18000
_SECONDS = "2"
_REQUESTS = "400"
_FIRST = 20000
_REST = 0.1


def cycle(engine: Engine, network: str, ports: object = None) -> float:
    """Return the milliseconds of create, start, wait and remove of `true` on a network."""
    with timed() as watch:
        container = engine.create("true", NetworkMode=network, PortBindings=ports)
        engine.start(container)
        engine.wait(container)
        engine.remove(container)
    return watch.milliseconds


class NetworkShare:
    """The same cycle with and without a network, one after the other."""

    rounds = 40
    row = Row("create + start + wait + remove of `true` on the default bridge, API", "ms")
    share = Row("the same: more than without a network", "ms")

    def __init__(self, settings: Settings) -> None:
        pass

    def prepare(self, engine: Engine) -> None:
        """Warm up."""
        cycle(engine, "bridge")

    def sample(self, engine: Engine) -> dict[Row, float]:
        """One of each."""
        without = cycle(engine, "none")
        spent = cycle(engine, "bridge")
        return {self.row: spent, self.share: spent - without}

    def finish(self, engine: Engine) -> None:
        """Nothing is left."""


class NetworkRun:
    """`docker run --rm IMAGE true` on the default bridge, through the real client."""

    rounds = 20
    row = Row("`docker run --rm IMAGE true` on the default bridge", "ms")

    def __init__(self, settings: Settings) -> None:
        self.docker = settings.docker

    def prepare(self, engine: Engine) -> None:
        """Warm up."""
        self.sample(engine)

    def sample(self, engine: Engine) -> dict[Row, float]:
        """Run it."""
        environment = os.environ | {"DOCKER_HOST": engine.host}
        command = [self.docker, "run", "--rm", IMAGE, "true"]
        with timed() as watch:
            subprocess.run(command, env=environment, check=True, capture_output=True)
        return {self.row: watch.milliseconds}

    def finish(self, engine: Engine) -> None:
        """Nothing is left."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A server's container and a client's, and the server itself."""

    containers: tuple[str, str]
    server: subprocess.Popen[str]
    address: str
    client: int
    host: int


def _enter(pid: int, *words: str) -> list[str]:
    return ["nsenter", "-t", str(pid), "-n", sys.executable, "-I", traffic.__file__, *words]


def _figure(pid: int, *words: str) -> float:
    command = _enter(pid, *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(words)}: {done.stderr.strip()[-200:]}")
    return float(done.stdout)


class Traffic:
    """Bytes and requests: from container to container, and from the host by a published port."""

    rounds = 5

    def __init__(self, settings: Settings) -> None:
        self._pairs: dict[str, _Pair] = {}

    def prepare(self, engine: Engine) -> None:
        """Start two containers, and a server in the namespace of the first."""
        ports = {f"{_PORT}/tcp": [{"HostIp": "", "HostPort": str(_HOST_PORT)}]}
        first = engine.create("sleep", "600", NetworkMode="bridge", PortBindings=ports)
        second = engine.create("sleep", "600", NetworkMode="bridge")
        for container in (first, second):
            engine.start(container)
        facts = engine.inspect(first)
        command = _enter(int(facts["State"]["Pid"]), "serve", str(_PORT))
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        daemon = engine.api.daemon_pid()
        self._pairs[engine.name] = _Pair(
            (first, second),
            server,
            str(facts["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]),
            int(engine.inspect(second)["State"]["Pid"]),
            daemon,
        )

    def sample(self, engine: Engine) -> dict[Row, float]:
        """Two seconds of bytes and some hundred requests each way."""
        pair = self._pairs[engine.name]
        inner, outer = (pair.address, str(_PORT)), ("127.0.0.1", str(_HOST_PORT))
        return {
            Row("container to container: throughput", "MB/s", 0): _figure(
                pair.client, "push", *inner, _SECONDS
            ),
            Row("host to published port: throughput", "MB/s", 0): _figure(
                pair.host, "push", *outer, _SECONDS
            ),
            Row("container to container: HTTP request, p50", "ms", 3): _figure(
                pair.client, "ask", *inner, _REQUESTS
            ),
            Row("host to published port: HTTP request, p50", "ms", 3): _figure(
                pair.host, "ask", *outer, _REQUESTS
            ),
        }

    def finish(self, engine: Engine) -> None:
        """End the server and the containers."""
        pair = self._pairs.pop(engine.name)
        pair.server.kill()
        pair.server.wait()
        for container in pair.containers:
            engine.remove(container)


class NetworkFleet:
    """Many idle containers on the default bridge, eight requests at a time."""

    rounds = 2

    def __init__(self, settings: Settings) -> None:
        self.count = settings.containers

    def prepare(self, engine: Engine) -> None:
        """Warm up."""
        cycle(engine, "bridge")

    def sample(self, engine: Engine) -> dict[Row, float]:
        """Start them all, remove them all."""

        def begin(_: int) -> str:
            container = engine.create("sleep", "100000", NetworkMode="bridge")
            engine.start(container)
            return container

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            with timed() as started:
                containers = list(pool.map(begin, range(self.count)))
            with timed() as removed:
                list(pool.map(engine.remove, containers))
        return {
            Row(f"{self.count} containers on one bridge: started", "s", 2): started.seconds,
            Row(f"{self.count} containers on one bridge: removed", "s", 2): removed.seconds,
        }

    def finish(self, engine: Engine) -> None:
        """Nothing is left."""


class Connect:
    """Connect and disconnect of a running container."""

    rounds = 20

    def __init__(self, settings: Settings) -> None:
        self._made: dict[str, tuple[str, str]] = {}

    def prepare(self, engine: Engine) -> None:
        """Make a network and a container."""
        body = {"Name": f"bench-{engine.run}"}
        network = str(engine.api.call("POST", "/networks/create", body)["Id"])
        container = engine.create("sleep", "600", NetworkMode="bridge")
        engine.start(container)
        self._made[engine.name] = network, container

    def sample(self, engine: Engine) -> dict[Row, float]:
        """Connect, disconnect."""
        network, container = self._made[engine.name]
        times: dict[Row, float] = {}
        for verb in ("connect", "disconnect"):
            time.sleep(_REST)  # removing a link goes on after the answer
            with timed() as watch:
                path = f"/networks/{network}/{verb}"
                engine.api.call("POST", path, {"Container": container})
            times[Row(f"network {verb} of a running container", "ms")] = watch.milliseconds
        return times

    def finish(self, engine: Engine) -> None:
        """Remove both."""
        network, container = self._made.pop(engine.name)
        engine.remove(container)
        engine.api.call("DELETE", f"/networks/{network}")


class ManyPorts:
    """A start that publishes a port, beside none and beside many that are published already."""

    rounds = 12

    def __init__(self, settings: Settings) -> None:
        self.count = settings.ports
        self._made: dict[str, str] = {}
        self._alone: dict[str, list[float]] = {}

    def _one(self, engine: Engine) -> float:
        return cycle(engine, "bridge", {"80/tcp": [{"HostPort": str(_FIRST - 1)}]})

    def prepare(self, engine: Engine) -> None:
        """Measure alone, then publish the many."""
        self._one(engine)
        self._alone[engine.name] = [self._one(engine) for _ in range(self.rounds)]
        ports = {f"{n}/tcp": [{"HostPort": str(_FIRST + n)}] for n in range(1, self.count + 1)}
        container = engine.create("sleep", "600", NetworkMode="bridge", PortBindings=ports)
        engine.start(container)
        self._made[engine.name] = container

    def sample(self, engine: Engine) -> dict[Row, float]:
        """One start."""
        row = "create + start + wait + remove with a published port"
        return {
            Row(row, "ms"): self._alone[engine.name].pop(),
            Row(f"the same beside {self.count} published ports", "ms"): self._one(engine),
        }

    def finish(self, engine: Engine) -> None:
        """Remove them."""
        engine.remove(self._made.pop(engine.name))


NETWORK_CASES = {
    "net-share": NetworkShare,
    "net-run": NetworkRun,
    "net-traffic": Traffic,
    "net-fleet": NetworkFleet,
    "net-connect": Connect,
    "net-ports": ManyPorts,
}
