"""Each version of the API has its own shapes, defaults and refusals: the ones that Docker 28.5 has."""

from __future__ import annotations

import json

import pytest

from tests.engine.boxes import Boxes
from tests.engine.raw import Api
from tests.engine.versions import RECORD, VERSIONS, Steps, read_steps
from tests.harness.clients import Client


def _asked() -> tuple[str, ...]:
    """The first and the last version, and both sides of each at which Docker changes something."""
    record: dict[str, Steps] = json.loads(RECORD.read_text())
    changed = {VERSIONS.index(step.split()[0]) for steps in record.values() for step in steps}
    wanted = {0, len(VERSIONS) - 1, *changed, *(index - 1 for index in changed)}
    return tuple(VERSIONS[index] for index in sorted(wanted))


@pytest.fixture(scope="module")
def steps(engine_host: str, busybox: str) -> dict[str, Steps]:
    """What changes at which version, as the engine under test answers."""
    return read_steps(engine_host.removeprefix("unix://"), busybox, _asked())


@pytest.mark.parametrize("name", sorted(json.loads(RECORD.read_text())))
def test_as_docker(name: str, steps: dict[str, Steps]) -> None:
    # Left out where nothing is cached, by Docker too; what other tests have built is in the shared engine.
    found = [step for step in steps[name] if ".BuilderSize:" not in step]
    assert found == json.loads(RECORD.read_text())[name]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_spoken(version: str, api: Api) -> None:
    answer = api("GET", "/version", version=f"v{version}")
    assert answer.status == 200
    assert answer.json()["ApiVersion"] == VERSIONS[-1]
    assert answer.json()["MinAPIVersion"] == VERSIONS[0]


@pytest.mark.parametrize(("version", "words"), [("1.23", "is too old"), ("1.52", "is too new")])
def test_no_other_is(version: str, words: str, api: Api) -> None:
    with_body = api("GET", "/info", version=f"v{version}")
    assert with_body.status == 400
    assert words in with_body.body.decode()


def test_an_unversioned_path_is_the_newest(api: Api, boxes: Boxes) -> None:
    assert "KernelMemory" not in api("GET", "/info", version="").json()
    assert "KernelMemory" in api("GET", "/info", version="v1.41").json()


def test_old_stop_knows_no_signal(api: Api, boxes: Boxes) -> None:
    """`signal` came with 1.42: before, whatever it says is passed over."""
    name = boxes.sleeper()
    refused = api("POST", f"/containers/{name}/stop", version="v1.42", signal="NONSENSE", t=0)
    assert refused.status == 400
    taken = api("POST", f"/containers/{name}/stop", version="v1.41", signal="NONSENSE", t=0)
    assert taken.status == 204


def test_usage_before_types_came(api: Api, docker: Client, boxes: Boxes) -> None:
    """`type` came with 1.42; until then `BuilderSize` told the cache's size, and no record its parents."""
    image = boxes.image_name()
    file = f"FROM {boxes.image}\nRUN echo 1 >/one\nRUN echo 2 >/two\n"
    docker("build", "--network", "none", "-t", image, "-", stdin=file)
    old = api("GET", "/system/df", version="v1.41", type="nonsense").json()
    assert None not in (old["Images"], old["Containers"], old["Volumes"])
    assert old["BuilderSize"] == sum(record["Size"] for record in old["BuildCache"]) > 0
    assert not any("Parents" in record for record in old["BuildCache"])
    assert all("VirtualSize" in one for one in old["Images"])
    new = api("GET", "/system/df", version="v1.42").json()
    assert "BuilderSize" not in new
    assert any(record.get("Parents") for record in new["BuildCache"])
    some = api("GET", "/system/df", version="v1.51", search="type=volume&type=build-cache").json()
    assert (some["Images"], some["Containers"]) == (None, None)
    assert some["BuildCache"] and some["Volumes"] is not None
    assert api("GET", "/system/df", version="v1.42", type="nonsense").status == 400
