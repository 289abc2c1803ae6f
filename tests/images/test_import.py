"""`docker import`, and images made of a base and one more layer."""

from __future__ import annotations

import gzip

import pytest

from tests.images.house import House, run, tar
from wherry.images.making import NewImage
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.model.images import ImageConfig

ROOT = tar({"bin/": b"", "bin/run": b"#!", "etc/": b"", "etc/name": b"value"})


def test_an_archive_becomes_an_image(house: House) -> None:
    image = house.import_tar(
        ROOT, "web/app", "1", ['CMD ["/bin/run"]', "ENV A=1", "LABEL who=me"], "a message"
    )
    assert image.names == ("web/app:1",)
    assert image.config == ImageConfig(command=("/bin/run",), env=("A=1",), labels=(("who", "me"),))
    assert image.comment == image.history[0].comment == "a message"
    assert image.layers[0].diff_id == image.layers[0].blob == Digest.of(ROOT)
    layer = house.snapshots.layer_path(image.chain[0])
    assert (layer / "etc/name").read_bytes() == b"value"
    assert image.size == 7


def test_without_a_name_or_message(house: House) -> None:
    image = house.import_tar(gzip.compress(ROOT))
    assert image.names == ()
    assert image.comment == "Imported from -"
    assert image.layers[0].diff_id == Digest.of(ROOT)


def test_an_empty_archive_is_an_empty_layer(house: House) -> None:
    assert house.import_tar(b"", "app", "1").layers[0].diff_id == Digest.of(b"\0" * 1024)


@pytest.mark.parametrize(
    "data", [b"junk\n", b"x" * 5000, ROOT[:700], gzip.compress(ROOT, mtime=0)[:60]]
)
def test_what_is_no_archive(house: House, data: bytes) -> None:
    with pytest.raises(Invalid):
        house.import_tar(data, "app", "1")
    assert house.is_empty()
    assert house.names() == []


def test_bad_options_are_refused_before_the_body_is_read(house: House) -> None:
    for name, changes in (("Bad", []), ("app", ["FROM x"]), ("a b", [])):
        with pytest.raises(Invalid):
            house.import_tar(ROOT, name, "1", changes)
    assert house.is_empty()


def test_commit(house: House) -> None:
    base = house.import_tar(ROOT, "base", "1", ["USER me"])
    new = NewImage(
        config=base.config,
        author="me",
        comment="second",
        created_by="sh",
        reference=Reference.parse("child:1"),
        container="c" * 64,
    )
    child = run(house.service.make(base, lambda out: tar({"etc/.wh.name": b""}, out), new))
    assert child.parent == base.id
    assert child.names == ("child:1",)
    assert child.author == "me"
    assert [entry.comment for entry in child.history] == ["Imported from -", "second"]
    assert child.chain[0] == base.chain[0]
    whiteout = house.snapshots.layer_path(child.chain[1]) / "etc/name"
    assert whiteout.is_char_device()
    # A configuration alone: no layer more, and the history says so.
    third = run(house.service.make(child, None, NewImage(ImageConfig(user="you"))))
    assert third.chain == child.chain
    assert third.history[-1].empty_layer
    assert third.config.user == "you"


def test_a_failed_commit_leaves_nothing(house: House) -> None:
    base = house.import_tar(ROOT, "base", "1")
    before = sorted(house.content.digests())

    def fails(out: object) -> None:
        tar({"half": b"x" * 100_000}, out)  # type: ignore[arg-type]
        raise OSError("the container went away")

    with pytest.raises(OSError, match="went away"):
        run(house.service.make(base, fails, NewImage(base.config)))
    assert sorted(house.content.digests()) == before
    assert not list((house.root / "ingest").iterdir())


def test_the_same_image_twice_is_one(house: House) -> None:
    new = NewImage(ImageConfig(), created="2020-01-01T00:00:00Z", reference=Reference.parse("a:1"))
    first = run(house.service.make(None, lambda out: out(ROOT), new))
    again = run(house.service.make(None, lambda out: out(ROOT), new))
    assert first.id == again.id
    assert len(list(house.content.digests())) == 3
