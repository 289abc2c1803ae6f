"""Names, ids, tags, listings, removal: Docker's rules and words."""

from __future__ import annotations

import os

import pytest

from tests.images.house import House, run, tar
from wherry.images.making import NewImage
from wherry.images.users import Use
from wherry.model.errors import Conflict, Invalid, NotFound
from wherry.model.ids import Digest
from wherry.model.images import Image

RUNNING = Use("3078207dc80b" + "0" * 52, running=True)
STOPPED = Use("475b82c6e733" + "0" * 52, running=False)


def make(house: House, content: str, name: str = "", tag: str = "1", **options: object) -> Image:
    changes = [f"LABEL {key}={value}" for key, value in options.items()]
    return house.import_tar(tar({"file": content.encode()}), name, tag, changes)


def child_of(house: House, base: Image, name: str) -> Image:
    """An image on `base`, as commit makes it."""

    def write(out: object) -> None:
        tar({"added": b"by commit"}, out)  # type: ignore[arg-type]

    image = house.service.maker.make(base, write, NewImage(config=base.config))
    run(house.service.tag(str(image.id), name, "1"))
    return image


def test_an_image_is_found_by_every_name_it_has(house: House) -> None:
    image = make(house, "a", "web/app", "1.0")
    run(house.service.tag("web/app:1.0", "app", ""))
    for ref in (
        "web/app:1.0",
        "docker.io/web/app:1.0",
        "app",
        "app:latest",
        "library/app",
        str(image.id),
        image.id.hex,
        image.id.short,
        image.id.hex[:20],
    ):
        assert run(house.service.inspect(ref)).id == image.id
    found = house.store.resolve("app")
    assert found.names == ("app:latest", "web/app:1.0")
    assert found.repo_digests == ()
    assert found.last_tagged > 0


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("nosuch", "No such image: nosuch:latest"),
        ("nosuch:1", "No such image: nosuch:1"),
        ("app:2", "No such image: app:2"),
        ("a/b@sha256:" + "0" * 64, "No such image: a/b@sha256:" + "0" * 64),
        ("0" * 64, "No such image: " + "0" * 64),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
    ],
)
def test_what_is_not_there(house: House, ref: str, message: str) -> None:
    make(house, "a", "app")
    with pytest.raises(NotFound) as caught:
        house.store.resolve(ref)
    assert caught.value.message == message


def test_bad_names(house: House) -> None:
    with pytest.raises(Invalid, match=r"repository name .*ABC.* must be lowercase"):
        house.store.resolve("ABC")
    with pytest.raises(Invalid, match="invalid reference format"):
        house.store.resolve("a b")
    image = make(house, "a")
    with pytest.raises(Invalid, match="digest reference"):
        run(house.service.tag(str(image.id), f"x@{image.id}", ""))
    with pytest.raises(Invalid):
        run(house.service.tag(str(image.id), "x", "a b"))


def test_an_ambiguous_prefix_is_not_found(house: House) -> None:
    ids = {make(house, str(n)).id.hex for n in range(20)}
    first = next(c for c in "0123456789abcdef" if sum(i.startswith(c) for i in ids) > 1)
    with pytest.raises(NotFound, match=f"No such image: {first}:latest.*several"):
        house.store.resolve(first)


def test_a_name_beats_an_id_prefix(house: House) -> None:
    image = make(house, "a", "one")
    other = make(house, "b", image.id.hex[:6], "latest")
    assert house.store.resolve(image.id.hex[:6]).id == other.id
    assert house.save(image.id.hex[:6])
    assert house.remove(image.id.hex[:6])[0] == f"untagged {image.id.hex[:6]}:latest"


def test_a_tag_moves(house: House) -> None:
    old, new = make(house, "a", "app"), make(house, "b", "app")
    assert house.store.resolve("app:1").id == new.id
    assert house.store.get(old.id).names == ()
    with pytest.raises(NotFound):
        house.store.tag(Digest.of(b"none"), house.store.references(new.id)[0])
    assert house.store.resolve("app:1").id == new.id


def test_removing_the_last_name_removes_the_image_and_its_bytes(house: House) -> None:
    image = make(house, "a", "app")
    run(house.service.tag("app:1", "app", "2"))
    assert house.remove("app:1") == ["untagged app:1"]
    assert house.remove("app:2") == [
        "untagged app:2",
        f"deleted {image.id}",
        f"deleted {image.chain[0]}",
    ]
    assert house.is_empty()
    with pytest.raises(NotFound):
        house.store.resolve(str(image.id))


def test_removing_by_id(house: House) -> None:
    image = make(house, "a", "app")
    run(house.service.tag("app:1", "other", "2"))
    with pytest.raises(Conflict) as caught:
        house.remove(image.id.short)
    assert caught.value.message == (
        f"conflict: unable to delete {image.id.short} (must be forced)"
        " - image is referenced in multiple repositories"
    )
    house.remove("other:2")
    run(house.service.tag("app:1", "app", "2"))
    with pytest.raises(Conflict, match="multiple repositories"):
        house.remove(image.id.hex)
    assert house.remove(image.id.short, force=True)[:2] == ["untagged app:1", "untagged app:2"]
    assert house.is_empty()


def test_a_stopped_container_keeps_its_image_unless_forced(house: House) -> None:
    image = make(house, "a", "app")
    house.users.uses[image.id] = [STOPPED]
    house.users.chains += image.chain
    with pytest.raises(Conflict) as caught:
        house.remove("app:1")
    assert caught.value.message == (
        'conflict: unable to remove repository reference "app:1" (must force) - container'
        f" 475b82c6e733 is using its referenced image {image.id.short}"
    )
    with pytest.raises(Conflict) as caught:
        house.remove(image.id.short)
    assert caught.value.message == (
        f"conflict: unable to delete {image.id.short} (must be forced)"
        " - image is being used by stopped container 475b82c6e733"
    )
    assert house.remove("app:1", force=True) == ["untagged app:1", f"deleted {image.id}"]
    assert list(house.snapshots.layers()) == list(image.chain)  # the container still has its root
    house.users.chains.clear()
    run(house.service.let_go(image.id, image.chain))
    assert house.is_empty()


def test_a_removed_container_takes_no_layer_of_an_image_that_is_there(house: House) -> None:
    image = make(house, "a", "app")
    run(house.service.let_go(image.id, image.chain))
    assert list(house.snapshots.layers()) == list(image.chain)


def test_a_running_container_keeps_its_image_even_then(house: House) -> None:
    image = make(house, "a", "app")
    house.users.uses[image.id] = [RUNNING]
    assert house.remove("app:1", force=True) == ["untagged app:1"]
    with pytest.raises(Conflict) as caught:
        house.remove(image.id.short, force=True)
    assert caught.value.message == (
        f"conflict: unable to delete {image.id.short} (cannot be forced)"
        " - image is being used by running container 3078207dc80b"
    )


def test_children_keep_their_parent_and_take_it_along(house: House) -> None:
    base = make(house, "a", "base")
    child = child_of(house, base, "child")
    assert house.remove("base:1") == ["untagged base:1"]
    with pytest.raises(Conflict, match="cannot be forced.*dependent child images"):
        house.remove(base.id.short, force=True)
    assert house.store.get(child.id).parent == base.id
    assert house.remove("child:1") == [
        "untagged child:1",
        f"deleted {child.id}",
        f"deleted {child.chain[1]}",
        f"deleted {base.id}",
        f"deleted {base.chain[0]}",
    ]
    assert house.is_empty()


def test_without_prune_a_nameless_parent_stays(house: House) -> None:
    base = make(house, "a", "base")
    child_of(house, base, "child")
    house.remove("base:1")
    house.remove("child:1", prune=False)
    assert [image.id for image in house.store.images()] == [base.id]


def listed(house: House, *, everything: bool = False, **filters: str) -> list[str]:
    named = {
        key.replace("not_", "") + "!" * key.startswith("not_"): [value]
        for key, value in filters.items()
    }
    images = run(house.service.list(everything=everything, filters=named))
    return [image.names[0] if image.names else "<none>" for image in images]


def test_listing(house: House) -> None:
    base = make(house, "a", "base", kind="base")
    make(house, "b", "web/app", kind="app")
    make(house, "c")
    child_of(house, base, "child")
    house.remove("base:1")
    assert listed(house) == ["child:1", "<none>", "web/app:1"]
    assert listed(house, everything=True) == ["child:1", "<none>", "web/app:1", "<none>"]
    assert listed(house, dangling="true") == ["<none>"]
    assert listed(house, dangling="false") == ["child:1", "web/app:1"]
    assert listed(house, label="kind") == ["child:1", "web/app:1"]
    assert listed(house, label="kind=app") == ["web/app:1"]
    assert listed(house, not_label="kind") == ["<none>"]
    assert listed(house, reference="*") == ["child:1"]
    assert listed(house, reference="*/*") == ["web/app:1"]
    assert listed(house, reference="web/a[a-q]p:?") == ["web/app:1"]
    assert listed(house, before="child:1") == ["<none>", "web/app:1"]
    assert listed(house, since="web/app:1") == ["child:1", "<none>"]
    assert listed(house, until="1h") == []
    assert len(listed(house, until="0s")) == 3
    assert listed(house, until="2001-01-01") == []
    for wrong in ({"nosuch": "1"}, {"dangling": "perhaps"}, {"until": "soon"}):
        with pytest.raises(Invalid):
            run(house.service.list(everything=False, filters={k: [v] for k, v in wrong.items()}))
    with pytest.raises(NotFound):
        listed(house, before="nosuch")


def test_a_reference_filter_shows_only_the_names_that_match(house: House) -> None:
    make(house, "a", "one")
    run(house.service.tag("one:1", "two", "2"))
    (image,) = run(house.service.list(everything=False, filters={"reference": ["two"]}))
    assert image.names == ("two:2",)


def test_prune(house: House) -> None:
    used, named = make(house, "a"), make(house, "b", "kept", keep="yes")
    lost = make(house, "c")
    house.users.uses[used.id] = [STOPPED]
    deletions, space = run(house.service.prune({}))
    assert [line.deleted for line in deletions] == [str(lost.id), str(lost.chain[0])]
    assert space > 1000
    deletions, _ = run(house.service.prune({"dangling": ["false"], "label!": ["keep"]}))
    assert deletions == []
    deletions, _ = run(house.service.prune({"dangling": ["false"]}))
    assert deletions[0].untagged == "kept:1"
    assert [image.id for image in house.store.images()] == [used.id]
    assert named.id not in house.store.ids()
    with pytest.raises(Invalid):
        run(house.service.prune({"before": ["x"]}))


def test_prune_tells_each_image_once(house: House) -> None:
    base = make(house, "a", "base")
    child = child_of(house, base, "child")
    deletions, _ = run(house.service.prune({"dangling": ["false"]}))
    told = [line.deleted or line.untagged for line in deletions]
    assert len(told) == len(set(told)) == 6
    assert {str(base.id), str(child.id)} < set(told)
    assert house.is_empty()


def test_shared_layers_stay_while_one_image_has_them(house: House) -> None:
    base = make(house, "a", "base")
    child = child_of(house, base, "child")
    assert run(house.service.disk_usage()) == sum(layer.size for layer in child.layers)
    house.remove("child:1")
    assert list(house.snapshots.layers()) == [base.chain[0]]
    assert (house.snapshots.layer_path(base.chain[0]) / "file").read_bytes() == b"a"


def test_what_happened_is_told(house: House) -> None:
    image = make(house, "a", "app", team="x")
    house.remove("app:1")
    assert [(event.action, event.actor) for event in house.events] == [
        ("tag", str(image.id)),
        ("import", str(image.id)),
        ("untag", str(image.id)),
        ("delete", str(image.id)),
    ]
    assert house.events[0].attributes == (("name", "app:1"), ("team", "x"))
    assert house.events[3].attributes == (("name", str(image.id)),)


def test_counts(house: House) -> None:
    image = make(house, "a", "app")
    house.users.uses[image.id] = [STOPPED, RUNNING]
    assert run(house.service.container_counts()) == {str(image.id): 2}


def test_a_reopened_store_knows_everything(house: House) -> None:
    image = make(house, "a", "app", team="x")
    before = house.store.resolve("app:1")
    again = House(house.root)
    try:
        assert again.service.sweep().space == 0
        assert again.store.resolve("app:1") == before
        assert again.store.resolve("app:1").config == image.config
    finally:
        again.close()


def test_what_broken_pulls_left_counts_and_is_pruned(house: House) -> None:
    before = run(house.service.disk_usage())
    for number in range(2):
        fd = house.service.partials.open(Digest.of(bytes([number])))
        os.write(fd, b"12345")
        os.close(fd)
        if not number:
            os.utime(house.service.partials.path(Digest.of(b"\0")), (1000, 1000))
    assert run(house.service.disk_usage()) == before + 10
    assert run(house.service.prune({"label": ["x"]})) == ([], 0)
    assert run(house.service.prune({"until": ["2000"]})) == ([], 5)
    assert run(house.service.prune({})) == ([], 5)
    assert run(house.service.disk_usage()) == before
