"""Archives that go out: what Docker 28.5 writes, deterministic, and whole again when they come back."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from tests.images.archives import Sample, docker_files, oci_files, oci_image, sample
from tests.images.house import House, run, tar
from wherry.model.errors import Internal, Invalid, NotFound
from wherry.model.ids import Digest
from wherry.storage.layers.compression import Compression, sniff


def files_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            member.name: opened.extractfile(member).read()  # type: ignore[union-attr]
            for member in opened
            if member.isfile()
        }


IMAGE = sample("one", "two")
TOP = Digest.of(IMAGE.layers[1]).hex


def test_the_docker_form(house: House) -> None:
    """The JSON texts were compared with those of `docker save` 28.5.2 for the same images."""
    house.load(tar(docker_files(IMAGE, "app:1", "web/app:2")))
    files = files_of(house.save("app:1", "web/app:2"))
    assert list(files)[-4:] == ["index.json", "manifest.json", "oci-layout", "repositories"]
    blobs = [name for name in files if name.startswith("blobs/sha256/")]
    assert blobs == sorted(blobs) and len(blobs) == 4
    assert all(Digest.of(files[name]).hex == name.rpartition("/")[2] for name in blobs)
    first, second = (Digest.of(layer) for layer in IMAGE.layers)
    size = len(IMAGE.layers[0])
    source = (
        '"{0}":{{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":{1},"digest":"{0}"}}'
    )
    sources = ",".join(source.format(digest, size) for digest in sorted((first, second), key=str))
    assert files["manifest.json"].decode() == (
        f'[{{"Config":"blobs/sha256/{IMAGE.id.hex}","RepoTags":["app:1","web/app:2"],'
        f'"Layers":["blobs/sha256/{first.hex}","blobs/sha256/{second.hex}"],'
        f'"LayerSources":{{{sources}}}}}]\n'
    )
    assert files["repositories"].decode() == (
        f'{{"app":{{"1":"{TOP}"}},"web/app":{{"2":"{TOP}"}}}}\n'
    )
    assert files["oci-layout"] == b'{"imageLayoutVersion": "1.0.0"}'
    index = json.loads(files["index.json"])
    assert [entry["annotations"] for entry in index["manifests"]] == [
        {
            "io.containerd.image.name": "docker.io/library/app:1",
            "org.opencontainers.image.ref.name": "1",
        },
        {
            "io.containerd.image.name": "docker.io/web/app:2",
            "org.opencontainers.image.ref.name": "2",
        },
    ]
    manifest = json.loads(files["blobs/sha256/" + index["manifests"][0]["digest"][7:]])
    assert [layer["digest"] for layer in manifest["layers"]] == [str(first), str(second)]


def test_which_names_go_along(house: House) -> None:
    house.load(tar(docker_files(IMAGE, "app:1", "app:2", "other:1")))

    def tags(*refs: str) -> object:
        return json.loads(files_of(house.save(*refs))["manifest.json"])[0]["RepoTags"]

    assert tags("app:1") == ["app:1"]
    assert tags("app") == ["app:1", "app:2"]
    assert tags(IMAGE.id.short) is None
    assert tags(str(IMAGE.id), "other:1", "other:1") == ["other:1"]
    assert "repositories" not in files_of(house.save(str(IMAGE.id)))


def test_a_parent_is_named_when_it_goes_along(house: House) -> None:
    house.load(tar(docker_files(sample("one"), "base:1")))
    base = house.store.resolve("base:1")
    from wherry.images.making import NewImage

    child = house.service.maker.make(
        base, lambda out: tar({"new": b""}, out) and None, NewImage(base.config)
    )
    run(house.service.tag(str(child.id), "child", "1"))
    items = json.loads(files_of(house.save("base:1", "child:1"))["manifest.json"])
    assert "Parent" not in items[0]
    assert items[1]["Parent"] == str(base.id)
    assert "Parent" not in json.loads(files_of(house.save("child:1"))["manifest.json"])[0]
    archive = house.save("base:1", "child:1")
    house.remove("child:1")
    house.load(archive)
    assert house.store.resolve("child:1").parent == base.id


def test_shared_layers_are_written_once(house: House) -> None:
    for image, tag in ((sample("base", "a"), "a:1"), (sample("base", "b"), "b:1")):
        house.load(tar(docker_files(image, tag)))
    files = files_of(house.save("a:1", "b:1"))
    shared = "blobs/sha256/" + Digest.of(sample("base").layers[0]).hex
    assert list(files).count(shared) == 1
    assert len(json.loads(files["manifest.json"])) == 2


@pytest.mark.parametrize("form", ["docker", "oci"])
@pytest.mark.parametrize("compression", ["", "none", "gzip", "zstd"])
def test_there_and_back(house: House, form: str, compression: str) -> None:
    house.load(tar(oci_files(IMAGE, "app:1")))
    archive = house.save("app:1", form=form, compression=compression)
    assert archive == house.save("app:1", form=form, compression=compression)
    assert sniff(archive) is Compression("" if compression == "none" else compression)
    house.remove("app:1")
    assert house.is_empty()
    house.load(archive)
    assert house.store.resolve("app:1").id == IMAGE.id


def test_the_oci_form_keeps_manifest_and_blobs_as_they_came(house: House) -> None:
    manifest, blobs = oci_image(IMAGE)
    house.load(tar(oci_files(IMAGE, "app:1")))
    files = files_of(house.save("app:1", form="oci"))
    assert {name: files[name] for name in blobs} == blobs
    assert "manifest.json" not in files
    assert json.loads(files["index.json"])["manifests"][0]["digest"] == str(Digest.of(manifest))


def test_what_cannot_be_saved(house: House) -> None:
    house.load(tar(docker_files(IMAGE, "app:1")))
    with pytest.raises(NotFound, match="No such image: nosuch"):
        house.save("app:1", "nosuch")
    with pytest.raises(Invalid, match="no images"):
        house.save()
    for form, compression in (("tar", ""), ("docker", "lzma")):
        with pytest.raises(Invalid, match="cannot save"):
            house.save("app:1", form=form, compression=compression)


def test_a_damaged_blob_is_told_and_not_given_out(house: House) -> None:
    image = Sample([tar({"x": b"y" * 10_000})])
    house.load(tar(oci_files(image, "app:1")))
    blob = house.store.resolve("app:1").layers[0].blob
    import gzip

    house.content.path(blob).write_bytes(gzip.compress(tar({"x": b"z" * 10_000})))
    with pytest.raises(Internal, match="holds sha256:"):
        house.save("app:1")
