"""The layers of an image that is gone, over real containers: they go with the last one that uses them."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable

from tests.harness.clients import Client
from tests.harness.engine import Engine


def test_the_last_container_takes_the_layers_of_a_removed_image_along(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client]
) -> None:
    engine = new_engine()
    client = docker_for(engine)
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as tar:
        tar.add("/usr/bin/busybox", "bin/true")
    image = client.raw("import", "-", stdin=tree.getvalue()).stdout.decode().strip()
    layers = engine.data_root / "layers"
    client("create", "--network", "none", "--name", "one", image, "/bin/true")
    client("create", "--network", "none", "--name", "two", image, "/bin/true")
    client("rmi", "-f", image)
    client("rm", "one")
    client("start", "-a", "two")
    client("rm", "two")
    deadline = time.monotonic() + 30
    while os.listdir(layers):
        assert time.monotonic() < deadline, "the layers stay"
        time.sleep(0.02)
