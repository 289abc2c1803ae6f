"""Bytes through a container: standard input to standard output."""

from __future__ import annotations

import os
import subprocess

from bench.cases.case import Settings, timed
from bench.engine import IMAGE, Engine
from bench.rootfs import MEGABYTE, input_file
from bench.samples import Row


class Cat:
    """`docker run -i IMAGE cat` through the real client, file in, pipe out."""

    rounds = 2

    def __init__(self, settings: Settings) -> None:
        self.megabytes = settings.cat_megabytes
        self.docker = settings.docker
        self.input = input_file(settings.scratch, self.megabytes)

    def prepare(self, engine: Engine) -> None:
        pass

    def sample(self, engine: Engine) -> dict[Row, float]:
        size = f"{self.megabytes} MB"
        return {
            Row(f"`docker run -i IMAGE cat`, {size}", "MB/s"): self._throughput(engine),
            Row(f"`docker run -i --log-driver none IMAGE cat`, {size}", "MB/s"): self._throughput(
                engine, "--log-driver", "none"
            ),
        }

    def _throughput(self, engine: Engine, *flags: str) -> float:
        words = ["run", "-i", "--rm", "--network", "none", *flags, IMAGE, "cat"]
        with (
            self.input.open("rb") as source,
            timed() as watch,
            subprocess.Popen(
                [self.docker, *words],
                env=os.environ | {"DOCKER_HOST": engine.host},
                stdin=source,
                stdout=subprocess.PIPE,
                bufsize=0,
            ) as client,
        ):
            assert client.stdout is not None
            count = 0
            buffer = bytearray(1 << 20)
            while got := os.readv(client.stdout.fileno(), [buffer]):
                count += got
        if client.returncode or count != self.megabytes * MEGABYTE:
            raise ValueError(f"cat gave {count} bytes, exit code {client.returncode}")
        return self.megabytes / watch.seconds

    def finish(self, engine: Engine) -> None:
        pass
