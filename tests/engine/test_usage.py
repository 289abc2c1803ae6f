"""`docker system df`: each figure against content whose size is known, to the byte (1 % is what is asked)."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.engine.boxes import Boxes
from tests.engine.raw import Api
from tests.engine.tars import file, tar_of

BASE, LAYER, WRITTEN, KEPT = 3_000_000, 1_000_000, 2_000_000, 5_000_000


@pytest.fixture(scope="module")
def usage(module_boxes: Boxes, api: Api) -> dict[str, dict[str, Any]]:
    """What df says of the images, the container and the volume that were made for it, by name."""
    boxes, docker = module_boxes, module_boxes.docker
    alone = boxes.imported(tar_of([file("three", os.urandom(BASE))]))
    below, above = boxes.create(boxes.image), boxes.image_name()
    layer = tar_of([file("one", os.urandom(LAYER))])
    docker.raw("cp", "-", f"{below}:/", stdin=layer)
    docker("commit", below, above)
    volume = boxes.volume_name()
    script = (
        f"head -c {WRITTEN} /dev/urandom >/two; ln /two /hard; ln -s two /soft; rm /one; mkdir /d; "
        f"dd if=/dev/zero of=/sparse bs=1 count=1 seek={WRITTEN - 1}; head -c {KEPT} /dev/urandom >/v/five"
    )
    box = boxes.name()
    docker(
        "run", "--name", box, "--network", "none", "-v", f"{volume}:/v", above, "sh", "-c", script
    )
    answer = api("GET", "/system/df", version="v1.51").json()
    images = {name: image for image in answer["Images"] for name in image["RepoTags"] or ()}
    names = {"alone": images[alone], "above": images[above], "base": images[boxes.image]}
    boxes_of = {container["Names"][0]: container for container in answer["Containers"]}
    names |= {"box": boxes_of[f"/{box}"], "below": boxes_of[f"/{below}"]}
    return names | {"volume": next(v for v in answer["Volumes"] if v["Name"] == volume)}


def test_images_and_what_they_share(usage: dict[str, dict[str, Any]]) -> None:
    base = usage["base"]["Size"]
    assert (usage["alone"]["Size"], usage["alone"]["SharedSize"]) == (BASE, 0)
    assert (usage["above"]["Size"], usage["above"]["SharedSize"]) == (base + LAYER, base)
    assert usage["base"]["SharedSize"] == base
    assert (usage["above"]["Containers"], usage["alone"]["Containers"]) == (1, 0)


def test_containers(usage: dict[str, dict[str, Any]]) -> None:
    """Docker counts what a sparse file would hold, a hard link once, and nothing for what is gone."""
    assert usage["below"]["SizeRw"] == LAYER
    links = len("two")
    assert usage["box"]["SizeRw"] == 2 * WRITTEN + links
    assert usage["box"]["SizeRootFs"] == usage["box"]["SizeRw"] + usage["above"]["Size"]


def test_volumes(usage: dict[str, dict[str, Any]]) -> None:
    assert usage["volume"]["UsageData"] == {"RefCount": 1, "Size": KEPT}
