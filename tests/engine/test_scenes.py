"""A thousand command lines of the docker client, most of them mistakes: as on Docker 28.5, word for word."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.engine.scenes import OURS, RECORD, Said, Stage, names, read
from tests.harness.clients import Client

DOCKER = read(RECORD)
OWN = read(OURS)
ABREAST = 3
SECONDS = 600


@pytest.fixture(scope="module")
def played(docker: Client, engine_host: str, busybox: str) -> Iterator[dict[str, Future[Said]]]:
    """The scenes, being played some at a time."""
    stage = Stage(engine_host, busybox, docker.command[0])
    with ThreadPoolExecutor(ABREAST) as pool:
        # By itself: an engine remembers no more than some hundred events.
        first = pool.submit(stage.play, "events")
        first.exception(SECONDS)
        others = {scene: pool.submit(stage.play, scene) for scene in names() if scene != "events"}
        yield {"events": first, **others}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("scene", names())
def test_as_docker(
    scene: str, played: dict[str, Future[Said]], docker: Client, is_wherry: bool
) -> None:
    if scene == "cgroup1" and docker.line("info", "-f", "{{.CgroupVersion}}") != "1":
        pytest.skip("this machine has no cgroup v1")
    meant = {entry[0]: entry[:4] for entry in OWN.get(scene, [])} if is_wherry else {}
    expected = [meant.get(entry[0], entry) for entry in DOCKER[scene]]
    said = played[scene].result(SECONDS)
    wrong = [
        f"{now}\n  expected {then[1:]}"
        for now, then in zip(said, expected, strict=True)
        if now != then
    ]
    assert not wrong, "\n".join(wrong)


def test_what_differs_is_known_to_differ() -> None:
    for scene, entries in OWN.items():
        docker = {entry[0]: entry for entry in DOCKER[scene]}
        same = [line for line, *said, reason in entries if docker[line] == [line, *said]]
        assert not same
        assert all(reason for *_, reason in entries), f"{scene}: a difference without a reason"
