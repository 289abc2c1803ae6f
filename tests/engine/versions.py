"""What an engine answers at every version of the API, reduced to what changes from one to the next.

`python -m tests.engine.versions unix:///run/docker.sock busybox` records a Docker's, for `test_versions`.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.raw import Answer, Api

RECORD = Path(__file__).with_name("recorded") / "versions.json"
VERSIONS = tuple(f"1.{minor}" for minor in range(24, 52))

Reduced = dict[str, Any]
"""What is compared of one answer: a field or the path of one, to its value."""
Steps = list[str]
"""What changed at which version, a line each."""
_SECOND = 10**9
_HALF = '{"os":"linux"}'
_OTHER = '{"os":"linux","architecture":"s390x"}'
# What belongs to Docker's own parts.
_OWN = ("[].Runtimes", "[].Containerd", "[].FirewallBackend")
_HEX = re.compile(r"[0-9a-f]{64}|\b[0-9a-f]{12}\b")


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object = None
    timeout: float = 60
    depth: int = 99
    """How deep fields are looked at: beyond it they are of other tests' containers and images."""


def _status(method: str, path: str, **query: str) -> Asked:
    """A question of whose answer the status and the message are compared alone."""
    return Asked(method, path, query, depth=0)


def shape(value: Any, path: str = "", depth: int = 99) -> Iterator[str]:
    """Yield the path of every field of `value`, `depth` levels down."""
    if depth == 0:
        return
    if isinstance(value, dict):
        for name, part in value.items():
            name = "*" if _HEX.search(name) or name.startswith("/") else name
            yield f"{path}.{name}"
            yield from shape(part, f"{path}.{name}", depth - 1)
    elif isinstance(value, list):
        for part in value:
            yield from shape(part, f"{path}[]", depth)


class Scene:
    """A running container, a volume and an exec, made with the newest version and gone at the exit."""

    def __init__(self, api: Api, image: str) -> None:
        self.api = api
        self.image = image
        self.name = f"versions-{secrets.token_hex(4)}"
        self.exec = ""

    def ask(self, method: str, path: str, body: object = None, **query: Any) -> Answer:
        answer = self.api(method, path, body, version="v1.51", **query)
        assert answer.status < 400, f"{method} {path}: {answer.status} {answer.body!r}"
        return answer

    def __enter__(self) -> Scene:
        name = self.name
        self.ask("POST", "/volumes/create", {"Name": name, "Labels": {"a": "b"}})
        body = {
            "Image": self.image, "Cmd": ["sleep", "600"], "Labels": {"a": "b"},
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {
                "Binds": [f"{name}:/v"], "Annotations": {"x": "y"}, "NetworkMode": "none",
                "Memory": 64 << 20,
            },
        }  # fmt: skip
        self.ask("POST", "/containers/create", body, name=name)
        self.ask("POST", f"/containers/{name}/start")
        self.exec = self.ask("POST", f"/containers/{name}/exec", {"Cmd": ["true"]}).json()["Id"]
        return self

    def __exit__(self, *_: object) -> None:
        self.api("DELETE", f"/containers/{self.name}", version="v1.51", v=1, force=1)
        for volume in (self.name, f"{self.name}-sub"):
            self.api("DELETE", f"/volumes/{volume}", version="v1.51", force=1)

    def questions(self) -> dict[str, Asked]:
        """What is asked, by the name under which it is recorded."""
        name = self.name

        def only(**filters: list[str]) -> dict[str, str]:
            return {"filters": json.dumps(filters)}

        now = str(int(time.time()))
        none = only(label=["nobody-has-this"])
        box, image = f"/containers/{name}", f"/images/{self.image}"
        return {
            "ps": Asked("GET", "/containers/json", {"size": "1", **only(name=[name])}),
            "inspect": Asked("GET", f"{box}/json", {"size": "1"}),
            "images": Asked("GET", "/images/json", only(reference=[self.image])),
            "images by filter": Asked("GET", "/images/json", {"filter": "nobody*"}, depth=1),
            "image": Asked("GET", f"/images/{self.image}/json", {}),
            "history": Asked("GET", f"/images/{self.image}/history", {}),
            "network": Asked("GET", "/networks/host", {}),
            "volumes": Asked("GET", "/volumes", only(name=[name])),
            "volume": Asked("GET", f"/volumes/{name}", {}),
            "info": Asked("GET", "/info", {}),
            "version": Asked("GET", "/version", {}),
            "df": Asked("GET", "/system/df", {"type": "volume"}, depth=1),
            "exec": Asked("GET", f"/exec/{self.exec}/json", {}),
            "events": Asked("GET", "/events", {"since": "1", "until": now, **only(container=[name])}),
            "top": Asked("GET", f"{box}/top", {}),
            "logs": Asked("GET", f"{box}/logs", {"stdout": "1"}),
            "wait for what is not": Asked("POST", f"{box}/wait", {"condition": "bad"}, timeout=3),
            "start with a body": Asked("POST", f"{box}/start", {}, {"HostConfig": {"Memory": 1}}),
            "prune volumes": Asked("POST", "/volumes/prune", none),
            "image for a platform": _status("GET", f"{image}/json", platform=_OTHER),
            "image for half a platform": _status("GET", f"{image}/json", platform=_HALF),
            "image for a platform, with manifests": _status(
                "GET", f"{image}/json", platform=_OTHER, manifests="1"
            ),
            "history for a platform": _status("GET", f"{image}/history", platform=_OTHER),
            "save for half a platform": _status("GET", "/images/nobody/get", platform=_HALF),
            "remove half a platform": _status("DELETE", "/images/nobody", platforms=_HALF),
            "resize": Asked("POST", f"{box}/resize", {"h": "x", "w": "1"}),
        }  # fmt: skip

    def creations(self) -> dict[str, object]:
        """Bodies of create, by the name under which they are recorded."""

        def host(_top: Mapping[str, object] | None = None, /, **fields: object) -> object:
            config = {"NetworkMode": "none", **fields}
            return {"Image": self.image, "Cmd": ["true"], **(_top or {}), "HostConfig": config}

        def mount(kind: str, source: str, **options: object) -> object:
            return host(Mounts=[{"Type": kind, "Source": source, "Target": "/x", **options}])

        return {
            "plain": host(),
            "StartInterval": host({"Healthcheck": {"Test": ["NONE"], "StartInterval": _SECOND}}),
            "Annotations": host(Annotations={"a": "b"}),
            "ConsoleSize": host(ConsoleSize=[10, 20]),
            "AutoRemove": host(AutoRemove=True, RestartPolicy={"Name": "always"}),
            "IpcMode": host(IpcMode="private"),
            "NonRecursive": mount("bind", "/etc", BindOptions={"NonRecursive": True}),
            "CreateMountpoint": mount("bind", "/no-such", BindOptions={"CreateMountpoint": False}),
            "ReadOnlyForceRecursive": mount(
                "bind", "/etc", ReadOnly=True,
                BindOptions={"ReadOnlyForceRecursive": True, "Propagation": "rprivate"},
            ),
            "Subpath": mount("volume", f"{self.name}-sub", VolumeOptions={"Subpath": "x"}),
            "image mount": mount("image", self.image),
            "two networks": {
                "Image": self.image, "HostConfig": {"NetworkMode": "bridge"},
                "NetworkingConfig": {"EndpointsConfig": {"bridge": {}, "none": {}}},
            },
            "MacAddress": {
                "Image": self.image, "MacAddress": "02:42:ac:11:00:99",
                "HostConfig": {"NetworkMode": "bridge"},
            },
        }  # fmt: skip

    def tidy(self, text: str) -> str:
        """Return a message without what is this run's alone."""
        text = text.replace(self.name, "NAME").replace(self.image, "IMAGE")
        text = _HEX.sub("ID", text).strip()
        # Docker lists networks in no order.
        return text.replace("endpoints: none, bridge", "endpoints: bridge, none")


def _reduce_answer(scene: Scene, asked: Asked, version: str) -> Reduced:
    try:
        answer = scene.api(asked.method, asked.path, asked.body, version=f"v{version}",
                           timeout=asked.timeout, **dict[str, Any](asked.query))  # fmt: skip
    except TimeoutError:
        return {"status": "waits"}
    found: Reduced = {"status": answer.status, "type": answer.headers.get("Content-Type", "")}
    if answer.status >= 400:
        return found | {"message": scene.tidy(answer.message)}
    try:
        parts = [json.loads(line) for line in answer.body.splitlines()]
    except ValueError:
        return found
    return found | dict.fromkeys(shape(parts, "", asked.depth), "there")


def _reduce_creation(scene: Scene, body: object, version: str) -> Reduced:
    answer = scene.api("POST", "/containers/create", body, version=f"v{version}")
    if answer.status >= 400:
        return {"status": answer.status, "message": scene.tidy(answer.message)}
    made = answer.json()
    inspected = scene.ask("GET", f"/containers/{made['Id']}/json").json()
    scene.ask("DELETE", f"/containers/{made['Id']}", v=1)
    host = inspected["HostConfig"]
    # Of a creation only what a version may change, or the record would hold Docker's every default.
    return {
        "status": 201,
        "warnings": made["Warnings"] or [],
        "health": inspected["Config"].get("Healthcheck"),
        "networks": sorted(inspected["NetworkSettings"]["Networks"]),
        **{
            name: host.get(name) for name in ("AutoRemove", "Annotations", "ConsoleSize", "IpcMode")
        },
        "mount": [
            # Docker shows a propagation that was said though it is the default, wherry does not.
            {"type": mount["Type"], **(mount.get("BindOptions") or {}), "Propagation": ""}
            for mount in host.get("Mounts") or ()
        ],
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _steps(at: Callable[[str], Reduced], versions: tuple[str, ...]) -> Steps:
    steps: Steps = []
    before: Reduced | None = None
    for version in versions:
        now = at(version)
        if before is not None:
            for name in sorted(before.keys() | now.keys()):
                old, new = before.get(name, "not there"), now.get(name, "not there")
                if old != new and not name.startswith(_OWN):
                    steps.append(f"{version} {name}: {_json(old)} -> {_json(new)}")
        before = now
    return steps


def read_steps(socket: str, image: str, versions: tuple[str, ...] = VERSIONS) -> dict[str, Steps]:
    """Ask the engine at `socket` everything at every one of `versions`; return what changes when."""
    with Scene(Api(socket), image) as scene:
        found = {
            name: _steps(lambda version, asked=asked: _reduce_answer(scene, asked, version), versions)
            for name, asked in scene.questions().items()
        }  # fmt: skip
        for name, body in scene.creations().items():
            found[f"create: {name}"] = _steps(
                lambda version, body=body: _reduce_creation(scene, body, version), versions
            )
    return found


if __name__ == "__main__":
    RECORD.parent.mkdir(exist_ok=True)
    steps = read_steps(sys.argv[1].removeprefix("unix://"), sys.argv[2])
    RECORD.write_text(json.dumps(steps, indent=1) + "\n")
