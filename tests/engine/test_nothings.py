"""null, [], {}, "" and no field at all: each answer holds the kind of nothing that Docker 28.5's does."""

from __future__ import annotations

import json

import pytest

from tests.engine.nothings import RECORD, Kinds, read_all

# Where the answers differ and are to: the field, and why.
MEANT = {
    ".Components[].Details.GitCommit": "a Python program is not built from one commit",
    ".Components[].Details.GoVersion": "the same",
    ".GitCommit": "the same",
    ".GoVersion": "the same",
    ".CDISpecDirs": "CDI is not spoken",
    ".CDISpecDirs[]": "the same",
    ".Containerd": "there is no containerd",
    ".Containerd.Address": "the same",
    ".Containerd.Namespaces": "the same",
    ".Containerd.Namespaces.Containers": "the same",
    ".Containerd.Namespaces.Plugins": "the same",
    ".DockerVersion": "an image that is made here names no engine: its digest is the same everywhere",
    ".KernelMemoryTCP": "Linux has given it up (5.16)",
    ".OSVersion": "of the machine",
    ".HttpProxy": "of the machine",
    ".HttpsProxy": "of the machine",
    ".NoProxy": "of the machine",
    ".InitBinary": "of the machine",
    ".Warnings": "of the machine",
    ".Warnings[]": "of the machine",
    ".Platform.Name": "wherry says its name",
    ".HostConfig.Mounts[].BindOptions": "options that say nothing are not kept",
    ".HostConfig.Mounts[].TmpfsOptions": "the same",
    ".HostConfig.PortBindings.81/udp": "a port bound to null is not bound",
}
_RECORDED: dict[str, Kinds] = json.loads(RECORD.read_text())


@pytest.fixture(scope="module")
def answers(engine_host: str, busybox: str) -> dict[str, Kinds]:
    """The kinds of everything that the engine under test answers."""
    return read_all(engine_host.removeprefix("unix://"), busybox)


@pytest.mark.parametrize("name", _RECORDED)
def test_as_docker(name: str, answers: dict[str, Kinds]) -> None:
    def shown(found: Kinds) -> Kinds:
        return {path: one for path, one in found.items() if path not in MEANT}

    assert shown(answers[name]) == shown(_RECORDED[name])


def test_nothing_else_is_answered(answers: dict[str, Kinds]) -> None:
    assert set(answers) == set(_RECORDED)
