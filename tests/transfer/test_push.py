"""Pushes out of real stores: what is sent, mounted, skipped, gone on with, and refused."""

from __future__ import annotations

import json
import random
import threading
import time

import pytest

from tests.harness.registry import DockerRegistry, digest_of, fetch_digest, make_image, upload
from tests.transfer.liar import Handler, Liar
from tests.transfer.stores import Stores
from wherry.images.making import ImageMaker, NewImage
from wherry.images.unpack import Unpacker
from wherry.model.errors import Conflict, NotFound, Unauthorized
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, ImageConfig
from wherry.registry.credentials import Credentials
from wherry.registry.faults import Refused
from wherry.registry.stopping import Stop, Stopped

IMAGE = make_image([{"base": random.Random(2).randbytes(400_000)}, {"top": b"top"}])


@pytest.fixture
def liar():
    with Liar() as liar:
        yield liar


def made_here(stores: Stores, name: str) -> Image:
    """Make an image with one uncompressed layer, as commit does."""
    from tests.harness.registry import layer_of

    maker = ImageMaker(
        stores.store,
        Unpacker(stores.store, stores.content, stores.snapshots),
        stores.puller._intakes,  # pyright: ignore[reportPrivateUsage]
    )
    layer = layer_of({"made": random.Random(3).randbytes(200_000) + b"x" * 200_000})
    new = NewImage(ImageConfig(), reference=Reference.parse(name).with_default_tag())
    return maker.make(None, lambda out: out(layer), new)


def test_what_was_pulled_is_pushed_with_the_same_digest(
    stores: Stores, registry: DockerRegistry
) -> None:
    upload(registry.base, "push/from", IMAGE, "1")
    image = stores.pull(f"{registry.host}/push/from:1").image
    target = Reference.parse(f"{registry.host}/push/to:2")
    stores.store.tag(image.id, target)
    assert str(stores.push(target.familiar)) == IMAGE.digest
    assert fetch_digest(registry.base, "push/to", "2") == IMAGE.digest
    assert stores.statuses().count("Mounted from push/from") == 2
    stores.lines.clear()
    stores.push(target.familiar)
    assert stores.statuses().count("Layer already exists") == 2
    assert f"2: digest: {IMAGE.digest} size: {len(IMAGE.manifest)}" in stores.statuses()
    aux = [dict(line.aux) for line in stores.lines if line.aux]
    assert aux == [{"Tag": "2", "Digest": IMAGE.digest, "Size": len(IMAGE.manifest)}]
    digests = stores.store.get(image.id).repo_digests
    assert f"{registry.host}/push/to@{IMAGE.digest}" in digests


def test_what_was_made_here_is_compressed_once(stores: Stores, liar: Liar) -> None:
    image = made_here(stores, f"{liar.host}/made:1")
    digest = stores.push(f"{liar.host}/made:1")
    manifest = json.loads(liar.manifests["1"])
    (layer,) = manifest["layers"]
    assert layer["mediaType"].endswith("+gzip") and layer["size"] < image.layers[0].blob_size
    assert manifest["config"]["digest"] == str(image.id)
    liar.blobs.clear()
    before = sorted(stores.content.digests())
    assert stores.push(f"{liar.host}/made:1") == digest
    assert sorted(stores.content.digests()) == before
    assert layer["digest"] in liar.blobs
    # It is pulled as the same image, and kept by it alone.
    stores.store.forget(image.id)
    stores.collector.sweep()
    assert list(stores.content.digests()) == []
    assert stores.pull(f"{liar.host}/made:1").image.id == image.id


def test_a_cut_upload_goes_on_where_the_registry_is(stores: Stores, liar: Liar) -> None:
    liar.add(IMAGE, "1")
    image = stores.pull(f"{liar.host}/a:1").image
    target = Reference.parse(f"{liar.host}/b:1")
    stores.store.tag(image.id, target)
    liar.blobs.clear()
    stop = Stop()
    liar.sent.clear()
    liar.after_piece = lambda what, sent: stop.set() if sent >= 128 << 10 else None
    with pytest.raises(Stopped):
        stores.push(target.familiar, stop=stop)
    liar.after_piece = None
    settled(liar)
    came = liar.sent["upload"]
    stores.push(target.familiar)
    total = sum(len(layer) for layer in IMAGE.layers)
    assert liar.sent["upload"] - total <= 64 << 10, came
    assert liar.blobs.keys() == IMAGE.blobs.keys()


def settled(liar: Liar) -> None:
    """Wait until the registry has read what was on its way."""
    deadline = time.monotonic() + 30
    last = -1
    while liar.sent["upload"] != last and time.monotonic() < deadline:
        last = liar.sent["upload"]
        time.sleep(0.1)


def test_a_registry_that_breaks_off_is_gone_on_with(stores: Stores, liar: Liar) -> None:
    liar.add(IMAGE, "1")
    stores.pull(f"{liar.host}/a:1")
    liar.blobs.clear()
    broken = threading.Event()

    def break_off(handler: Handler) -> bool:
        if broken.is_set() or int(handler.headers["Content-Length"]) < 200_000:
            return False
        broken.set()
        identifier = handler.path.rpartition("/")[2]
        liar.uploads[identifier] += handler.rfile.read(100_000)
        handler.close_connection = True
        handler.connection.shutdown(2)
        return True

    liar.lie("/blobs/uploads/", break_off, "PATCH")
    stores.push(f"{liar.host}/a:1")
    assert liar.blobs.keys() == IMAGE.blobs.keys()
    assert any(h.get("content-range", "").startswith("100000-") for h in liar.headers)


def test_an_upload_that_is_gone_is_begun_anew(stores: Stores, liar: Liar) -> None:
    liar.add(IMAGE, "1")
    stores.pull(f"{liar.host}/a:1")
    liar.blobs.clear()
    name = f"{liar.host}/a"
    for layer in IMAGE.layers:
        url = f"{liar.base}/v2/a/blobs/uploads/gone"
        stores.places.keep_upload(name, Digest.of(layer), url)
    stores.push(f"{liar.host}/a:1")
    assert liar.blobs.keys() == IMAGE.blobs.keys()
    assert stores.places.upload(name, Digest.of(IMAGE.layers[0])) == ""


def test_refusals(stores: Stores, liar: Liar) -> None:
    with pytest.raises(NotFound, match="An image does not exist locally with the tag: .*/nope"):
        stores.push(f"{liar.host}/nope:1")
    made_here(stores, f"{liar.host}/made:1")
    denied = "requested access to the resource is denied"
    liar.lie("/uploads/", lambda h: h.refuse(403, "DENIED", denied), "POST")
    with pytest.raises(Unauthorized, match=denied):
        stores.push(f"{liar.host}/made:1")
    liar.lies.clear()
    liar.lie("/manifests/", lambda h: h.refuse(409, "DENIED_BY_RULE", "immutable tag"), "PUT")
    with pytest.raises(Conflict, match="immutable tag"):
        stores.push(f"{liar.host}/made:1")


def test_a_registry_that_stores_something_else_is_caught(stores: Stores, liar: Liar) -> None:
    made_here(stores, f"{liar.host}/made:1")
    wrong = digest_of(b"other")
    liar.lie("/manifests/", lambda h: h.answer(201, Docker_Content_Digest=wrong), "PUT")
    with pytest.raises(Exception, match=wrong):
        stores.push(f"{liar.host}/made:1")


def test_the_upload_s_place_on_another_host_is_told_no_secret(stores: Stores, liar: Liar) -> None:
    made_here(stores, f"{liar.host}/made:1")
    with Liar() as elsewhere:
        elsewhere.uploads["x"] = bytearray()
        place = f"{elsewhere.base}/v2/made/blobs/uploads/x"
        liar.lie("/uploads/", lambda h: h.answer(202, Location=place), "POST")

        def check(handler: Handler) -> bool:
            if handler.headers.get("Authorization"):
                return False
            return handler.refuse(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')

        liar.lies.insert(0, ("HEAD", "/v2/", check))
        with pytest.raises((Refused, NotFound)):
            stores.push(f"{liar.host}/made:1", Credentials("u", "p"))
        assert elsewhere.requests
        assert not [h for h in elsewhere.headers if "authorization" in h]


def test_busy_registries_are_asked_again(stores: Stores, liar: Liar) -> None:
    made_here(stores, f"{liar.host}/made:1")
    busy = [503]

    def refuse(handler: Handler) -> bool:
        return bool(busy) and handler.refuse(busy.pop(), "TOOMANYREQUESTS", Retry_After="0")

    liar.lie("/uploads/", refuse, "PUT")
    stores.pusher._attempts = 4  # pyright: ignore[reportPrivateUsage]
    stores.push(f"{liar.host}/made:1")
    assert "Pushed" in stores.statuses()
