"""What a user reads when a registry does not give an image, beside what Docker 28.5 says to the same answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from tests.harness.registry import MadeImage, digest_of, layer_of, make_image
from tests.transfer.liar import Answer, Liar
from tests.transfer.stores import Stores
from wherry.api.status import status_of
from wherry.model.errors import Invalid, WherryError
from wherry.registry.credentials import ANONYMOUS, Credentials

IMAGE = make_image([{"a": b"a" * 1000}])
SECRET = Credentials("u", "wrong")
LOST = "received unexpected HTTP status: 500 Internal Server Error"
PULL_DENIED = (
    "pull access denied for {name}, repository does not exist or may require 'docker login': "
)


@pytest.fixture
def liar() -> Iterator[Liar]:
    """A registry with the one image."""
    with Liar() as liar:
        liar.add(IMAGE, "1")
        yield liar


def refusing(status: int, body: bytes) -> Answer:
    """Return an answer of `status`; the one to HEAD comes without its body."""
    return lambda h: h.answer(status, body)


def errors(code: str, message: str) -> bytes:
    """Return an error of the specification."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def pull_error(stores: Stores, liar: Liar, credentials: Credentials = ANONYMOUS) -> WherryError:
    """Return what pulling the one image ends with."""
    with pytest.raises(WherryError) as caught:
        stores.pull(f"{liar.host}/a/b:1", credentials=credentials)
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (429, errors("TOOMANYREQUESTS", "your limit"), 429, "toomanyrequests: your limit"),
        (429, b'{"details": "your limit"}', 429, "toomanyrequests: your limit"),
        (429, b"slow down\n", 429, "toomanyrequests: slow down"),
        (429, b"<html>no</html>", 429, "toomanyrequests: too many requests"),
        (403, b"", 404, PULL_DENIED + "denied: requested access to the resource is denied"),
        (403, b"over quota", 404, PULL_DENIED + "denied: over quota"),
        (404, b"404 page not found\n", 404, "manifest for {name}:1 not found: "
         "the registry answered 404 Not Found: 404 page not found"),
        (500, b"<html>boom</html>", 503, LOST),
        (500, errors("UNKNOWN", "no disk"), 503, f"{LOST} (no disk)"),
        (502, b"", 503, "received unexpected HTTP status: 502 Bad Gateway"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_refused(
    stores: Stores, liar: Liar, status: int, body: bytes, code: int, words: str
) -> None:
    liar.lie("/manifests/", refusing(status, body))
    error = pull_error(stores, liar)
    assert error.message == words.format(name=f"{liar.host}/a/b")
    assert status_of(error) == code


@pytest.mark.parametrize(
    ("status", "body", "credentials", "code", "words"),
    [
        (401, b"", SECRET, 401, "unauthorized: incorrect username or password"),
        (403, errors("DENIED", "not you"), SECRET, 404, PULL_DENIED + "denied: not you"),
        (403, errors("DENIED", "not you"), ANONYMOUS, 404, PULL_DENIED + "denied: not you"),
        (404, b"nope", SECRET, 503,
         "{base} gives no tokens: the registry answered 404 Not Found: nope"),
        (429, errors("TOOMANYREQUESTS", "later"), ANONYMOUS, 429, "toomanyrequests: later"),
        (500, b"", ANONYMOUS, 503, LOST),
        (200, b"{}", ANONYMOUS, 503,
         "{base}: authorization server did not include a token in the response"),
        (200, b"<html>", ANONYMOUS, 503, "{base}: unable to decode token response"),
    ],
)  # fmt: skip
def test_a_token_server_that_gives_none(
    stores: Stores,
    liar: Liar,
    status: int,
    body: bytes,
    credentials: Credentials,
    code: int,
    words: str,
) -> None:
    liar.lie("/token", refusing(status, body))
    liar.lie(
        "/v2/",
        lambda h: h.refuse(
            401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="{liar.base}/token"'
        ),
    )
    error = pull_error(stores, liar, credentials)
    assert error.message == words.format(name=f"{liar.host}/a/b", base=liar.base)
    assert status_of(error) == code


def test_a_page_is_no_manifest(stores: Stores, liar: Liar) -> None:
    """A captive portal's, which `manifest inspect` would show else."""
    liar.lie("/manifests/", lambda h: h.answer(200, b"<html>Welcome!</html>", "text/html"))
    assert "sent something else than a manifest" in pull_error(stores, liar).message


def manifest_of(config: dict[str, object], kind: str, layer: bytes) -> MadeImage:
    """Return an image whose manifest names a configuration of the type `kind`."""
    encoded = json.dumps(config).encode()
    document = json.loads(IMAGE.manifest)
    document["config"] = {
        "mediaType": kind, "digest": digest_of(encoded), "size": len(encoded)
    }  # fmt: skip
    document["layers"][0] |= {"digest": digest_of(layer), "size": len(layer)}
    return MadeImage(encoded, (layer,), json.dumps(document).encode())


def test_what_is_no_image_for_us(stores: Stores, liar: Liar) -> None:
    helm = "application/vnd.cncf.helm.config.v1+json"
    liar.add(manifest_of({}, helm, IMAGE.layers[0]), "1")
    assert pull_error(stores, liar).message == f"unsupported media type {helm}"
    config = {**json.loads(IMAGE.config), "os": "windows"}
    docker = "application/vnd.docker.container.image.v1+json"
    liar.add(manifest_of(config, docker, IMAGE.layers[0]), "1")
    assert pull_error(stores, liar).message == (
        'image operating system "windows" cannot be used on this platform:'
        " operating system is not supported"
    )


@pytest.mark.parametrize(
    "served",
    [b"x" * 5000, gzip.compress(b"x" * 5000), b"\x1f\x8b broken"],
    ids=["plain", "packed", "broken"],
)
def test_a_layer_with_other_bytes_is_named_by_its_digest(
    stores: Stores, liar: Liar, served: bytes
) -> None:
    """Whatever unpacking them stumbles over first."""
    layer = gzip.compress(layer_of({"f": b"right"})).ljust(len(served), b"\0")
    image = manifest_of(json.loads(IMAGE.config), "application/vnd.oci.image.config.v1+json", layer)
    liar.add(image, "1")
    liar.blobs[digest_of(layer)] = served.ljust(len(layer), b"\0")
    with pytest.raises(Invalid, match=f"verification failed for digest {digest_of(layer)}"):
        stores.pull(f"{liar.host}/a/b:1")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "unauthorized: authentication required"),
        (403, "denied: requested access to the resource is denied"),
        (429, "toomanyrequests: too many requests"),
        (500, LOST),
    ],
)
def test_a_push_that_is_refused_by_an_answer_without_a_body(
    stores: Stores, liar: Liar, status: int, words: str
) -> None:
    """The first question of a push is a HEAD."""
    name = f"{liar.host}/a/b:1"
    stores.pull(name)
    liar.lie("/blobs/", refusing(status, b"unseen"), "HEAD")
    with pytest.raises(WherryError) as caught:
        stores.push(name)
    assert caught.value.message == words


def test_a_push_to_a_name_that_the_registry_does_not_take_ends_at_once(
    stores: Stores, liar: Liar
) -> None:
    name = f"{liar.host}/a/b:1"
    stores.pull(name)
    liar.blobs.clear()
    liar.lie("/uploads/", lambda h: h.refuse(400, "NAME_INVALID", "invalid name"), "POST")
    with pytest.raises(WherryError, match="name invalid: invalid name"):
        stores.push(name)
    assert liar.count("POST", "/uploads/") == 1
