"""Pulls into real stores: what comes in, what is not fetched, what is shared, and what is refused."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.registry import INDEX, OCI_MANIFEST, MadeImage, digest_of, index_of, make_image
from tests.transfer.liar import Handler, Liar
from tests.transfer.stores import Stores
from wherry.images.transfer import resolve
from wherry.images.transfer.words import said
from wherry.model.errors import Invalid, NotFound, Unauthorized, Unavailable, WherryError
from wherry.model.ids import Digest, Reference
from wherry.registry import messages
from wherry.registry.auth import NoCredentials
from wherry.registry.credentials import Credentials
from wherry.registry.dialling import Unreachable
from wherry.registry.faults import Refused
from wherry.registry.stopping import Stop, Stopped

BASE = {"etc/base": b"base", "big": random.Random(1).randbytes(300_000)}
IMAGE = make_image([BASE, {"top": b"top"}], Cmd=["/top"])
OTHER = make_image([{"other": random.Random(2).randbytes(100_000)}])


@pytest.fixture
def liar():
    with Liar() as liar:
        liar.add(IMAGE, "1")
        yield liar


def test_what_is_pulled_is_whole(stores: Stores, liar: Liar) -> None:
    pulled = stores.pull(f"{liar.host}/a/b:1")
    assert str(pulled.image.id) == IMAGE.id
    assert pulled.image.names == (f"{liar.host}/a/b:1",)
    assert pulled.image.repo_digests == (f"{liar.host}/a/b@{IMAGE.digest}",)
    assert stores.content.read(pulled.image.manifest) == IMAGE.manifest
    base, top = (stores.snapshots.layer_path(chain) for chain in pulled.image.chain)
    assert (base / "big").read_bytes() == BASE["big"]
    assert (top / "top").read_bytes() == b"top"
    assert not pulled.up_to_date
    assert stores.partials.size() == 0
    short = [Digest.of(layer).short for layer in IMAGE.layers]
    said = [(line.id, line.status) for line in stores.lines]
    assert said[0] == ("1", "Pulling from a/b")
    for identifier in short:
        words = [status for name, status in said if name == identifier]
        assert words[0] == "Pulling fs layer"
        assert words[-1] == "Pull complete"
        assert words.index("Verifying Checksum") < words.index("Download complete")


def test_what_is_here_is_not_fetched(stores: Stores, liar: Liar) -> None:
    more = make_image([BASE, {"other": b"x"}])
    liar.add(more, "2")
    stores.pull(f"{liar.host}/a/b:1")
    liar.requests.clear()
    assert stores.pull(f"{liar.host}/a/b:1").up_to_date
    assert liar.count("GET", "/blobs/") == 0
    stores.lines.clear()
    assert not stores.pull(f"{liar.host}/a/b:2").up_to_date
    fetched = {line.rpartition("/")[2] for line in liar.requests if "/blobs/" in line}
    assert fetched == {more.id, digest_of(more.layers[1])}
    assert "Already exists" in stores.statuses()


def test_by_digest(stores: Stores, liar: Liar) -> None:
    pulled = stores.pull(f"{liar.host}/a/b@{IMAGE.digest}")
    assert (pulled.image.names, len(pulled.image.repo_digests)) == ((), 1)
    assert stores.pull(f"{liar.host}/a/b@{IMAGE.digest}").up_to_date


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("linux/amd64", 0), ("linux/arm64", 1), ("linux/arm/v7", 2), ("linux/arm/v6", 3)],
)
def test_an_index_has_an_image_for_each_platform(
    stores: Stores, liar: Liar, wanted: str, chosen: int
) -> None:
    machines = [("amd64", ""), ("arm64", "v8"), ("arm", "v7"), ("arm", "v6")]
    images = [
        make_image([{"a": name.encode() + variant.encode()}], architecture=name, variant=variant)
        for name, variant in machines
    ]
    for image in images:
        liar.add(image)
    index = index_of(*((i, *machine) for i, machine in zip(images, machines, strict=True)))
    liar.manifests["many"] = index
    pulled = stores.pull(f"{liar.host}/a/b:many", wanted)
    assert str(pulled.image.id) == images[chosen].id
    assert pulled.image.repo_digests == (f"{liar.host}/a/b@{digest_of(index)}",)
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list"):
        stores.pull(f"{liar.host}/a/b:many", "linux/s390x")


def test_a_lone_manifest_for_another_platform_is_taken_with_a_warning(
    stores: Stores, liar: Liar
) -> None:
    pulled = stores.pull(f"{liar.host}/a/b:1", "linux/arm64")
    assert "(linux/amd64) does not match the specified platform (linux/arm64)" in pulled.warning


def test_two_pulls_of_a_layer_share_the_work(stores: Stores, liar: Liar) -> None:
    other = make_image([BASE, {"z": b"z"}])
    liar.add(other, "2")
    layer = digest_of(IMAGE.layers[0])
    both = threading.Barrier(2, timeout=20)
    begun = threading.Event()

    def hold(handler: Handler) -> bool:
        begun.set()
        both.wait()
        return False

    liar.lie(layer, hold)
    first = threading.Thread(target=stores.pull, args=(f"{liar.host}/a/b:1",))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=stores.pull, args=(f"{liar.host}/a/b:2",))
    second.start()
    deadline = time.monotonic() + 20
    while stores.statuses().count("Pulling fs layer") < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    both.wait()
    first.join()
    second.join()
    assert liar.count("GET", layer) == 1
    assert len(stores.store.ids()) == 2


def test_another_pull_goes_on_when_the_first_is_called_off(stores: Stores, liar: Liar) -> None:
    layer = digest_of(IMAGE.layers[0])
    held, begun = threading.Event(), threading.Event()

    def hold(handler: Handler) -> bool:
        begun.set()
        held.wait(20)
        return False

    liar.lie(layer, hold)
    stop = Stop()
    ends: list[BaseException] = []

    def pull_first() -> None:
        try:
            stores.pull(f"{liar.host}/a/b:1", stop=stop)
        except Stopped as error:
            ends.append(error)

    first = threading.Thread(target=pull_first)
    first.start()
    assert begun.wait(20)
    other: list[str] = []
    second = threading.Thread(
        target=lambda: other.append(str(stores.pull(f"{liar.host}/a/b:1").image.id))
    )
    second.start()
    deadline = time.monotonic() + 20
    while stores.statuses().count("Pulling from a/b") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    first.join(20)
    held.set()
    second.join(20)
    assert ends and other == [IMAGE.id]


def test_a_cut_connection_is_taken_up_where_it_broke(stores: Stores, liar: Liar) -> None:
    layer = digest_of(IMAGE.layers[0])
    cuts = [100_000, 200_000]

    def cut(handler: Handler) -> bool:
        if not cuts:
            return False
        data, upto = IMAGE.layers[0], cuts.pop(0)
        asked = handler.headers.get("Range", "bytes=0-")
        start = int(asked[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start:upto])
        handler.close_connection = True
        return True

    liar.lie(layer, cut)
    assert str(stores.pull(f"{liar.host}/a/b:1").image.id) == IMAGE.id
    asked = [h.get("range") for h in liar.headers if h.get("range")]
    assert asked == ["bytes=100000-", "bytes=200000-"]


def test_a_registry_without_ranges_sends_all_again(stores: Stores, liar: Liar) -> None:
    layer = digest_of(IMAGE.layers[0])
    partial = stores.partials.path(Digest.parse(layer))
    partial.write_bytes(IMAGE.layers[0][:50_000])
    liar.lie(layer, lambda handler: handler.answer(200, IMAGE.layers[0]))
    assert str(stores.pull(f"{liar.host}/a/b:1").image.id) == IMAGE.id


def ranged(handler: Handler, field: str, data: bytes) -> bool:
    """Answer with a part, as `field` has it."""
    more = {"Content_Range": field} if field else {}
    return handler.answer(206, data, "application/octet-stream", **more)


@pytest.mark.parametrize(
    "lie",
    [
        lambda h, data: ranged(h, f"bytes 0-{len(data) - 1}/{len(data)}", data),
        lambda h, data: ranged(h, f"bytes 70000-{len(data) - 1}/{len(data)}", data[70_000:]),
        lambda h, data: ranged(h, "", data[50_000:]),
        lambda h, data: ranged(h, "bytes */0", b""),
        lambda h, data: ranged(h, "bytes 99999999999999999999999-1/2", data),
        lambda h, data: h.refuse(416, "RANGE_INVALID"),
    ],
)
def test_lies_about_ranges_cost_a_new_beginning_and_no_more(
    stores: Stores, liar: Liar, lie: Callable[[Handler, bytes], bool]
) -> None:
    """The connection breaks once; of what comes then, nothing gets into the wrong place."""
    layer, data = digest_of(IMAGE.layers[0]), IMAGE.layers[0]
    broken: list[int] = []

    def answer(handler: Handler) -> bool:
        if "Range" in handler.headers:
            return lie(handler, data)
        if broken:
            return False
        broken.append(1)
        handler.close_connection = True
        return handler.answer(200, data[:50_000], Content_Length=str(len(data)))

    liar.lie(layer, answer)
    assert str(stores.pull(f"{liar.host}/a/b:1").image.id) == IMAGE.id
    assert liar.count("GET", layer) == 3


def test_a_length_that_is_too_short_is_gone_on_from(stores: Stores, liar: Liar) -> None:
    layer, data = digest_of(IMAGE.layers[0]), IMAGE.layers[0]
    liar.lie(
        layer,
        lambda h: "Range" not in h.headers and h.answer(200, data, Content_Length="60000"),
    )
    assert str(stores.pull(f"{liar.host}/a/b:1").image.id) == IMAGE.id
    assert "bytes=60000-" in [h.get("range") for h in liar.headers]


def test_a_part_of_something_else_is_refused_and_named(stores: Stores, liar: Liar) -> None:
    layer, data = digest_of(IMAGE.layers[0]), IMAGE.layers[0]
    stores.partials.path(Digest.parse(layer)).write_bytes(data[:50_000])
    other = bytes(len(data) - 50_000)
    field = f"bytes 50000-{len(data) - 1}/{len(data)}"
    liar.lie(layer, lambda h: "Range" in h.headers and ranged(h, field, other))
    # Whether the part that was kept or the one that came is wrong cannot be told: all is fetched anew.
    assert str(stores.pull(f"{liar.host}/a/b:1").image.id) == IMAGE.id
    liar.lies.clear()
    liar.add(OTHER, "2")
    liar.lie(digest_of(OTHER.layers[0]), lambda h: h.answer(200, bytes(len(OTHER.layers[0]))))
    with pytest.raises(WherryError, match=digest_of(OTHER.layers[0])):
        stores.pull(f"{liar.host}/a/b:2")
    assert stores.partials.size() == 0


def test_what_was_kept_and_is_spoilt_is_fetched_anew(stores: Stores, liar: Liar) -> None:
    layer = digest_of(IMAGE.layers[0])
    stores.partials.path(Digest.parse(layer)).write_bytes(b"x" * 50_000)
    assert str(stores.pull(f"{liar.host}/a/b:1").image.id) == IMAGE.id
    assert liar.sent[layer] >= len(IMAGE.layers[0])


def refused(stores: Stores, liar: Liar, kind: type[Exception], words: str, tag: str = "1") -> None:
    """Expect a pull to be refused, and nothing to be left of it."""
    with pytest.raises(kind, match=words):
        stores.pull(f"{liar.host}/a/b:{tag}")
    assert stores.left_over() == ([], [])
    assert stores.store.ids() == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"\0" * len(data),
        lambda data: data[:10] + bytes([data[10] ^ 255]) + data[11:],
    ],
)
def test_a_layer_with_other_bytes_is_refused_and_named(
    stores: Stores, liar: Liar, spoil: Callable[[bytes], bytes]
) -> None:
    layer = digest_of(IMAGE.layers[0])
    liar.blobs[layer] = spoil(IMAGE.layers[0])
    # Named by the blob's digest or the layer's, whichever check meets it first.
    diff = json.loads(IMAGE.config)["rootfs"]["diff_ids"][0]
    refused(stores, liar, Invalid, f"{layer}|{diff}")


def test_a_layer_that_is_another_than_the_configuration_says(stores: Stores, liar: Liar) -> None:
    config = json.loads(IMAGE.config)
    config["rootfs"]["diff_ids"][1] = digest_of(b"another")
    encoded = json.dumps(config).encode()
    manifest = json.loads(IMAGE.manifest)
    manifest["config"] |= {"digest": digest_of(encoded), "size": len(encoded)}
    liar.blobs[digest_of(encoded)] = encoded
    liar.manifests["1"] = json.dumps(manifest).encode()
    refused(stores, liar, Invalid, digest_of(b"another"))


def changed(**changes: object) -> bytes:
    """Return the manifest with other fields."""
    return json.dumps(json.loads(IMAGE.manifest) | changes).encode()


def layers_changed(**changes: object) -> bytes:
    """Return the manifest with other fields in its first layer."""
    manifest = json.loads(IMAGE.manifest)
    manifest["layers"][0] |= changes
    return json.dumps(manifest).encode()


CONFIG = json.loads(IMAGE.manifest)["config"]
LAYER = json.loads(IMAGE.manifest)["layers"][0]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"", "invalid image manifest|is no image|something else than a manifest"),
        (b"[]", "invalid image manifest|is no image|something else than a manifest"),
        (b"{" * 5000, "invalid image manifest|is no image|something else than a manifest"),
        (changed(layers=json.loads(IMAGE.manifest)["layers"][:1]), "lists 1 layers"),
        (changed(layers=[LAYER] * 501), "max depth exceeded"),
        (
            changed(config=CONFIG | {"mediaType": "application/vnd.cncf.helm"}),
            "unsupported media type",
        ),
        (changed(config=CONFIG | {"size": 1 << 40}), "more than 4194304"),
        (changed(config=CONFIG | {"size": 3}), "its content is|more than 4 bytes"),
        (changed(config=CONFIG | {"digest": "sha256:../../etc/passwd"}), "invalid digest"),
        (layers_changed(mediaType="text/plain"), "not a layer archive"),
        (layers_changed(size=-1), "invalid image manifest"),
        (layers_changed(size=10), "more than its 10 bytes"),
        (layers_changed(digest="sha256:" + "A" * 64), "invalid digest"),
        (changed(schemaVersion=1), "version 1"),
        (changed(mediaType="application/vnd.docker.distribution.manifest.v1+json"), "schema 1"),
        (changed(mediaType="application/x-unknown"), "is no image"),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    stores: Stores, liar: Liar, manifest: bytes, words: str
) -> None:
    def answer(handler: Handler) -> bool:
        try:
            kind = json.loads(manifest).get("mediaType", "application/json")
        except (ValueError, AttributeError):
            kind = OCI_MANIFEST
        return handler.answer(200, manifest, kind)

    liar.lie("/manifests/1", answer)
    refused(stores, liar, WherryError, words)


def test_a_manifest_with_another_digest_is_refused(stores: Stores, liar: Liar) -> None:
    wrong = changed(annotations={"a": "b"})
    liar.lie("/manifests/", lambda h: h.answer(200, wrong, "application/json"))
    with pytest.raises(Invalid, match=f"digest is {digest_of(wrong)}, not {IMAGE.digest}"):
        stores.pull(f"{liar.host}/a/b@{IMAGE.digest}")


def test_a_manifest_without_an_end_is_refused(stores: Stores, liar: Liar) -> None:
    def endless(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")

    liar.lie("/manifests/1", endless)
    refused(stores, liar, Unavailable, "more than 4194304 bytes")


def test_an_index_that_leads_in_circles_or_too_deep(stores: Stores, liar: Liar) -> None:
    inner = index_of((IMAGE, "amd64", ""))
    for _ in range(6):
        liar.manifests[digest_of(inner)] = inner
        entry = {"mediaType": INDEX, "digest": digest_of(inner), "size": len(inner)}
        inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    liar.manifests["deep"] = inner
    refused(stores, liar, Invalid, "in circles or too deep", "deep")


def test_a_blob_longer_than_it_says_is_refused(stores: Stores, liar: Liar) -> None:
    def endless(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % len(IMAGE.layers[0]) + IMAGE.layers[0] + b"\r\n")
        while True:
            handler.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    liar.lie(digest_of(IMAGE.layers[0]), endless)
    refused(stores, liar, WherryError, "sent more than its")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"",
    ],
)
def test_what_is_no_http_is_refused(stores: Stores, liar: Liar, head: bytes) -> None:
    def answer(handler: Handler) -> bool:
        handler.wfile.write(head)
        handler.close_connection = True
        return True

    liar.lie("/manifests/1", answer)
    refused(stores, liar, Unavailable, "127.0.0.1")


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "gopher://x", "http://[::1", ""],
)
def test_redirects_lead_to_http_only(stores: Stores, liar: Liar, location: str) -> None:
    liar.lie(digest_of(IMAGE.layers[0]), lambda h: h.answer(307, Location=location))
    refused(stores, liar, Invalid, "refused|invalid URL")


def test_redirects_have_an_end(stores: Stores, liar: Liar) -> None:
    liar.lie(digest_of(IMAGE.layers[0]), lambda h: h.answer(302, Location=h.path))
    refused(stores, liar, Invalid, "more than 10 redirects")


def test_a_redirect_elsewhere_is_told_no_secret(stores: Stores, liar: Liar) -> None:
    layer = digest_of(IMAGE.layers[0])
    with Liar() as elsewhere:
        elsewhere.add(IMAGE)
        liar.lie(layer, lambda h: h.answer(307, Location=f"{elsewhere.base}/v2/x/blobs/{layer}"))
        guard(liar, "Basic dTpw")
        stores.pull(f"{liar.host}/a/b:1", credentials=Credentials("u", "p"))
        assert elsewhere.requests == [f"GET /v2/x/blobs/{layer}"]
        assert "authorization" not in elsewhere.headers[0]


def guard(liar: Liar, header: str) -> None:
    """Have everything refused without this Authorization."""

    def check(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == header:
            return False
        return handler.refuse(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')

    liar.lies.insert(0, ("GET", "/v2/", check))


def test_layers_are_not_fetched_from_where_a_manifest_says(stores: Stores, liar: Liar) -> None:
    with Liar() as elsewhere:
        urls = [f"{elsewhere.base}/x"]
        liar.manifests["1"] = layers_changed(
            mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=urls
        )
        stores.pull(f"{liar.host}/a/b:1")
        assert elsewhere.requests == []


@pytest.mark.parametrize("where", ["/manifests/1", "/blobs/"])
def test_a_trickle_is_given_up(
    stores: Stores, liar: Liar, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(messages, "_WINDOW_SECONDS", 0.3)
    monkeypatch.setattr(messages, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(messages, "IDLE_SECONDS", 0.5)
    over = threading.Event()

    def trickle(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "5000")
        handler.end_headers()
        while not over.wait(0.05):
            handler.wfile.write(b"x")
        return True

    stores.downloads._attempts = 1  # pyright: ignore[reportPrivateUsage]
    liar.lie(where, trickle)
    try:
        refused(stores, liar, Unavailable, "too slow")
    finally:
        over.set()


def test_silence_is_given_up(stores: Stores, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "HEAD_SECONDS", 0.3)
    over = threading.Event()
    liar.lie("/manifests/1", lambda h: over.wait(20) and False)
    try:
        refused(stores, liar, Unavailable, "took too long|sent nothing")
    finally:
        over.set()


def test_docker_s_words_for_what_is_not_there(stores: Stores, liar: Liar) -> None:
    name = f"{liar.host}/a/b:nope"
    with pytest.raises(
        NotFound, match=f"manifest for {name} not found: manifest unknown: manifest"
    ):
        stores.pull(name)
    liar.lie("/manifests/", lambda h: h.refuse(403, "DENIED", "requested access is denied"))
    with pytest.raises(NotFound, match="pull access denied for .*, repository does not exist"):
        stores.pull(name)


def test_credentials_are_shown_where_they_are_asked_for(stores: Stores, liar: Liar) -> None:
    guard(liar, "Basic dTpw")
    with pytest.raises(Unavailable, match="no basic auth credentials"):
        stores.pull(f"{liar.host}/a/b:1")
    with pytest.raises(Unauthorized):
        stores.pull(f"{liar.host}/a/b:1", credentials=Credentials("u", "wrong"))
    assert "authorization" not in liar.headers[0]
    stores.pull(f"{liar.host}/a/b:1", credentials=Credentials("u", "p"))


def test_an_image_of_many_layers(stores: Stores, liar: Liar) -> None:
    image = make_image([{f"f{n}": b"x"} for n in range(60)])
    liar.add(image, "60")
    assert len(stores.pull(f"{liar.host}/a/b:60").image.layers) == 60
    assert resolve.MOST_LAYERS == 500


def test_a_layer_there_twice_is_fetched_once(stores: Stores, liar: Liar) -> None:
    image = make_image([{"a": b"a"}, {"b": b"b"}, {"a": b"a"}])
    liar.add(image, "twice")
    pulled = stores.pull(f"{liar.host}/a/b:twice")
    assert len(pulled.image.layers) == 3
    assert liar.count("GET", digest_of(image.layers[0])) == 1


def test_uncompressed_and_zstd_layers(stores: Stores, liar: Liar) -> None:
    plain = make_image([{"p": b"plain"}], compress=False)
    liar.add(plain, "plain")
    assert str(stores.pull(f"{liar.host}/a/b:plain").image.id) == plain.id
    liar.add(zstd_image(), "zstd")
    stores.pull(f"{liar.host}/a/b:zstd")


def test_a_blob_that_was_unpacked_leaves_the_page_cache(stores: Stores, liar: Liar) -> None:
    """A pull would otherwise push out of memory as much again as it brings in."""
    probe = stores.root / "probe"
    probe.write_bytes(bytes(1 << 20))
    with probe.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_pages(probe):
        pytest.skip("the file system keeps its pages")
    big = make_image([{"big": random.Random(5).randbytes(12 << 20)}])
    liar.add(big, "big")
    pulled = stores.pull(f"{liar.host}/a/b:big")
    blob = stores.content.path(pulled.image.layers[0].blob)
    pages = blob.stat().st_size // mmap.PAGESIZE
    assert cached_pages(blob) < pages // 4
    # What a container is going to read stays.
    [layer] = (stores.snapshots.layer_path(chain) for chain in pulled.image.chain)
    assert cached_pages(layer / "big") > pages // 2


def cached_pages(path: Path) -> int:
    """Return how many of a file's pages are in memory: mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        there = (ctypes.c_ubyte * -(-len(content) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(content)
        failed = libc.mincore(ctypes.byref(first), ctypes.c_size_t(len(content)), there)
        del first
        assert not failed, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in there)


def zstd_image() -> MadeImage:
    """Return an image with a layer that zstd compressed."""
    import zstandard

    plain = make_image([{"z": b"zstd" * 100}], compress=False)
    layer = zstandard.compress(plain.layers[0])
    manifest = json.loads(plain.manifest)
    manifest["mediaType"] = OCI_MANIFEST
    manifest["layers"] = [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
            "digest": digest_of(layer),
            "size": len(layer),
        }
    ]
    return MadeImage(plain.config, (layer,), json.dumps(manifest).encode())


def test_a_pull_called_off_keeps_what_came(stores: Stores, liar: Liar) -> None:
    stop = Stop()
    layer = digest_of(IMAGE.layers[0])
    path, over = stores.partials.path(Digest.parse(layer)), threading.Event()

    def call_off(digest: str, sent: int) -> None:
        if digest == layer and sent >= 128 << 10:
            deadline = time.monotonic() + 20
            while path.stat().st_size < sent and time.monotonic() < deadline:
                time.sleep(0.005)
            stop.set()
            over.wait(20)

    liar.after_piece = call_off
    with pytest.raises(Stopped):
        stores.pull(f"{liar.host}/a/b:1", stop=stop)
    over.set()
    assert stores.left_over() == ([], [])
    liar.after_piece = None
    liar.headers.clear()
    stores.pull(f"{liar.host}/a/b:1")
    assert [h["range"] for h in liar.headers if "range" in h] == [f"bytes={128 << 10}-"]
    reference = Reference.parse(f"{liar.host}/a/b:1")
    assert str(stores.store.named(reference)) == IMAGE.id


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("lookup of registry-1.docker.io: no such host"),
        Refused(403, "DENIED", "requested access to the resource is denied"),
        Refused(404, "NAME_UNKNOWN", "repository name not known to registry"),
        Refused(502, "", "Bad Gateway"),
        Refused(429, "TOOMANYREQUESTS", "too many requests"),
        NoCredentials("no credentials"),
    ],
)
def test_whatever_keeps_buildkit_away_the_way_out_is_told(error: Exception) -> None:
    """buildx, and Docker Compose by it, fetches BuildKit: here a classic build is what works."""
    with pytest.raises(WherryError, match="set DOCKER_BUILDKIT=0"):
        with said(Reference.parse("moby/buildkit:buildx-stable-1"), anonymous=True):
            raise error
    with pytest.raises(WherryError) as other:
        with said(Reference.parse("moby/other:1"), anonymous=True):
            raise error
    assert "BUILDKIT" not in str(other.value)
