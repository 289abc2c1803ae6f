"""Registries, token servers, mirrors and proxies that mean harm or are broken, beyond `test_pull`."""

from __future__ import annotations

import json
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.harness.registry import digest_of, index_of, make_image
from tests.transfer.liar import Handler, Liar
from tests.transfer.stores import Stores
from wherry.model.errors import Invalid, Unauthorized, Unavailable, WherryError
from wherry.registry import dialling, messages
from wherry.registry.answers import next_page
from wherry.registry.auth import parse_challenges
from wherry.registry.credentials import Credentials
from wherry.registry.endpoints import Endpoint, Proxies, RegistrySettings
from wherry.registry.hosts import find_endpoints

IMAGE = make_image([{"f": random.Random(6).randbytes(120_000)}])
LAYER = digest_of(IMAGE.layers[0])
SECRET = Credentials("u", "p")


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as liar:
        liar.add(IMAGE, "1")
        yield liar


@contextmanager
def answering(reply: Callable[[socket.socket], object]) -> Iterator[str]:
    """Give the HOST:PORT of a server that does `reply` with each connection."""
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            held.append(client)
            with suppress(OSError):
                reply(client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for client in held:
            client.close()
        thread.join()


def guard(liar: Liar, challenge: Callable[[], str], good: str = "Bearer good") -> None:
    def check(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == good:
            return False
        return handler.refuse(401, "UNAUTHORIZED", WWW_Authenticate=challenge())

    for method in ("GET", "HEAD"):
        liar.lies.insert(0, (method, "/v2/", check))


def shown(*liars: Liar) -> set[str]:
    return {head.get("authorization", "") for liar in liars for head in liar.headers}


class TestFraming:
    @pytest.mark.parametrize(
        "head",
        [
            b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            b"Content-Length: 5, 6\r\n\r\nabcdef",
            b"Content-Length: 1_0\r\n\r\n" + b"x" * 10,
            b"Content-Length: \xb2\r\n\r\nab",
            b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
            b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 400 + b"\r\nabcde",
            b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 5000 + b"\r\nabcde\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
            b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        ],
    )
    def test_lengths_that_are_none(self, stores: Stores, liar: Liar, head: bytes) -> None:
        def answer(handler: Handler) -> bool:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
            handler.close_connection = True
            return True

        liar.lie("/manifests/1", answer)
        with pytest.raises(Unavailable, match="127.0.0.1"):
            stores.pull(f"{liar.host}/a/b:1")

    def test_a_flood_of_1xx_ends(self, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(messages, "HEAD_SECONDS", 0.5)

        def flood(client: socket.socket) -> None:
            client.settimeout(30)
            while True:
                client.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500)

        with answering(flood) as host, pytest.raises(Unavailable):
            stores.pull(f"{host}/a/b:1")

    @pytest.mark.parametrize(
        "content_range",
        [
            "bytes 0-9/10",
            "bytes 5-",
            "0-0",
            "bytes */5",
            "bytes 99999999999999999999-1/1",
            "x" * 9999,
        ],
    )
    def test_a_whole_blob_as_an_odd_part(
        self, stores: Stores, liar: Liar, content_range: str
    ) -> None:
        """206 where nothing but all was asked for: its bytes count, and only if they are right."""
        data = IMAGE.layers[0][:10]
        liar.lie(LAYER, lambda h: h.answer(206, data, Content_Range=content_range))
        stores.downloads.limit(3, 1)
        with pytest.raises(WherryError):
            stores.pull(f"{liar.host}/a/b:1")
        assert stores.left_over()[1] == []

    def test_a_blob_that_is_compressed_on_its_way_is_refused(
        self, stores: Stores, liar: Liar
    ) -> None:
        import gzip

        data = gzip.compress(IMAGE.layers[0])
        liar.lie(LAYER, lambda h: h.answer(200, data, Content_Encoding="gzip"))
        stores.downloads.limit(3, 1)
        with pytest.raises(WherryError):
            stores.pull(f"{liar.host}/a/b:1")


class TestDocuments:
    def test_a_million_layers(self, stores: Stores, liar: Liar) -> None:
        """More than a manifest may hold, and as many as it can."""
        document = json.loads(IMAGE.manifest)
        [layer] = document["layers"]
        document["layers"] = [layer] * 5000
        liar.manifests["many"] = json.dumps(document).encode()
        with pytest.raises(Invalid, match="max depth exceeded"):
            stores.pull(f"{liar.host}/a/b:many")
        document["layers"] = [layer] * 30_000
        liar.manifests["more"] = json.dumps(document).encode()
        with pytest.raises(Unavailable, match="more than 4194304 bytes"):
            stores.pull(f"{liar.host}/a/b:more")

    def test_an_index_of_itself_by_a_registry_that_lies(self, stores: Stores, liar: Liar) -> None:
        entry = {"mediaType": "application/vnd.oci.image.index.v1+json", "size": 1}
        entry |= {"digest": "sha256:" + "0" * 64}
        circle = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        kind = str(entry["mediaType"])
        liar.lie("/manifests/", lambda h: h.answer(200, circle, kind))
        with pytest.raises(WherryError, match="digest"):
            stores.pull(f"{liar.host}/a/b:1")

    @pytest.mark.parametrize("size", [-1, 1 << 60, 1.5, "10", None])
    def test_sizes_that_are_none(self, stores: Stores, liar: Liar, size: object) -> None:
        document = json.loads(IMAGE.manifest)
        document["layers"][0]["size"] = size
        liar.manifests["odd"] = json.dumps(document).encode()
        with pytest.raises(Invalid):
            stores.pull(f"{liar.host}/a/b:odd")

    def test_a_tag_that_changes_between_two_requests(self, stores: Stores, liar: Liar) -> None:
        """An image is what its first answer said: later ones go by digest."""
        other = make_image([{"other": b"1"}])
        liar.add(other)
        liar.manifests["moves"] = index_of((IMAGE, "amd64", ""))

        def move(handler: Handler) -> bool:
            liar.manifests["moves"] = other.manifest
            return False

        liar.lie(IMAGE.digest, move)
        assert str(stores.pull(f"{liar.host}/a/b:moves").image.id) == IMAGE.id


class TestCredentials:
    @pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
    def test_a_storage_behind_a_redirect_that_asks_is_shown_nothing(
        self, stores: Stores, liar: Liar, scheme: str
    ) -> None:
        with Liar() as storage, Liar() as thief:
            thief.lie("/token", lambda h: h.answer(200, b'{"token": "good"}'))
            challenge = f'{scheme} realm="{thief.base}/token",service="x"'
            liar.lie(LAYER, lambda h: h.answer(307, Location=f"{storage.base}/{LAYER}"))
            storage.lie("", lambda h: h.refuse(401, "UNAUTHORIZED", WWW_Authenticate=challenge))
            stores.downloads.limit(3, 1)
            with pytest.raises(WherryError):
                stores.pull(f"{liar.host}/a/b:1", credentials=SECRET)
            assert shown(storage, thief) <= {""}
            assert thief.requests == []

    def test_a_token_server_that_sends_elsewhere_takes_no_secret_along(
        self, stores: Stores, liar: Liar
    ) -> None:
        with Liar() as server, Liar() as thief:
            thief.lie("/token", lambda h: h.answer(200, b'{"token": "good"}'))
            thief.lie("/token", lambda h: h.answer(200, b'{"token": "good"}'), "POST")
            for method in ("GET", "POST"):
                server.lie(
                    "/token", lambda h: h.answer(307, Location=f"{thief.base}/token"), method
                )
            guard(liar, lambda: f'Bearer realm="{server.base}/token"')
            stores.pull(f"{liar.host}/a/b:1", credentials=SECRET)
            assert shown(thief) == {""}
            assert "account=u" in server.requests[0]
            count = len(thief.requests)
            with pytest.raises(Invalid, match="takes secrets along"):
                stores.pull(f"{liar.host}/a/b:1", credentials=Credentials(identity_token="s3cr3t"))
            assert len(thief.requests) == count

    @pytest.mark.parametrize(
        "answer",
        [
            {"token": None, "access_token": "good", "refresh_token": None, "expires_in": None},
            {"token": "good", "expires_in": 0},
            {"token": "good", "expires_in": -5},
            {"token": "good", "expires_in": 10**400},
            {"token": "good", "expires_in": 1e300, "issued_at": "1970-01-01T00:00:00Z"},
            {"access_token": "good", "expires_in": 1.5, "scope": "", "token_type": 5},
        ],
    )
    def test_odd_answers_that_hold_a_token(
        self, stores: Stores, liar: Liar, answer: dict[str, object]
    ) -> None:
        liar.lie("/token", lambda h: h.answer(200, json.dumps(answer).encode()))
        guard(liar, lambda: f'Bearer realm="{liar.base}/token"')
        stores.pull(f"{liar.host}/a/b:1")

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b"x" * (2 << 20)),
            (200, b"[" * 100_000),
            (200, b""),
            (200, b'"good"'),
            (204, b""),
            (500, b"<html>"),
            (401, b'{"details": "expired\x1b[2J"}'),
            (200, b'{"token": "' + b"x" * 500_000 + b'"}'),
        ],
    )
    def test_answers_that_hold_none(
        self, stores: Stores, liar: Liar, status: int, body: bytes
    ) -> None:
        liar.lie("/token", lambda h: h.answer(status, body))
        guard(liar, lambda: f'Bearer realm="{liar.base}/token"')
        with pytest.raises((Unauthorized, Unavailable)) as caught:
            stores.pull(f"{liar.host}/a/b:1", credentials=SECRET)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize(
        "challenge",
        [
            "Bearer", "Negotiate", "Bearer realm=", 'Bearer realm="', "Bearer service=x", ",,,", "",
            'Bearer realm="http://u:p@127.0.0.1:1/token"', "Digest realm=x, nonce=y",
        ],
    )  # fmt: skip
    def test_challenges_that_nobody_can_answer(
        self, stores: Stores, liar: Liar, challenge: str
    ) -> None:
        guard(liar, lambda: challenge)
        with pytest.raises(WherryError):
            stores.pull(f"{liar.host}/a/b:1", credentials=SECRET)
        assert shown(liar) == {""}

    def test_challenges_of_any_length_are_parsed_at_once(self) -> None:
        start = time.process_time()
        for text in (
            "a=b," * 15_000,
            "A " * 30_000,
            'B x="' + '\\"' * 30_000,
            " " * 60_000,
            "," * 60_000,
        ):
            parse_challenges(text)
        assert time.process_time() - start < 2

    def test_basic_is_chosen_where_bearer_is_not_offered(self, stores: Stores, liar: Liar) -> None:
        guard(liar, lambda: 'Negotiate, basic REALM="x, y"', "Basic dTpw")
        stores.pull(f"{liar.host}/a/b:1", credentials=SECRET)
        assert shown(liar) == {"", "Basic dTpw"}


class TestMirrors:
    def endless(self, client: socket.socket) -> None:
        client.settimeout(30)
        while True:
            client.sendall(b"x" * 65536)

    @pytest.mark.parametrize(
        "reply",
        [
            lambda client: client.close(),
            lambda client: client.sendall(b"SSH-2.0-x\r\n"),
            lambda client: (
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort")
                or client.shutdown(socket.SHUT_WR)
            ),
            lambda client: client.sendall(b"HTTP/1.1 200 OK\r\n\r\n<html>") or client.close(),
            lambda client: client.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
            lambda client: client.sendall(
                b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: Basic\r\n\r\n"
            ),
            lambda client: client.sendall(
                b"HTTP/1.1 302 No\r\nContent-Length: 0\r\nLocation: file:///etc\r\n\r\n"
            ),
            lambda client: None,
            endless,
        ],
    )
    def test_whatever_one_does_the_next_is_asked(
        self,
        stores: Stores,
        tmp_path: Path,
        liar: Liar,
        reply: Callable[..., object],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("HEAD_SECONDS", "IDLE_SECONDS"):
            monkeypatch.setattr(messages, name, 0.5)
        monkeypatch.setattr(dialling, "_HANDSHAKE_SECONDS", 0.5)
        act = (lambda client: self.endless(client)) if reply is TestMirrors.endless else reply
        with answering(act) as mirror:
            folder = tmp_path / "certs.d" / liar.host
            folder.mkdir(parents=True)
            (folder / "hosts.toml").write_text(
                f'server = "{liar.base}"\n[host."http://{mirror}"]\n[host."https://{mirror}"]\n'
            )
            stores.settings = RegistrySettings(folders=(tmp_path / "certs.d",))
            assert str(stores.pull(f"{liar.host}/a/b:1").image.id) == IMAGE.id


class TestHostsFiles:
    """Forms of containerd's docs/hosts.md that are rarer."""

    @pytest.mark.parametrize(
        ("text", "ways"),
        [
            ("", ["https://r.x/v2"]),
            ('server = ""', ["https://r.x/v2"]),
            ('server = "other.x"', ["https://other.x/v2"]),
            ('server = "https://other.x/v2/"', ["https://other.x/v2"]),
            ('server = "https://other.x/base"', ["https://other.x/base/v2"]),
            ('server = "https://other.x/v2/base"\noverride_path = true', ["https://other.x/v2/base"]),
            ('[host."m.x:8080"]', ["https://m.x:8080/v2", "https://r.x/v2"]),
            ('[host."http://[::1]:5000"]', ["http://[::1]:5000/v2", "https://r.x/v2"]),
            ('[host."localhost:5000"]', ["http://localhost:5000/v2", "https://r.x/v2"]),
            ('[host."https://m.x"]\ndial_timeout = "3s"', ["https://m.x/v2", "https://r.x/v2"]),
            ('[host."https://b.x"]\n[host."https://a.x"]', ["https://b.x/v2", "https://a.x/v2", "https://r.x/v2"]),
            ("unknown = 1\n[plugin]\nx = 2", ["https://r.x/v2"]),
        ],
    )  # fmt: skip
    def test_where_it_leads(self, tmp_path: Path, text: str, ways: list[str]) -> None:
        assert [f"{e.origin}{e.path}" for e in self.found(tmp_path, text)] == ways

    def test_clients_come_in_all_forms(self, tmp_path: Path) -> None:
        base = tmp_path / "r.x"
        one, two = str(base / "a.pem"), str(base / "k.pem")
        for text, pairs in (
            ('client = "a.pem"', [(one, one)]),
            ('client = ["a.pem", "k.pem"]', [(one, one), (two, two)]),
            ('client = [["a.pem", "k.pem"]]', [(one, two)]),
            ('client = ["a.pem", ["a.pem", "k.pem"]]', [(one, one), (one, two)]),
            ('client = [["a.pem", ""]]', [(one, one)]),
            ('client = "/abs/c.pem"', [("/abs/c.pem", "/abs/c.pem")]),
        ):
            [mirror, _] = self.found(tmp_path, f'[host."https://m.x"]\n{text}')
            assert list(mirror.trust.certificates) == pairs, text

    def test_authorities_come_in_all_forms(self, tmp_path: Path) -> None:
        base = tmp_path / "r.x"
        for text, paths in (
            ('ca = "a.pem"', [str(base / "a.pem")]),
            ('ca = ["a.pem", "/b.pem"]', [str(base / "a.pem"), "/b.pem"]),
        ):
            [mirror, _] = self.found(tmp_path, f'[host."https://m.x"]\n{text}')
            assert list(mirror.trust.authorities) == paths

    def test_a_mirror_for_every_registry(self, tmp_path: Path) -> None:
        folder = tmp_path / "_default"
        folder.mkdir()
        (folder / "hosts.toml").write_text('[host."https://m.x"]\n')
        settings = RegistrySettings(folders=(tmp_path,))
        mirror, own = find_endpoints("any.x:5000", settings)
        assert (mirror.query, str(own.origin)) == ("ns=any.x:5000", "https://any.x:5000")

    @staticmethod
    def found(tmp_path: Path, text: str) -> list[Endpoint]:
        folder = tmp_path / "r.x"
        folder.mkdir(exist_ok=True)
        (folder / "hosts.toml").write_text(text)
        return find_endpoints("r.x", RegistrySettings(folders=(tmp_path,)))


class TestProxies:
    @pytest.mark.parametrize(
        "reply",
        [
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 502 \x1b[2J\r\n\r\n",
            b"no http at all\r\n\r\n",
            b"",
        ],
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_one_that_does_not_let_through_is_named(
        self, stores: Stores, tmp_path: Path, reply: bytes, scheme: str
    ) -> None:
        def answer(client: socket.socket) -> None:
            client.recv(65536)
            client.sendall(reply)
            client.close()

        folder = tmp_path / "certs.d" / "far.invalid"
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "{scheme}://far.invalid"\n')
        with answering(answer) as host:
            stores.settings = RegistrySettings(
                folders=(tmp_path / "certs.d",), proxies=Proxies(f"http://{host}", f"http://{host}")
            )
            with pytest.raises(WherryError) as caught:
                stores.pull("far.invalid/a:1", credentials=SECRET)
            assert str(caught.value).isprintable()

    def test_the_proxy_s_password_is_not_the_registry_s(
        self, stores: Stores, tmp_path: Path, liar: Liar
    ) -> None:
        """Neither is told the other's: a tunnel's head has no Authorization, what is in it no proxy's."""
        heads: list[str] = []

        def answer(client: socket.socket) -> None:
            heads.append(client.recv(65536).decode())
            client.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            client.close()

        with answering(answer) as host:
            proxy = f"http://who:secret@{host}"
            stores.settings = RegistrySettings(folders=(), proxies=Proxies("", proxy))
            with pytest.raises(WherryError) as caught:
                stores.pull("far.invalid/a:1", credentials=SECRET)
            assert "secret" not in str(caught.value)
            assert "\r\nProxy-Authorization: Basic" in heads[0]
            assert "\r\nAuthorization" not in heads[0]


class TestTls:
    @pytest.fixture(scope="class")
    @staticmethod
    def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Server certificates by one authority: good, for another host, expired; and one by nobody."""
        folder = tmp_path_factory.mktemp("tls")

        def openssl(*words: str) -> None:
            subprocess.run(
                ["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=30
            )

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
        openssl("req", "-x509", *key, "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
        openssl("req", "-x509", *key, "alone.key", "-out", "alone.pem", "-subj", "/CN=alone",
                "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
        for name, where, days in (("good", "IP:127.0.0.1", "2"), ("other", "DNS:other.x", "2"),
                                  ("expired", "IP:127.0.0.1", "-1")):  # fmt: skip
            (folder / "names").write_text(f"subjectAltName={where}\n")
            openssl("req", *key, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            lifetime = ("-days", days)
            if days == "-1":
                lifetime = ("-not_before", "20200101000000Z", "-not_after", "20200201000000Z")
                if (
                    subprocess.run(
                        ["openssl", "x509", "-help"], capture_output=True, check=False, timeout=30
                    ).stderr.find(b"-not_before")
                    < 0
                ):
                    lifetime = ("-days", "-1")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", *lifetime,
                    "-CAcreateserial", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
        return folder

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("good", "404|not found|closed"),
            ("other", "IP address mismatch|not valid for"),
            ("expired", "expired"),
            ("alone", "self.signed certificate"),
        ],
    )
    def test_only_a_good_certificate_lets_a_password_out(
        self, stores: Stores, certificates: Path, tmp_path: Path, name: str, reason: str
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        heard: list[bytes] = []

        def answer(client: socket.socket) -> None:
            client.settimeout(30)
            with suppress(ssl.SSLError), context.wrap_socket(client, server_side=True) as secure:
                heard.append(secure.recv(65536))
                secure.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

        with answering(answer) as host:
            folder = tmp_path / "certs.d" / host
            folder.mkdir(parents=True)
            (folder / "ca.crt").write_bytes((certificates / "ca.pem").read_bytes())
            stores.settings = RegistrySettings(folders=(tmp_path / "certs.d",))
            token = Credentials(registry_token="t0p")
            with pytest.raises(WherryError, match=reason):
                stores.pull(f"{host}/a/b:1", credentials=token)
        assert bool(heard and b"t0p" in heard[0]) is (name == "good")

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            (b"", "tls"),
            (b"\x16\x03\x01\xff\xff" + b"x" * 100, "tls"),
            # Docker's words, which people look up.
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "server gave HTTP response to HTTPS client"),
            (b"\x15\x03\x03\0\x02\x02\x28", "tls"),
        ],
    )
    def test_what_is_no_tls_is_refused(
        self, stores: Stores, tmp_path: Path, reply: bytes, words: str
    ) -> None:
        def answer(client: socket.socket) -> None:
            client.recv(65536)
            client.sendall(reply)
            client.close()

        with answering(answer) as host:
            folder = tmp_path / "certs.d" / host
            folder.mkdir(parents=True)
            (folder / "hosts.toml").write_text(f'server = "https://{host}"')
            stores.settings = RegistrySettings(folders=(tmp_path / "certs.d",))
            with pytest.raises(Unavailable, match=words):
                stores.pull(f"{host}/a/b:1", credentials=SECRET)


@pytest.mark.parametrize("piece", ["<", "<>", "<>;", "<a>; x, ", "<>  ", '<>;rel="', "<>;rel=nex,"])
def test_a_link_is_read_in_time_linear_in_its_length(piece: str) -> None:
    """The loop of wherryd stands still meanwhile: the interpreter lets go of nothing within a match."""
    header = piece * (60_000 // len(piece))
    before = time.thread_time()
    assert next_page(header) is None
    assert next_page(header + '<next>; rel="next"') == "next"
    assert time.thread_time() - before < 1
