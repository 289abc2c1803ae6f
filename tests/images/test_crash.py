"""kill -9 at named points: what was acknowledged is whole, what was not leaves nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.archives import docker_files, oci_files, sample
from tests.images.house import House, tar
from wherry.images.making import NewImage
from wherry.kernel import failpoints

FIRST, SECOND = sample("base", "first"), sample("base", "second")


def die(root: Path, point: str, work: Callable[[House], object]) -> None:
    """Load one image, then do `work` in a child that is killed at `point`."""
    child = os.fork()
    if child == 0:
        try:
            house = House(root)
            house.load(tar(docker_files(FIRST, "first:1")))
            failpoints.configure(f"{point}=kill")
            work(house)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{point}: not reached"


def load_second(house: House) -> None:
    house.load(tar(oci_files(SECOND, "second:1")))


def import_one(house: House) -> None:
    house.import_tar(tar({"x": b"y"}), "second", "1")


def commit_one(house: House) -> None:
    base = house.store.resolve("first:1")
    new = NewImage(base.config)
    house.service.maker.make(base, lambda out: tar({"z": b""}, out) and None, new)


def remove_first(house: House) -> None:
    house.remove("first:1")


def check_whole(house: House) -> None:
    """Every image that is there can be saved, loaded again and read."""
    for image in house.store.images():
        for layer, stored in zip(image.layers, house.store.layers(image.id), strict=True):
            assert house.snapshots.has_layer(layer.chain_id)
            assert house.content.size(stored.layer.blob) == stored.layer.blob_size
        assert house.save(str(image.id))


BEFORE = (
    "content.before-commit",
    "images.before-register",
    "database.before-commit",
)


@pytest.mark.parametrize("point", [*BEFORE, "database.after-commit", "images.after-register"])
@pytest.mark.parametrize("work", [load_second, import_one, commit_one])
def test_killed_while_an_image_comes_in(
    tmp_path: Path, point: str, work: Callable[[House], object]
) -> None:
    root = tmp_path / "house"
    die(root, point, work)
    house = House(root)
    try:
        house.service.sweep()
        check_whole(house)
        assert "first:1" in house.names()
        assert (len(house.store.ids()) == 1) == (point in BEFORE)
        # Children before their parents.
        for image in sorted(house.store.images(), key=lambda image: -len(image.layers)):
            house.remove(str(image.id), force=True, prune=False)
        assert house.is_empty()
        load_second(house)
        check_whole(house)
    finally:
        house.close()


@pytest.mark.parametrize("point", ["images.after-forget", "collector.before-remove"])
def test_killed_while_an_image_goes(tmp_path: Path, point: str) -> None:
    root = tmp_path / "house"
    die(root, point, remove_first)
    house = House(root)
    try:
        assert house.names() == []
        assert not house.is_empty()
        collected = house.service.sweep()
        assert len(collected.layers) == 2
        assert house.is_empty()
    finally:
        house.close()


def test_killed_between_unpacking_and_registering(tmp_path: Path) -> None:
    """A layer on disk that no table knows is used again, or swept, and never trusted blindly."""
    root = tmp_path / "house"
    die(root, "images.before-register", load_second)
    house = House(root)
    try:
        assert len(list(house.snapshots.layers())) == 3
        load_second(house)
        check_whole(house)
        image = house.store.resolve("second:1")
        assert house.save("second:1")
        (stored,) = house.store.layers(image.id)[1:]
        assert stored.tar_size == len(SECOND.layers[1])
        house.service.sweep()
        check_whole(house)
    finally:
        house.close()
