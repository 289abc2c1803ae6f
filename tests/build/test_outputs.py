"""Outputs: what comes of them can be loaded, unpacked, read."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.build.copies import FolderTree
from wherry.build.outputs import Outputs, names
from wherry.images.archive.save import Chosen
from wherry.model.build import BuildRequest, OutputRef
from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.model.images import Image, ImageConfig


class Said:
    """Stands for the image store and its archives."""

    def __init__(self) -> None:
        self.saved: list[object] = []

    def layers(self, identifier: Digest) -> tuple[()]:
        del identifier
        return ()

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


def image() -> Image:
    digest = Digest.of(b"")
    return Image(digest, digest, ImageConfig(), ())


@pytest.mark.parametrize("kind", ["local", "tar"])
def test_the_files(tmp_path: Path, kind: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("1")
    (tmp_path / "d/.wh.f").write_text("2")
    out = io.BytesIO()
    said = Said()
    request = BuildRequest(b"", source_date_epoch=7)
    Outputs(said, said).write(request, OutputRef(kind), image(), FolderTree(tmp_path), out.write)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert [(item.name, item.mtime) for item in tar] == [("d", 7), ("d/.wh.f", 7), ("d/f", 7)]


def test_archives(tmp_path: Path) -> None:
    said = Said()
    request = BuildRequest(b"", tags=("x:1", "y"))
    output = OutputRef("oci", (("compression", "zstd"),))
    Outputs(said, said).write(request, output, image(), FolderTree(tmp_path), lambda data: None)
    assert said.saved == ["oci", "zstd", ["docker.io/library/x:1", "docker.io/library/y:latest"]]
    assert [str(n) for n in names(request, OutputRef("docker", (("name", "z, w:2"),)))] == [
        "docker.io/library/z:latest",
        "docker.io/library/w:2",
    ]


@pytest.mark.parametrize(
    "output",
    [
        OutputRef("image"),
        OutputRef("oci", (("compression", "lzma"),)),
        OutputRef("docker", (("name", "U p"),)),
    ],
)
def test_what_is_refused(tmp_path: Path, output: OutputRef) -> None:
    said = Said()
    with pytest.raises(Invalid):
        Outputs(said, said).write(
            BuildRequest(b""), output, image(), FolderTree(tmp_path), lambda data: None
        )
