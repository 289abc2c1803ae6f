"""One container at a time: the API's cycle, the client's run, exec, stop."""

from __future__ import annotations

import os
import subprocess

from bench.cases.case import Settings, timed
from bench.engine import IMAGE, Engine
from bench.samples import Row


class ApiCycle:
    """create, start, wait and remove of `true` on one kept connection."""

    rounds = 30
    row = Row("create + start + wait + remove of `true`, API", "ms")

    def __init__(self, settings: Settings) -> None:
        pass

    def prepare(self, engine: Engine) -> None:
        self._cycle(engine)

    def sample(self, engine: Engine) -> dict[Row, float]:
        with timed() as watch:
            self._cycle(engine)
        return {self.row: watch.milliseconds}

    def finish(self, engine: Engine) -> None:
        pass

    def _cycle(self, engine: Engine) -> None:
        container = engine.create("true")
        engine.start(container)
        engine.wait(container)
        engine.remove(container)


class CliRun:
    """`docker run --rm --network none IMAGE true` through the real client."""

    rounds = 20
    row = Row("`docker run --rm --network none IMAGE true`", "ms")

    def __init__(self, settings: Settings) -> None:
        self.docker = settings.docker

    def prepare(self, engine: Engine) -> None:
        self.sample(engine)

    def sample(self, engine: Engine) -> dict[Row, float]:
        words = ["run", "--rm", "--network", "none", IMAGE, "true"]
        with timed() as watch:
            subprocess.run(
                [self.docker, *words],
                env=os.environ | {"DOCKER_HOST": engine.host},
                check=True,
                capture_output=True,
            )
        return {self.row: watch.milliseconds}

    def finish(self, engine: Engine) -> None:
        pass


class Exec:
    """exec of `true`: create, start attached, until the stream ends."""

    rounds = 30
    row = Row("exec of `true`, API", "ms")

    def __init__(self, settings: Settings) -> None:
        self.containers: dict[str, str] = {}

    def prepare(self, engine: Engine) -> None:
        container = self.containers[engine.name] = engine.create("sleep", "100000")
        engine.start(container)

    def sample(self, engine: Engine) -> dict[Row, float]:
        command = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
        with timed() as watch:
            path = f"/containers/{self.containers[engine.name]}/exec"
            execution = engine.api.call("POST", path, command)["Id"]
            engine.api.hijack(f"/exec/{execution}/start", {"Detach": False, "Tty": False})
        if code := engine.api.call("GET", f"/exec/{execution}/json")["ExitCode"]:
            raise ValueError(f"exec of true ended with {code}")
        return {self.row: watch.milliseconds}

    def finish(self, engine: Engine) -> None:
        engine.remove(self.containers[engine.name])


class Stop:
    """stop of a process that ends when it gets TERM."""

    rounds = 20
    row = Row("stop of a process that handles TERM, API", "ms")
    script = "trap 'exit 0' TERM; echo ready; sleep 100000 & wait"

    def __init__(self, settings: Settings) -> None:
        pass

    def prepare(self, engine: Engine) -> None:
        pass

    def sample(self, engine: Engine) -> dict[Row, float]:
        container = engine.create("sh", "-c", self.script)
        engine.start(container)
        engine.wait_for_log(container, b"ready")
        with timed() as watch:
            engine.api.call("POST", f"/containers/{container}/stop")
        code = engine.inspect(container)["State"]["ExitCode"]
        engine.remove(container)
        if code:
            raise ValueError(f"it was not TERM that ended it: exit code {code}")
        return {self.row: watch.milliseconds}

    def finish(self, engine: Engine) -> None:
        pass
