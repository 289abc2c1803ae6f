"""Bearer tokens: fetched where a 401 says, renewed, kept from others; and the grammar of challenges."""

from __future__ import annotations

import base64
import json
import random
import threading
import urllib.parse
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.registry import make_image
from tests.transfer.liar import Handler, Liar
from tests.transfer.stores import Stores
from wherry.model.errors import NotFound, Unauthorized, Unavailable
from wherry.registry.auth import parse_challenges
from wherry.registry.credentials import ANONYMOUS, Credentials, decode_header
from wherry.registry.faults import refusal

IMAGE = make_image([{f"f{n}": random.Random(n).randbytes(5000)} for n in range(3)])


class Tokens:
    """A token server on a host of its own, and the guard of the registry that trusts it."""

    def __init__(self, liar: Liar, server: Liar) -> None:
        self.issued: list[str] = []
        self.asked: list[dict[str, list[str]]] = []
        self.headers: list[str] = []
        self.valid: set[str] = set()
        self.answer: dict[str, object] = {}
        self.uses = 1000
        self.realm = f"{server.base}/token"
        self._lock = threading.Lock()
        liar.lies.insert(0, ("GET", "/v2/", self.guard))
        liar.lies.insert(0, ("HEAD", "/v2/", self.guard))
        server.lie("/token", self.issue)
        server.lie("/token", self.issue, "POST")

    def guard(self, handler: Handler) -> bool:
        with self._lock:
            token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
            if token in self.valid:
                self.uses -= 1
                if not self.uses:
                    self.valid.clear()
                return False
        scope = "repository:a/b:pull"
        return handler.refuse(
            401,
            "UNAUTHORIZED",
            WWW_Authenticate=f'Bearer realm="{self.realm}",service="the, service",scope="{scope}"',
        )

    def issue(self, handler: Handler) -> bool:
        with self._lock:
            query = handler.path.partition("?")[2]
            if handler.command == "POST":
                query = handler.body().decode()
            self.asked.append(urllib.parse.parse_qs(query))
            self.headers.append(handler.headers.get("Authorization", ""))
            token = f"token{len(self.issued)}"
            self.issued.append(token)
            self.valid.add(token)
            body = self.answer or {"token": token, "expires_in": 300}
        return handler.answer(200, json.dumps(body).encode())


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as liar:
        liar.add(IMAGE, "1")
        yield liar


@pytest.fixture
def tokens(liar: Liar) -> Iterator[Tokens]:
    with Liar() as server:
        yield Tokens(liar, server)


def test_an_anonymous_token(stores: Stores, liar: Liar, tokens: Tokens) -> None:
    stores.pull(f"{liar.host}/a/b:1")
    assert tokens.issued == ["token0"]
    assert tokens.asked == [{"service": ["the, service"], "scope": ["repository:a/b:pull"]}]
    assert tokens.headers == [""]


def test_a_token_for_a_name_and_password(stores: Stores, liar: Liar, tokens: Tokens) -> None:
    stores.pull(f"{liar.host}/a/b:1", credentials=Credentials("u", "p"))
    assert tokens.headers == ["Basic dTpw"]
    assert tokens.asked[0]["account"] == ["u"]
    # The registry itself never sees the password.
    shown = {h.get("authorization", "") for h in liar.headers}
    assert shown == {"", "Bearer token0"}


def test_an_identity_token_is_posted(stores: Stores, liar: Liar, tokens: Tokens) -> None:
    stores.pull(f"{liar.host}/a/b:1", credentials=Credentials(identity_token="secret"))
    assert tokens.asked[0]["grant_type"] == ["refresh_token"]
    assert tokens.asked[0]["refresh_token"] == ["secret"]


def test_a_registry_token_is_sent_as_it_is(stores: Stores, liar: Liar, tokens: Tokens) -> None:
    tokens.valid.add("mine")
    stores.pull(f"{liar.host}/a/b:1", credentials=Credentials(registry_token="mine"))
    assert tokens.issued == []


def test_a_token_that_ends_meanwhile_is_renewed(stores: Stores, liar: Liar, tokens: Tokens) -> None:
    tokens.uses = 2
    stores.pull(f"{liar.host}/a/b:1")
    assert len(tokens.issued) == 2


def test_a_wrong_token_is_not_tried_for_ever(stores: Stores, liar: Liar, tokens: Tokens) -> None:
    tokens.answer = {"token": "never valid"}
    with pytest.raises(NotFound, match="pull access denied for .*may require 'docker login'"):
        stores.pull(f"{liar.host}/a/b:1")
    assert len(tokens.issued) <= 2


@pytest.mark.parametrize(
    "realm",
    ["", "file:///etc/passwd", "/token", "http://[", "https://x y/", "javascript:1", "http:///x"],
)
def test_a_realm_that_is_no_place_is_refused(
    stores: Stores, liar: Liar, tokens: Tokens, realm: str
) -> None:
    tokens.realm = realm
    with pytest.raises(Exception, match="token server|lookup|invalid URL|refused"):
        stores.pull(f"{liar.host}/a/b:1")


@pytest.mark.parametrize(
    "answer",
    [{"x": 1}, {"token": 5}, {"token": "a\r\nX-Evil: 1"}, {"token": "x" * 100_000}, {"token": ""}],
)
def test_what_is_no_token_is_refused(
    stores: Stores, liar: Liar, tokens: Tokens, answer: dict[str, object]
) -> None:
    tokens.answer = answer
    with pytest.raises(Unavailable, match="not include a token|unable to decode token"):
        stores.pull(f"{liar.host}/a/b:1", credentials=Credentials("u", "p"))


def test_a_password_is_not_sent_without_tls_to_another_host(
    stores: Stores, liar: Liar, tokens: Tokens
) -> None:
    tokens.realm = "http://tokens.invalid/token"
    with pytest.raises(Unauthorized, match="credentials are not sent to http://tokens.invalid"):
        stores.pull(f"{liar.host}/a/b:1", credentials=Credentials("u", "p"))


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        ("Basic", [("basic", {})]),
        (
            'Bearer realm="https://x/t?a=b",service=s,scope="r:a:pull,push"',
            [("bearer", {"realm": "https://x/t?a=b", "service": "s", "scope": "r:a:pull,push"})],
        ),
        (
            'Basic realm="x", Bearer realm="y"',
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
        ),
        ('Bearer realm="a\\"b"', [("bearer", {"realm": 'a"b'})]),
        ("", []),
        ("=,=", []),
    ],
)
def test_challenges(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(header)] == found


@given(st.text(alphabet='Bb "=,\\a1\t', max_size=60))
def test_any_header_is_parsed(header: str) -> None:
    parse_challenges(header)


@given(st.binary(max_size=200))
def test_any_refusal_is_read(body: bytes) -> None:
    assert refusal(500, "x", body).message


@given(st.text(max_size=80))
def test_any_header_of_a_client_s_is_read(text: str) -> None:
    decode_header(text)


def test_what_a_client_s_header_says() -> None:
    def header(document: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()

    assert decode_header(header({"username": "u", "password": "p"})) == Credentials("u", "p")
    auth = base64.b64encode(b"u:p:q").decode()
    assert decode_header(header({"auth": auth})) == Credentials("u", "p:q")
    assert decode_header(header({"identitytoken": "t"}).rstrip("=")).identity_token == "t"
    assert decode_header(header([])) == ANONYMOUS
