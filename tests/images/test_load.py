"""Archives that come in: every layout, every compression, any order; and hostile ones."""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.images.archives import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    Sample,
    blob,
    descriptor,
    docker_files,
    index,
    oci_files,
    oci_image,
    sample,
)
from tests.images.house import House, symlink, tar
from wherry.images.config import host_platform
from wherry.model.errors import Invalid, NotFound
from wherry.model.ids import Digest
from wherry.model.images import Platform
from wherry.storage.layers import Entry, Kind
from wherry.storage.layers.compression import Compression, compressor

IMAGE = sample("one", "two")
HERE = {"os": "linux", "architecture": host_platform().architecture}
ELSEWHERE = {"os": "linux", "architecture": "s390x"}


def lines(house: House, archive: bytes) -> list[str]:
    return [line.stream.strip() for line in house.load(archive)]


def file_in(house: House, ref: str, layer: int, name: str) -> bytes:
    chain = house.store.resolve(ref).chain[layer]
    return (house.snapshots.layer_path(chain) / name).read_bytes()


def test_docker_archive(house: House) -> None:
    archive = tar(docker_files(IMAGE, "app:1", "web/app:2"))
    assert lines(house, archive) == ["Loaded image: app:1", "Loaded image: web/app:2"]
    image = house.store.resolve("app:1")
    assert image.id == IMAGE.id
    assert image.config.command == ("run",)
    assert image.names == ("app:1", "web/app:2")
    assert file_in(house, "app:1", 0, "one") == b"one"
    assert file_in(house, "app:1", 1, "two") == b"two"
    assert lines(house, archive) == ["Loaded image: app:1", "Loaded image: web/app:2"]


def test_a_nameless_image_is_told_by_id(house: House) -> None:
    assert lines(house, tar(docker_files(IMAGE))) == [f"Loaded image ID: {IMAGE.id}"]


def test_a_name_that_moves_is_told(house: House) -> None:
    house.load(tar(docker_files(IMAGE, "app:1")))
    other = sample("one", cmd="other")
    assert lines(house, tar(docker_files(other, "app:1"))) == [
        f"The image app:1 already exists, renaming the old one with ID {IMAGE.id} to empty string",
        "Loaded image: app:1",
    ]
    assert house.store.get(IMAGE.id).names == ()


@pytest.mark.parametrize("kind", list(Compression))
def test_compressed_archives(house: House, kind: Compression) -> None:
    pieces: list[bytes] = []
    encoder = compressor(kind, pieces.append)
    encoder.write(tar(docker_files(IMAGE, "app:1")))
    encoder.finish()
    assert lines(house, b"".join(pieces)) == ["Loaded image: app:1"]


@pytest.mark.parametrize("kind", list(Compression))
def test_compressed_layers(house: House, kind: Compression) -> None:
    files = docker_files(IMAGE, "app:1")
    for name in files:
        if name.endswith(".tar"):
            pieces: list[bytes] = []
            encoder = compressor(kind, pieces.append)
            encoder.write(files[name])
            encoder.finish()
            files[name] = b"".join(pieces)
    house.load(tar(files))
    assert house.store.resolve("app:1").id == IMAGE.id
    assert file_in(house, "app:1", 1, "two") == b"two"
    saved = house.save("app:1")
    house.remove("app:1")
    house.load(saved)
    assert file_in(house, "app:1", 1, "two") == b"two"


@pytest.mark.parametrize("seed", range(5))
def test_parts_in_any_order(house: House, seed: int) -> None:
    for files in (docker_files(IMAGE, "app:1"), oci_files(IMAGE, "oci/app:1")):
        names = list(files)
        random.Random(seed).shuffle(names)
        house.load(tar({name: files[name] for name in names}))
    assert house.store.resolve("app:1").id == house.store.resolve("oci/app:1").id == IMAGE.id


def test_oci_layout(house: House) -> None:
    files = oci_files(IMAGE, "app:1")
    assert lines(house, tar(files)) == ["Loaded image: app:1"]
    image = house.store.resolve("app:1")
    assert image.id == IMAGE.id
    assert image.manifest == Digest.of(oci_image(IMAGE)[0])
    assert image.layers[0].media_type == LAYER + "+gzip"


def test_oci_layout_with_a_bare_tag_or_no_name(house: House) -> None:
    for name in ("latest", ""):
        assert lines(house, tar(oci_files(IMAGE, name))) == [f"Loaded image ID: {IMAGE.id}"]


def test_an_index_of_platforms(house: House) -> None:
    """What `buildx` writes: one name, an index below, an attestation beside."""
    other = sample("other")
    manifest, blobs = oci_image(IMAGE)
    foreign, foreign_blobs = oci_image(other)
    inner = index(
        descriptor(MANIFEST, foreign, platform=ELSEWHERE),
        descriptor(MANIFEST, foreign, platform={"os": "unknown", "architecture": "unknown"}),
        descriptor(MANIFEST, manifest, platform=HERE),
    )
    name = {"annotations": {"io.containerd.image.name": "docker.io/web/app:9"}}
    outer = index(descriptor(INDEX, inner, **name))
    files = {"index.json": outer, blob(inner): inner, **blobs, **foreign_blobs}
    assert lines(house, tar(files)) == ["Loaded image: web/app:9"]
    assert house.store.ids() == [IMAGE.id]
    # What was not chosen is not kept: one manifest, one configuration, two layers.
    assert len(list(house.content.digests())) == 4


def test_platforms_side_by_side(house: House) -> None:
    foreign, foreign_blobs = oci_image(sample("other"))
    manifest, blobs = oci_image(IMAGE)
    top = index(
        descriptor(MANIFEST, foreign, platform=ELSEWHERE),
        descriptor(MANIFEST, manifest, platform=HERE),
    )
    house.load(tar({"index.json": top, **blobs, **foreign_blobs}))
    assert house.store.ids() == [IMAGE.id]


@pytest.mark.parametrize("named_by_index", [True, False])
def test_the_platform_that_is_asked_for(house: House, named_by_index: bool) -> None:
    other = replace(sample("other"), architecture="s390x")
    (foreign, foreign_blobs), (manifest, blobs) = oci_image(other), oci_image(IMAGE)
    words: list[dict[str, Any]] = [{"platform": HERE}, {"platform": ELSEWHERE}]
    if not named_by_index:
        words = [{}, {}]
    top = index(
        descriptor(MANIFEST, manifest, **words[0]), descriptor(MANIFEST, foreign, **words[1])
    )
    # As containerd writes it: manifest.json has this machine's image alone.
    files = {"index.json": top, **blobs, **foreign_blobs, **docker_files(IMAGE)}
    house.load(tar(files), platform=Platform("linux", "s390x"))
    assert house.store.ids() == [other.id]


def test_no_image_for_the_platform(house: House) -> None:
    wanted = Platform("linux", "s390x")
    for files in (docker_files(IMAGE, "app:1"), oci_files(IMAGE, "app:1")):
        with pytest.raises(Invalid, match="no image for linux/s390x"):
            house.load(tar(files), platform=wanted)
    assert house.store.ids() == []
    house.load(tar(docker_files(IMAGE, "app:1")), platform=host_platform())
    assert house.store.ids() == [IMAGE.id]


def test_several_images_share_layers(house: House) -> None:
    first, second = sample("base", "a"), sample("base", "b")
    (one,), (two,) = (
        json.loads(docker_files(image, tag)["manifest.json"])
        for image, tag in ((first, "a:1"), (second, "b:1"))
    )
    files = docker_files(first) | docker_files(second)
    files["manifest.json"] = json.dumps([one, two]).encode()
    assert lines(house, tar(files)) == ["Loaded image: a:1", "Loaded image: b:1"]
    assert len(list(house.snapshots.layers())) == 3


def test_links_between_layers(house: House) -> None:
    """Docker before 25 wrote a folder a layer, and a link where two layers are the same."""
    layer = tar({"same": b"x"})
    image = Sample([layer, layer])
    first, second = "a" * 64, "b" * 64
    files: dict[str, bytes | Entry] = {
        f"{second}/layer.tar": symlink(f"{second}/layer.tar", f"../{first}/layer.tar"),
        f"{first}/": b"",
        f"./{first}/layer.tar": layer,
        f"{first}/VERSION": b"1.0",
        f"{image.id.hex}.json": image.config,
        "manifest.json": json.dumps(
            [
                {
                    "Config": f"{image.id.hex}.json",
                    "RepoTags": ["app:1"],
                    "Layers": [f"{first}/layer.tar", f"{second}/layer.tar"],
                }
            ]
        ).encode(),
    }
    house.load(tar(files))
    assert house.store.resolve("app:1").id == image.id


def legacy_files() -> dict[str, bytes]:
    base, top = "a" * 64, "b" * 64
    described = {
        base: {
            "id": base,
            "created": "2014-01-01T00:00:00Z",
            "container_config": {"Cmd": ["/bin/sh"]},
        },
        top: {
            "id": top,
            "parent": base,
            "created": "2014-01-02T00:00:00Z",
            "config": {"Cmd": ["old"]},
            "os": "linux",
            "architecture": "amd64",
        },
    }
    files = {"repositories": json.dumps({"old/app": {"1": top}}).encode()}
    for name, facts in described.items():
        files[f"{name}/json"] = json.dumps(facts).encode()
        files[f"{name}/layer.tar"] = tar({name[0]: name.encode()})
    return files


def test_an_archive_of_the_first_specification(house: House) -> None:
    assert lines(house, tar(legacy_files())) == ["Loaded image: old/app:1"]
    image = house.store.resolve("old/app:1")
    assert image.config.command == ("old",)
    assert len(image.layers) == 2
    assert image.history[0].created_by == "/bin/sh"
    house.remove("old/app:1")
    house.load(tar(legacy_files()))
    assert house.store.resolve("old/app:1").id == image.id


# Hostile archives: each is refused with a message that names the part, and nothing is left.

BIG = random.Random(1).randbytes(400_000)


def test_large_layers_of_a_refused_archive_are_gone(house: House) -> None:
    files = docker_files(Sample([tar({"big": BIG})]), "app:1")
    files["manifest.json"] = b"["
    with pytest.raises(Invalid):
        house.load(tar(files))
    assert house.is_empty()


def broken(name: str) -> dict[str, bytes | Entry]:
    files: dict[str, bytes | Entry] = dict(docker_files(Sample([tar({"big": BIG})]), "app:1"))
    layer = next(key for key in files if key.endswith(".tar"))
    config = next(key for key in files if key.endswith(".json") and key != "manifest.json")
    manifest = json.loads(bytes(files["manifest.json"]))  # type: ignore[arg-type]
    match name:
        case "no manifest":
            del files["manifest.json"]
        case "manifest that is no JSON":
            files["manifest.json"] = b"{"
        case "manifest of another shape":
            files["manifest.json"] = b'{"Config": 1}'
        case "bad tag":
            manifest[0]["RepoTags"] = ["Upper:1"]
            files["manifest.json"] = json.dumps(manifest).encode()
        case "tag with a digest":
            manifest[0]["RepoTags"] = ["a@sha256:" + "0" * 64]
            files["manifest.json"] = json.dumps(manifest).encode()
        case "missing layer":
            del files[layer]
        case "missing configuration":
            del files[config]
        case "wrong layer":
            files[layer] = tar({"other": b"x"})
        case "layer that is no archive":
            files[layer] = b"junk" * 1000
        case "wrong configuration":
            files[config] = IMAGE.config
        case "too few layers":
            manifest[0]["Layers"] = []
            files["manifest.json"] = json.dumps(manifest).encode()
        case "absolute name":
            files["/etc/passwd"] = b"x"
        case "name upwards":
            files["a/../../etc/passwd"] = b"x"
        case "configuration outside":
            manifest[0]["Config"] = "../../../etc/passwd"
            files["manifest.json"] = json.dumps(manifest).encode()
        case "layer that is a link outside":
            files[layer] = symlink(layer, "../../../../../../etc/passwd")
        case "layer that is an absolute link":
            files[layer] = symlink(layer, "/etc/passwd")
        case "layer that is a hard link outside":
            files[layer] = Entry(layer.encode(), Kind.HARDLINK, link=b"/etc/passwd")
        case "link to itself":
            files[layer] = symlink(layer, layer)
        case "device":
            files["dev"] = Entry(b"dev", Kind.CHAR, major=1, minor=3)
        case "blob with a wrong digest":
            files["blobs/sha256/" + "0" * 64] = b"x"
        case "name that is not UTF-8":
            files["odd"] = Entry(b"\xff", Kind.FILE)
        case _:
            raise AssertionError(name)
    return files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no manifest", "neither manifest.json nor index.json"),
        ("manifest that is no JSON", "invalid manifest.json"),
        ("manifest of another shape", "invalid manifest.json"),
        ("bad tag", "lowercase"),
        ("tag with a digest", "RepoTags"),
        ("missing layer", r"has no \w+\.tar"),
        ("missing configuration", r"has no \w+\.json"),
        ("wrong layer", "layer sha256:.*its content is sha256:"),
        ("layer that is no archive", "layer sha256:"),
        ("wrong configuration", "wrong digest"),
        ("too few layers", "lists 0 layers"),
        ("absolute name", "'/etc/passwd'.*leads out"),
        ("name upwards", r"etc/passwd'.*leads out"),
        ("configuration outside", r"has no \.\./\.\./\.\./etc/passwd"),
        ("layer that is a link outside", "leads out"),
        ("layer that is an absolute link", "leads out"),
        ("layer that is a hard link outside", "leads out"),
        ("link to itself", "too many links"),
        ("device", "'dev'.*device"),
        ("blob with a wrong digest", "wrong digest: its content is"),
        ("name that is not UTF-8", "not UTF-8"),
    ],
)
def test_hostile_docker_archives(house: House, name: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        house.load(tar(broken(name)))
    assert house.is_empty()
    assert house.store.images() == []


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_a_compressed_layer_that_is_another(house: House, kind: Compression) -> None:
    files = docker_files(IMAGE, "app:1")
    layer = next(name for name in files if name.endswith(".tar"))
    pieces: list[bytes] = []
    encoder = compressor(kind, pieces.append)
    encoder.write(tar({"other": b"x"}))
    encoder.finish()
    with pytest.raises(Invalid, match="layer sha256:.*its content is sha256:"):
        house.load(tar(files | {layer: b"".join(pieces)}))
    with pytest.raises(Invalid, match="layer sha256:"):
        house.load(tar(files | {layer: b"".join(pieces)[:-6]}))
    assert house.is_empty()


def test_a_file_there_twice(house: House) -> None:
    files = docker_files(IMAGE, "app:1")
    twice = tar(files)[:-1024] + tar({"manifest.json": b"[]"})
    with pytest.raises(Invalid, match=r"'manifest\.json'.*twice"):
        house.load(twice)
    house.load(tar(files)[:-1024] + tar(files))
    assert house.names() == ["app:1"]


def test_cut_short(house: House) -> None:
    archive = tar(docker_files(Sample([tar({"big": BIG})]), "app:1"))
    for length in (0, 5, 511, 1000, 100_000, len(archive) // 2):
        with pytest.raises(Invalid):
            house.load(archive[:length])
        assert house.is_empty()


def test_ten_gigabytes_declared_in_ten_kilobytes(house: House) -> None:
    header = tar({"x": b""})[:512]
    size = b"%011o" % (10 << 30)
    forged = bytearray(header[:124] + size + b"\0" + header[136:])
    forged[148:156] = b" " * 8
    forged[148:156] = b"%06o\0 " % sum(forged)
    with pytest.raises(Invalid):
        house.load(bytes(forged) + b"x" * 10_000)
    assert house.is_empty()


def test_a_configuration_of_a_hundred_megabytes(house: House) -> None:
    files = docker_files(IMAGE, "app:1")
    files[f"{IMAGE.id.hex}.json"] = b" " * (5 << 20)
    with pytest.raises(Invalid, match="more than"):
        house.load(tar(files))
    assert house.is_empty()


def oci_broken(name: str) -> dict[str, bytes]:
    manifest, blobs = oci_image(IMAGE)
    layer = blob(IMAGE.layers[0])
    match name:
        case "circle":
            # No index can hold its own digest: a wrong one is what a circle has to use.
            loop = index({"mediaType": INDEX, "digest": "sha256:" + "1" * 64, "size": 1})
            return {"index.json": loop, "blobs/sha256/" + "1" * 64: loop}
        case "too deep":
            below, files = index(descriptor(MANIFEST, manifest)), dict(blobs)
            for _ in range(10):
                files[blob(below)] = below
                below = index(descriptor(INDEX, below))
            return {"index.json": below, **files}
        case "size that differs":
            entry = descriptor(MANIFEST, manifest) | {"size": 1}
            return {"index.json": index(entry), **blobs}
        case "layer of another size":
            size = f'"size": {len(blobs[next(iter(blobs))])}'.encode()
            manifest = manifest.replace(size, b'"size": 7')
            blobs[blob(manifest)] = manifest
        case "other platform":
            entry = descriptor(MANIFEST, manifest, platform=ELSEWHERE)
            return {"index.json": index(entry), **blobs}
        case "missing manifest":
            del blobs[blob(manifest)]
        case "artifact":
            manifest = manifest.replace(CONFIG.encode(), b"application/vnd.other+json")
            blobs[blob(manifest)] = manifest
        case "odd layers":
            manifest = manifest.replace(LAYER.encode(), b"text/html")
            blobs[blob(manifest)] = manifest
        case "old schema":
            manifest = manifest.replace(b'"schemaVersion": 2', b'"schemaVersion": 1')
            blobs[blob(manifest)] = manifest
        case "huge size":
            entry = descriptor(MANIFEST, manifest) | {"size": 1 << 62}
            return {"index.json": index(entry), **blobs}
        case _:
            raise AssertionError(name)
    assert layer
    return {"index.json": index(descriptor(MANIFEST, manifest)), **blobs}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("circle", "wrong digest"),
        ("too deep", "circles or too deep"),
        ("size that differs", "descriptor says 1"),
        ("layer of another size", "layer sha256:.* descriptor says 7"),
        ("other platform", f"no image for linux/{HERE['architecture']}"),
        ("missing manifest", "has no blobs/sha256"),
        ("artifact", "unsupported media type"),
        ("odd layers", "not a layer archive"),
        ("old schema", "version 1"),
        ("huge size", "invalid image index"),
    ],
)
def test_hostile_layouts(house: House, name: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        house.load(tar(oci_broken(name)))
    assert house.is_empty()


def test_legacy_parents_in_a_circle(house: House) -> None:
    files = legacy_files()
    base, top = "a" * 64, "b" * 64
    files[f"{base}/json"] = json.dumps({"id": base, "parent": top}).encode()
    with pytest.raises(Invalid, match="circles"):
        house.load(tar(files))
    files[f"{base}/json"] = json.dumps({"id": base, "parent": "../../etc"}).encode()
    with pytest.raises(Invalid, match="layer id"):
        house.load(tar(files))
    assert house.is_empty()


def test_nothing_of_an_archive_is_kept_when_its_second_image_is_bad(house: House) -> None:
    files = docker_files(IMAGE, "app:1")
    manifest = json.loads(files["manifest.json"])
    manifest.append(manifest[0] | {"Layers": ["nosuch.tar"]})
    files["manifest.json"] = json.dumps(manifest).encode()
    with pytest.raises(Invalid):
        house.load(tar(files))
    assert house.is_empty()


def test_a_bad_archive_does_not_hurt_what_is_there(house: House) -> None:
    house.load(tar(docker_files(IMAGE, "app:1")))
    files = docker_files(sample("one", "three"), "app:1")
    files["manifest.json"] = files["manifest.json"].replace(b"]}]", b', "x"]}]')
    with pytest.raises(Invalid):
        house.load(tar(files))
    assert house.store.resolve("app:1").id == IMAGE.id
    assert file_in(house, "app:1", 0, "one") == b"one"


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_skopeo_reads_ours_and_we_read_skopeos(house: House, tmp_path: Path, form: str) -> None:
    house.load(tar(oci_files(IMAGE, "app:1")))
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    ours.write_bytes(house.save("app:1", form=form))
    source = f"docker-archive:{ours}:app:1" if form == "docker" else f"oci-archive:{ours}:1"
    # Same kinds, so that skopeo rewrites nothing and the image id must stay.
    target = "docker-archive" if form == "docker" else "oci-archive"
    subprocess.run(
        ["skopeo", "copy", "--quiet", source, f"{target}:{theirs}:new/app:2"],
        check=True,
        timeout=60,
    )
    house.remove("app:1")
    with pytest.raises(NotFound):
        house.store.resolve("app:1")
    assert lines(house, theirs.read_bytes()) == ["Loaded image: new/app:2"]
    assert house.store.resolve("new/app:2").id == IMAGE.id
