"""Outputs: what comes of them can be loaded, unpacked, read; every digest in them is that of a blob."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.build.copies import FolderTree
from tests.images.house import House
from wherry.build.annotations import parse_annotations
from wherry.build.destinations import check_outputs, is_stored, is_written
from wherry.build.files import BuiltImage, Export
from wherry.build.outputs import Outputs, Packing, names
from wherry.build.statements import Attestation
from wherry.images.archive.save import Chosen
from wherry.images.config import Configuration, encode_config
from wherry.images.places import Places
from wherry.images.store import StoredLayer
from wherry.model.build import BuildRequest, OutputRef
from wherry.model.errors import Invalid, Unsupported
from wherry.model.ids import Digest
from wherry.model.images import Image, ImageConfig, Layer, Platform
from wherry.registry.media import OCI_LAYER

OCI = OutputRef("oci", (("dest", "x"),))
ARM = Platform("linux", "arm64")
HOST = Platform("linux", "amd64")


class Said:
    """Stands for what writes Docker's archives."""

    def __init__(self) -> None:
        self.saved: list[object] = []

    def save(
        self,
        chosen: Sequence[Chosen],
        out: Callable[[bytes], object],
        *,
        form: str,
        compression: str,
    ) -> None:
        out(b"archive")
        self.saved = [form, compression, [str(name) for name in chosen[0].references]]


class Desk:
    """Outputs over stores of one folder."""

    def __init__(self, root: Path) -> None:
        self.house = House(root / "house")
        self.said = Said()
        self.root = root / "root"
        self.root.mkdir()
        packing = Packing(self.house.service.intakes, Places(self.house.database))
        self._outputs = Outputs(self.said, packing, self.house.content)

    def image(
        self, platform: Platform = HOST, *attestations: Attestation, layer: bytes = b"layer"
    ) -> BuiltImage:
        digest = self.house.content.put(layer)
        stored = StoredLayer(
            Layer(digest, digest, digest, OCI_LAYER, len(layer), len(layer)), len(layer)
        )
        config = encode_config(Configuration(ImageConfig(), (digest,), platform))
        identifier = Digest.of(config)
        image = Image(identifier, identifier, ImageConfig(), (stored.layer,), platform=platform)
        return BuiltImage(image, config, (stored,), FolderTree(self.root), attestations)

    def tar(self, request: BuildRequest, output: OutputRef, *images: BuiltImage) -> bytes:
        out = io.BytesIO()
        self._outputs.write(Export(request, output, images), out.write)
        return out.getvalue()

    def files(
        self, request: BuildRequest, output: OutputRef, *images: BuiltImage
    ) -> dict[str, bytes]:
        with tarfile.open(fileobj=io.BytesIO(self.tar(request, output, *images))) as tar:
            return {
                item.name: (tar.extractfile(item) or io.BytesIO()).read()
                for item in tar
                if item.isfile()
            }


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.house.close()


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """Return the blob that a descriptor points at, which has its digest and its size."""
    data = files[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
    assert (str(Digest.of(data)), len(data)) == (descriptor["digest"], descriptor["size"])
    return data


PROVENANCE = Attestation("https://slsa.dev/provenance/v0.2", {"builder": 1}, "provenance.json")


@pytest.mark.parametrize("kind", ["local", "tar"])
def test_the_files(desk: Desk, kind: str) -> None:
    (desk.root / "d").mkdir()
    (desk.root / "d/f").write_text("1")
    (desk.root / "d/.wh.f").write_text("2")
    data = desk.tar(BuildRequest(b"", source_date_epoch=7), OutputRef(kind), desk.image())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(item.name, item.mtime) for item in tar] == [("d", 7), ("d/.wh.f", 7), ("d/f", 7)]


def test_files_of_several_platforms_and_their_attestations(desk: Desk) -> None:
    (desk.root / "f").write_text("1")
    images = [desk.image(Platform(), PROVENANCE), desk.image(ARM)]
    files = desk.files(BuildRequest(b""), OutputRef("local"), *images)
    assert sorted(files) == ["linux_amd64/f", "linux_amd64/provenance.json", "linux_arm64/f"]
    said = json.loads(files["linux_amd64/provenance.json"])
    assert said["subject"] == [{"name": "f", "digest": {"sha256": Digest.of(b"1").hex}}]
    assert said["predicateType"].endswith("provenance/v0.2") and said["predicate"] == {"builder": 1}
    split = OutputRef("tar", (("platform-split", "true"), ("attestation-prefix", "a-")))
    assert sorted(desk.files(BuildRequest(b""), split, images[0])) == [
        "linux_amd64/a-provenance.json",
        "linux_amd64/f",
    ]
    with pytest.raises(Invalid, match="split option is disabled"):
        unsplit = OutputRef("tar", (("platform-split", "false"),))
        desk.files(BuildRequest(b""), unsplit, *images)


def test_one_image_as_oci(desk: Desk) -> None:
    request = BuildRequest(
        b"", tags=("x:1", "y"), annotations=(("a", "1"), ("manifest-descriptor:d", "2"))
    )
    files = desk.files(request, OCI, desk.image())
    index = json.loads(files["index.json"])
    assert [one["annotations"] for one in index["manifests"]] == [
        {
            "d": "2",
            "io.containerd.image.name": f"docker.io/library/{name}",
            "org.opencontainers.image.ref.name": name.partition(":")[2],
        }
        for name in ("x:1", "y:latest")
    ]
    assert index["manifests"][0]["platform"] == {"architecture": "amd64", "os": "linux"}
    manifest = json.loads(blob(files, index["manifests"][0]))
    assert manifest["annotations"] == {"a": "1"}
    blob(files, manifest["config"])
    assert manifest["layers"][0]["mediaType"].endswith("tar+gzip")
    blob(files, manifest["layers"][0])
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert desk.tar(request, OCI, desk.image()) == desk.tar(request, OCI, desk.image())


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"compression": "uncompressed"}, "vnd.oci.image.layer.v1.tar"),
        ({"compression": "zstd", "compression-level": "3"}, "vnd.oci.image.layer.v1.tar+zstd"),
        ({"oci-mediatypes": "false"}, "vnd.docker.image.rootfs.diff.tar.gzip"),
    ],
)
def test_forms_of_layers(desk: Desk, attributes: dict[str, str], wanted: str) -> None:
    files = desk.files(BuildRequest(b""), OutputRef("oci", tuple(attributes.items())), desk.image())
    manifest = json.loads(blob(files, json.loads(files["index.json"])["manifests"][0]))
    assert manifest["layers"][0]["mediaType"] == f"application/{wanted}"
    blob(files, manifest["layers"][0])


def test_an_index_of_platforms_and_attestations(desk: Desk) -> None:
    request = BuildRequest(
        b"",
        tags=("localhost:5000/a/x:1",),
        annotations=(
            ("index:i", "1"),
            ("manifest[linux/arm64]:m", "2"),
            ("index-descriptor:d", "3"),
        ),
    )
    images = [desk.image(Platform(), PROVENANCE), desk.image(ARM, PROVENANCE, layer=b"other")]
    files = desk.files(request, OCI, *images)
    (root,) = json.loads(files["index.json"])["manifests"]
    assert root["annotations"]["d"] == "3"
    index = json.loads(blob(files, root))
    assert index["annotations"] == {"i": "1"}
    amd, arm, *attested = index["manifests"]
    assert arm["platform"] == {"architecture": "arm64", "os": "linux"}
    assert "annotations" not in json.loads(blob(files, amd))
    assert json.loads(blob(files, arm))["annotations"] == {"m": "2"}
    for one, about, platform in zip(attested, (amd, arm), ("amd64", "arm64"), strict=True):
        assert one["platform"] == {"architecture": "unknown", "os": "unknown"}
        assert one["annotations"] == {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about["digest"],
        }
        manifest = json.loads(blob(files, one))
        (layer,) = manifest["layers"]
        assert layer["mediaType"] == "application/vnd.in-toto+json"
        assert layer["annotations"] == {
            "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"
        }
        config = json.loads(blob(files, manifest["config"]))
        assert config["rootfs"]["diff_ids"] == [layer["digest"]]
        said = json.loads(blob(files, layer))
        assert said["_type"] == "https://in-toto.io/Statement/v0.1"
        assert said["subject"] == [
            {
                "name": f"pkg:docker/localhost:5000/a/x@1?platform=linux%2F{platform}",
                "digest": {"sha256": about["digest"].removeprefix("sha256:")},
            }
        ]


def test_docker_archives(desk: Desk) -> None:
    request = BuildRequest(b"", tags=("x:1",))
    output = OutputRef("docker", (("compression", "zstd"), ("dest", "x"), ("name", "z, w:2")))
    assert desk.tar(request, output, desk.image()) == b"archive"
    assert desk.said.saved == [
        "docker",
        "zstd",
        ["docker.io/library/z:latest", "docker.io/library/w:2"],
    ]
    assert [str(n) for n in names(request, OutputRef("docker"))] == ["docker.io/library/x:1"]


@pytest.mark.parametrize(
    "output",
    [
        OutputRef("image"),
        OutputRef("oci", (("compression", "lzma"),)),
        OutputRef("oci", (("compression-level", "high"),)),
        OutputRef("docker", (("name", "U p"),)),
    ],
)
def test_what_is_refused(desk: Desk, output: OutputRef) -> None:
    with pytest.raises(Invalid):
        desk.tar(BuildRequest(b""), output, desk.image())


def test_an_archive_of_docker_holds_no_list(desk: Desk) -> None:
    for images in ([desk.image(), desk.image(ARM)], [desk.image(Platform(), PROVENANCE)]):
        with pytest.raises(Invalid, match="manifest lists"):
            desk.tar(BuildRequest(b""), OutputRef("docker"), *images)


# -- what goes where ------------------------------------------------------------------------------


def test_annotations() -> None:
    found = parse_annotations(
        [("a", "1"), ("index,manifest[linux/arm64]:b.c:d", "2")],
        [("annotation-index-descriptor.x", "3"), ("annotation.y", "4"), ("name", "n")],
    )
    assert [(one.level, one.name, one.value, one.platform) for one in found] == [
        ("manifest", "a", "1", None),
        ("index", "b.c:d", "2", None),
        ("manifest", "b.c:d", "2", ARM),
        ("index-descriptor", "x", "3", None),
        ("manifest", "y", "4", None),
    ]
    with pytest.raises(Invalid, match='unknown annotation type "nope"'):
        parse_annotations([("nope:a", "b")])


def outputs(*kinds: str) -> tuple[OutputRef, ...]:
    """`kind` or `kind>dest`, `kind+push`."""
    made: list[OutputRef] = []
    for text in kinds:
        kind, arrow, dest = text.removesuffix("+push").partition(">")
        pairs = (("dest", dest),) if arrow else ()
        made.append(OutputRef(kind, (*pairs, ("push", "true")) if "+push" in text else pairs))
    return tuple(made)


@pytest.mark.parametrize(
    ("kinds", "stored", "written"),
    [
        ((), True, 0),
        (("image",), True, 0),
        (("docker",), True, 0),
        (("registry",), True, 1),
        (("image+push",), True, 1),
        (("docker>f",), False, 1),
        (("local>d", "oci>f"), False, 2),
        (("local>d", "image"), True, 1),
        (("cacheonly",), False, 0),
    ],
)
def test_what_enters_the_store(kinds: tuple[str, ...], stored: bool, written: int) -> None:
    request = BuildRequest(b"", outputs=outputs(*kinds))
    assert is_stored(request) == stored
    assert sum(map(is_written, request.outputs)) == written
    several = replace(request, platforms=("linux/amd64", "linux/arm64"))
    assert not is_stored(several)
    for wanted in (several, replace(request, provenance="min"), replace(request, sbom=True)):
        holds = written and kinds != ("docker>f",) or kinds == ("cacheonly",)
        if holds:
            check_outputs(wanted)
        else:
            with pytest.raises((Invalid, Unsupported)):
                check_outputs(wanted)
    check_outputs(request)


def test_annotations_of_an_index_need_one() -> None:
    request = BuildRequest(b"", annotations=(("index:a", "b"),), outputs=outputs("oci>f"))
    with pytest.raises(Invalid, match="single platform"):
        check_outputs(request)
    check_outputs(replace(request, provenance="max"))
    check_outputs(replace(request, outputs=outputs("local>d")))
