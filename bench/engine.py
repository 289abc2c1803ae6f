"""The few things a measurement does with an engine, in the words of the API."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from typing import Any, cast

from bench.api import Api, ApiError

LABEL = "bench.run"
IMAGE = "bench-busybox:latest"
TREE = "bench-tree:latest"
# An engine that caps its logs by default must keep all of them here, as the other does.
KEEP_ALL_LOGS = {"Type": "json-file", "Config": {"max-size": "4g"}}


class Engine:
    """An engine under measurement: its name in the table, its host, and what we made in it."""

    def __init__(self, name: str, host: str, pattern: str = "") -> None:
        self.name = name
        self.host = host
        self.api = Api(host)
        self.pattern = pattern
        self.run = secrets.token_hex(4)

    def create(self, *argv: str, image: str = IMAGE, **host_config: object) -> str:
        """Create a container, without network unless told otherwise, and return its id."""
        bindings = cast("dict[str, object]", host_config.get("PortBindings") or {})
        # Docker publishes only what is exposed too.
        exposed: dict[str, dict[str, str]] = {port: {} for port in bindings}
        spec = {
            "ExposedPorts": exposed,
            "Image": image,
            "Cmd": list(argv),
            "Labels": {LABEL: self.run},
            "HostConfig": {"NetworkMode": "none", **host_config},
        }
        return str(self.api.call("POST", "/containers/create", spec)["Id"])

    def start(self, container: str) -> None:
        """Start a container."""
        self.api.call("POST", f"/containers/{container}/start")

    def wait(self, container: str) -> int:
        """Wait for a container's end and return its exit code."""
        return int(self.api.call("POST", f"/containers/{container}/wait")["StatusCode"])

    def remove(self, container: str) -> None:
        """Remove a container, running or not."""
        self.api.call("DELETE", f"/containers/{container}", force=1)

    def inspect(self, container: str) -> dict[str, Any]:
        """Return the inspection of a container."""
        return self.api.call("GET", f"/containers/{container}/json")

    def run_to_end(self, *argv: str, image: str = IMAGE, **host_config: object) -> str:
        """Run a command that must succeed and return the id of its container, which stays."""
        container = self.create(*argv, image=image, **host_config)
        self.start(container)
        code = self.wait(container)
        if code:
            raise ApiError(f"{argv} ended with {code} in {self.name}")
        return container

    def wait_for_log(self, container: str, word: bytes) -> None:
        """Wait until a container has printed `word`; ApiError after 30 seconds."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if word in self.api.fetch(f"/containers/{container}/logs", stdout=1):
                return
            time.sleep(0.02)
        raise ApiError(f"{container[:12]} of {self.name} did not print {word!r}")

    def remove_image(self, name: str) -> None:
        """Remove an image if it is there."""
        with suppress(ApiError):
            self.api.call("DELETE", f"/images/{name}", force=1)

    def clean(self) -> None:
        """Remove the containers and images that this run made."""
        filters = f'{{"label":["{LABEL}={self.run}"]}}'
        for row in self.api.call("GET", "/containers/json", all=1, filters=filters):
            with suppress(ApiError):
                self.remove(row["Id"])
        for name in (IMAGE, TREE, "bench-commit:latest"):
            self.remove_image(name)
