"""An inspect that was asked for before is never what was: each kind of change is in the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.engine.boxes import Boxes, eventually
from tests.engine.raw import Api
from tests.engine.tars import file, tar_of


class Watched:
    """One container, and what its inspect was before each change."""

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.name = name

    def look(self) -> dict[str, Any]:
        answer = self.api("GET", f"/containers/{self.name}/json")
        assert answer.status == 200, answer.body
        return answer.json()

    def at(self, path: str) -> Any:
        found: Any = self.look()
        for word in path.split("."):
            found = found[word]
        return found

    @contextmanager
    def changes(self, *paths: str) -> Iterator[None]:
        """What is inside changes every one of these values, and it is seen at once."""
        self.look()
        before = {path: self.at(path) for path in paths}
        yield
        after = {path: self.at(path) for path in paths}
        assert not [path for path in paths if after[path] == before[path]], before

    def post(self, verb: str, body: object = None, **query: Any) -> Any:
        answer = self.api("POST", f"/containers/{self.name}/{verb}", body, **query)
        assert answer.status < 300, answer.body
        return answer.json() if answer.body else None


@pytest.fixture
def created(boxes: Boxes, api: Api) -> Watched:
    words = ("sh", "-c", "trap 'exit 3' TERM; sleep 600 & wait")
    return Watched(api, boxes.create(boxes.image, *words))


def test_start_pause_stop_kill_and_restart(created: Watched) -> None:
    with created.changes("State.Status", "State.Pid", "State.StartedAt", "HostsPath", "LogPath"):
        created.post("start")
    with created.changes("State.Status", "State.Paused"):
        created.post("pause")
    with created.changes("State.Status", "State.Paused"):
        created.post("unpause")
    with created.changes("State.Pid", "State.StartedAt"):
        created.post("restart", t=0)
    with created.changes("State.Status", "State.ExitCode", "State.FinishedAt"):
        created.post("stop", t=5)
    created.post("start")
    with created.changes("State.Running"):
        created.post("kill")
        created.post("wait")


def test_rename_update_and_remove(created: Watched, boxes: Boxes) -> None:
    other = boxes.name()
    with created.changes("HostConfig.Memory", "HostConfig.RestartPolicy"):
        limits = {"Memory": 64 << 20, "MemorySwap": 64 << 20}
        created.post("update", {**limits, "RestartPolicy": {"Name": "on-failure"}})
    for limit in (5, 0):
        with created.changes("HostConfig.PidsLimit"):
            created.post("update", {"PidsLimit": limit})
    identity = created.at("Id")
    watched = Watched(created.api, identity)
    with watched.changes("Name"):
        created.post("rename", name=other)
    assert created.api("GET", f"/containers/{created.name}/json").status == 404
    assert created.api("DELETE", f"/containers/{identity}").status == 204
    assert created.api("GET", f"/containers/{identity}/json").status == 404


def test_a_copy_into_one_that_was_never_started(created: Watched) -> None:
    with created.changes("GraphDriver.Data.UpperDir"):
        path = f"/containers/{created.name}/archive"
        tar = tar_of([file("new", b"new")])
        assert created.api("PUT", path, tar, search="path=/").status == 200


def test_execs(created: Watched) -> None:
    created.post("start")
    with created.changes("ExecIDs"):
        made = created.post("exec", {"Cmd": ["sleep", "600"]})["Id"]
    assert created.api("POST", f"/exec/{made}/start", {"Detach": True}).status == 200
    assert created.at("ExecIDs") == [made]
    with created.changes("ExecIDs"):
        quick = created.post("exec", {"Cmd": ["true"]})["Id"]
    assert created.api("POST", f"/exec/{quick}/start", {"Detach": True}).status == 200
    eventually(lambda: created.at("ExecIDs") == [made])


def test_networks(boxes: Boxes, api: Api) -> None:
    name, network = boxes.name(), f"{boxes.name()}-n"
    boxes.docker("run", "-d", "--name", name, boxes.image, "sleep", "600")
    boxes.docker("network", "create", network)
    watched = Watched(api, name)
    try:
        with watched.changes("NetworkSettings.Networks"):
            boxes.docker("network", "connect", network, name)
        with watched.changes("NetworkSettings.Networks"):
            boxes.docker("network", "disconnect", network, name)
        with watched.changes("NetworkSettings.IPAddress"):
            boxes.docker("network", "disconnect", "bridge", name)
    finally:
        boxes.docker("network", "rm", "-f", network)


def test_health(boxes: Boxes, api: Api) -> None:
    words = ("--health-cmd", "test -e /ok", "--health-interval", "100ms", "--health-retries", "1")
    watched = Watched(api, boxes.sleeper(*words))
    eventually(lambda: watched.at("State.Health.Status") == "unhealthy")
    boxes.exec(watched.name, "touch /ok")
    eventually(lambda: watched.at("State.Health.Status") == "healthy")


def test_an_end_by_itself_and_restarts(boxes: Boxes, api: Api) -> None:
    watched = Watched(api, boxes.sh("while [ ! -e /go ]; do sleep 0.05; done; exit 4"))
    assert watched.at("State.Running")
    boxes.exec(watched.name, "touch /go")
    eventually(lambda: watched.at("State.ExitCode") == 4)
    again = Watched(api, boxes.run("--restart", "on-failure:1", boxes.image, "false"))
    eventually(lambda: again.at("RestartCount") == 1)


def test_what_a_legacy_link_names(boxes: Boxes, api: Api) -> None:
    target, name, other = boxes.name(), boxes.name(), boxes.name()
    boxes.docker("run", "-d", "--name", target, boxes.image, "sleep", "600")
    boxes.docker("create", "--name", name, "--link", f"{target}:alias", boxes.image)
    watched = Watched(api, name)
    with watched.changes("HostConfig.Links"):
        boxes.docker("rename", target, other)


def test_it_is_the_same_however_it_is_asked_for(api: Api, created: Watched) -> None:
    before = created.look()
    assert created.look() == before
    sized = api("GET", f"/containers/{created.name}/json", size=1).json()
    assert {key: value for key, value in sized.items() if not key.startswith("Size")} == before
    assert Watched(api, before["Id"]).look() == Watched(api, before["Id"][:12]).look() == before
