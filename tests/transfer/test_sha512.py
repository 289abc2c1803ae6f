"""Images whose manifests name their parts by sha512, from and to a registry that is a process of its own."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator

import pytest

from tests.harness.registry import MadeImage, digest_of, make_image
from tests.registry.serving import Running, registry
from tests.transfer.liar import Handler, Liar
from tests.transfer.stores import Stores
from wherry.images.archive.load import Loader
from wherry.images.archive.save import Saver
from wherry.images.intake import Intake
from wherry.images.unpack import Unpacker
from wherry.model.errors import Invalid
from wherry.model.ids import Reference

FILES = [{"base": random.Random(7).randbytes(300_000)}, {"top": b"top"}]
IMAGE = make_image(FILES, Cmd=["/top"])
PLAIN = make_image(FILES, compress=False)


def sha512_of(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


def with_diffs(image: MadeImage, *diffs: str) -> MadeImage:
    """Return the image with other diff ids in its configuration."""
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = list(diffs)
    encoded = json.dumps(config).encode()
    return MadeImage(encoded, image.layers, image.manifest)


HASHED = with_diffs(IMAGE, *map(sha512_of, PLAIN.layers))
# A base by sha256 and a layer by sha512, which is no digest of its blob's.
MIXED = with_diffs(PLAIN, digest_of(PLAIN.layers[0]), sha512_of(PLAIN.layers[1]))
Named = Callable[[bytes], str]


def renamed(image: MadeImage, config: Named, layers: Named) -> tuple[dict[str, bytes], bytes]:
    """Return the image's blobs and its manifest, with other digests."""
    manifest = json.loads(image.manifest)
    manifest["config"] |= {"digest": config(image.config), "size": len(image.config)}
    for layer, data in zip(manifest["layers"], image.layers, strict=True):
        layer["digest"] = layers(data)
    blobs = {layers(data): data for data in image.layers} | {config(image.config): image.config}
    return blobs, json.dumps(manifest).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with registry(tmp_path_factory.mktemp("sha512"), "--gc-interval=0") as running:
        yield running


def put(server: Running, name: str, blobs: dict[str, bytes], manifest: bytes, tag: str) -> None:
    for digest, data in blobs.items():
        server.client.push(name, data, digest)
    kind = json.loads(manifest)["mediaType"]
    reply = server.client.put(name, tag, manifest, kind)
    assert reply.status == 201, reply


@pytest.mark.parametrize(
    ("image", "config", "layers"),
    [
        (IMAGE, digest_of, sha512_of),
        (IMAGE, sha512_of, digest_of),
        (IMAGE, sha512_of, sha512_of),
        (PLAIN, sha512_of, sha512_of),
        (HASHED, digest_of, digest_of),
        (HASHED, sha512_of, sha512_of),
        (MIXED, digest_of, digest_of),
    ],
    ids=["layers", "configuration", "all", "uncompressed", "diffs", "everything", "mixed"],
)
def test_it_is_pulled_pushed_saved_and_loaded(
    server: Running,
    new_stores: Callable[[str], Stores],
    image: MadeImage,
    config: Named,
    layers: Named,
    request: pytest.FixtureRequest,
) -> None:
    name = f"t/{request.node.callspec.id}"
    blobs, manifest = renamed(image, config, layers)
    put(server, name, blobs, manifest, sha512_of(manifest))
    put(server, name, blobs, manifest, "1")
    host = f"127.0.0.1:{server.port}"
    stores = new_stores("data")
    pulled = stores.pull(f"{host}/{name}:1")
    # Docker 28.5 has the same id: the sha256 of the configuration.
    assert str(pulled.image.id) == image.id
    base, top = (stores.snapshots.layer_path(chain) for chain in pulled.image.chain)
    assert (base / "base").read_bytes() == FILES[0]["base"]
    assert (top / "top").read_bytes() == b"top"
    assert [str(layer.blob) for layer in pulled.image.layers] == [layers(b) for b in image.layers]
    again = stores.pull(f"{host}/{name}@{sha512_of(manifest)}")
    assert again.image.id == pulled.image.id
    assert f"{host}/{name}@{sha512_of(manifest)}" in again.image.repo_digests

    # Pushed elsewhere it is what it was.
    with Liar() as other:
        stores.store.tag(pulled.image.id, Reference.parse(f"{other.host}/a/b:2"))
        assert str(stores.push(f"{other.host}/a/b:2")) == digest_of(manifest)
        assert other.manifests["2"] == manifest
        assert other.blobs == blobs

    # A layout names the parts as the manifest does, and is taken in by those names.
    archive = saved(stores, f"{host}/{name}:1")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = set(tar.getnames())
    assert {f"blobs/{digest.replace(':', '/')}" for digest in blobs} <= names
    fresh = new_stores("loaded")
    [loaded] = loader(fresh).load(io.BytesIO(archive), lambda _: None)
    assert loaded.image.id == pulled.image.id
    assert [layer.diff_id for layer in loaded.image.layers] == [
        layer.diff_id for layer in pulled.image.layers
    ]

    # Docker's form has the layers as they are uncompressed, by their own digests.
    diffs = [str(layer.diff_id) for layer in pulled.image.layers]
    assert diffs == json.loads(image.config)["rootfs"]["diff_ids"]
    archive = saved(stores, f"{host}/{name}:1", "docker")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = set(tar.getnames())
    assert {f"blobs/{digest.replace(':', '/')}" for digest in diffs} <= names
    [loaded] = loader(new_stores("docker")).load(io.BytesIO(archive), lambda _: None)
    assert loaded.image.id == pulled.image.id

    # Nothing of it is taken for rubbish while the image is there, all of it afterwards.
    stores.collector.sweep()
    assert stores.content.has(pulled.image.layers[0].blob)
    stores.store.forget(pulled.image.id)
    stores.collector.sweep()
    assert stores.left_over() == ([], [])


def saved(stores: Stores, name: str, form: str = "oci") -> bytes:
    saver = Saver(stores.store, stores.content, stores.leases)
    out = io.BytesIO()
    saver.save(saver.choose([name]), out.write, form=form, compression="")
    return out.getvalue()


def loader(stores: Stores) -> Loader:
    def intakes() -> Intake:
        return Intake(stores.content, stores.leases, stores.collector)

    return Loader(stores.store, Unpacker(stores.store, stores.content, stores.snapshots), intakes)


@pytest.mark.parametrize("part", ["layer", "configuration", "manifest"])
def test_other_bytes_are_refused_and_named(stores: Stores, part: str) -> None:
    blobs, manifest = renamed(PLAIN, sha512_of, sha512_of)
    spoilt = {"layer": PLAIN.layers[0], "configuration": PLAIN.config, "manifest": manifest}[part]
    bad = bytearray(spoilt)
    bad[len(bad) // 2] ^= 1
    named = sha512_of(spoilt)

    def lie(handler: Handler) -> bool:
        return handler.answer(200, bytes(bad))

    with Liar() as liar:
        liar.blobs |= blobs
        liar.manifests[sha512_of(manifest)] = manifest
        liar.lie(named, lie)
        with pytest.raises(Invalid, match=named):
            stores.pull(f"{liar.host}/a/b@{sha512_of(manifest)}")
    assert stores.left_over() == ([], [])


@pytest.mark.parametrize("image", [HASHED, MIXED], ids=["compressed", "uncompressed"])
def test_another_layer_than_the_configuration_says_is_refused(
    stores: Stores, image: MadeImage
) -> None:
    wrong = sha512_of(b"another")
    diffs = [*json.loads(image.config)["rootfs"]["diff_ids"][:1], wrong]
    blobs, manifest = renamed(with_diffs(image, *diffs), digest_of, digest_of)
    with Liar() as liar:
        liar.blobs |= blobs
        liar.manifests["1"] = manifest
        with pytest.raises(Invalid, match=f"layer {wrong}: its content is sha512:"):
            stores.pull(f"{liar.host}/a/b:1")
    assert stores.left_over() == ([], [])


def test_a_layout_with_other_bytes_is_refused(new_stores: Callable[[str], Stores]) -> None:
    blobs, manifest = renamed(IMAGE, sha512_of, sha512_of)
    with Liar() as liar:
        liar.blobs |= blobs
        liar.manifests["1"] = manifest
        stores = new_stores("data")
        stores.pull(f"{liar.host}/a/b:1")
        archive = bytearray(saved(stores, f"{liar.host}/a/b:1"))
    at = archive.index(IMAGE.layers[0]) + 100
    archive[at] ^= 1
    fresh = new_stores("loaded")
    with pytest.raises(Invalid, match="wrong digest: its content is sha512:"):
        loader(fresh).load(io.BytesIO(bytes(archive)), lambda _: None)
    assert fresh.left_over() == ([], [])
