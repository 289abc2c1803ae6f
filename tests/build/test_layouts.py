"""OCI layouts as contexts: which image is meant, and what is handed to the loader."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.build.copies import FolderTree
from wherry.build.context.layouts import load_layout, split_layout
from wherry.model.errors import Invalid, NotFound
from wherry.storage.layers import Readable

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def layout(tmp_path: Path) -> FolderTree:
    entries = [
        {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": 2,
            "annotations": {"org.opencontainers.image.ref.name": name},
        }
        for digest, name in ((ONE, "v1"), (TWO, "docker.io/library/x:latest"))
    ]
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (tmp_path / "oci-layout").write_text("{}")
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "blobs/sha256/ab").write_bytes(b"{}" * 100_000)
    (tmp_path / "elsewhere").write_text("nothing of a layout")
    return FolderTree(tmp_path)


def load(stream: Readable) -> str:
    """Return the digest that the archive's index has."""
    data = b"".join(iter(lambda: stream.read(1 << 16), b""))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = [item.name for item in tar if item.isfile()]
        assert names == ["oci-layout", "index.json", "blobs/sha256/ab"]
        index = tar.extractfile("index.json")
        assert index is not None
        (entry,) = json.load(index)["manifests"]
    assert "annotations" not in entry
    return entry["digest"]


@pytest.mark.parametrize(
    ("tag", "digest", "found"),
    [("", "", TWO), ("v1", "", ONE), ("latest", "", TWO), ("v1", TWO, TWO)],
)
def test_which_image(layout: FolderTree, tag: str, digest: str, found: str) -> None:
    assert load_layout(layout, tag, digest, load) == found


def test_what_is_not_there(layout: FolderTree) -> None:
    with pytest.raises(NotFound):
        load_layout(layout, "v2", "", load)
    (layout.path / "index.json").unlink()
    with pytest.raises(Invalid, match="not an OCI layout"):
        load_layout(layout, "", "", load)


def test_a_loader_that_stops(layout: FolderTree) -> None:
    def stop(stream: Readable) -> str:
        stream.read(1)
        raise Invalid("enough")

    with pytest.raises(Invalid, match="enough"):
        load_layout(layout, "", "", stop)


def test_what_a_value_means() -> None:
    assert split_layout("id") == ("id", "", "")
    assert split_layout(f"id:v1@{ONE}") == ("id", "v1", ONE)
