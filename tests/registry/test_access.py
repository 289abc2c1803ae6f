"""Users, rights, tokens and TLS: who gets in, and what they may do there."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.registry.serving import Client, Reply, Running, registry, sha256
from wherry.kernel.passwords import matches
from wherry.model.errors import Invalid
from wherry.registry.server.access import parse_basic
from wherry.registry.server.rights import parse_rights
from wherry.registry.server.tokens import Scope, Tokens, load_key, parse_scopes
from wherry.registry.server.users import parse_htpasswd

RIGHTS = """
# repositories   who        may
public/**        *          pull
team/**          alice      pull,push
team/*           bob        pull
shared           @          pull,push
**               admin      pull,push,delete
"""


def crypt_line(user: str, password: str) -> str:
    """Return a line of an htpasswd file, its hash made by the C library."""
    import ctypes

    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = b"$2b$04$abcdefghijklmnopqrstuu"
    return f"{user}:{library.crypt(password.encode(), salt).decode()}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access")
    passwords = {"alice": "wonder", "bob": "builder", "admin": "root", "carol": "sing"}
    (folder / "users").write_text("".join(crypt_line(*item) for item in passwords.items()))
    (folder / "rights").write_text(RIGHTS)
    return folder


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Running]:
    flags = (
        f"--htpasswd={folder}/users",
        f"--rights={folder}/rights",
        "--metrics-listen=127.0.0.1:0",
    )
    with registry(folder / "root", *flags) as running:
        admin = Client(running.port, basic=basic("admin", "root"))
        for name in ("public/image", "team/app", "team/deep/app", "private"):
            admin.image(name, "v1")
        yield running


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def ask_token(port: int, user: str = "", password: str = "", *scopes: str, **more: str) -> Reply:
    client = Client(port, basic=basic(user, password) if user else "")
    query = urlencode(
        [("service", "wherry-registry"), *(("scope", s) for s in scopes), *more.items()]
    )
    return client("GET", f"/auth/token?{query}")


def token(port: int, user: str, password: str, *scopes: str) -> Client:
    reply = ask_token(port, user, password, *scopes)
    assert reply.status == 200, reply
    return Client(port, token=reply.json["token"])


class TestChallenge:
    def test_base_asks_who_you_are(self, guarded: Running) -> None:
        reply = guarded.client("GET", "/v2/")
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
        assert reply.headers["WWW-Authenticate"] == (
            f'Bearer realm="http://127.0.0.1:{guarded.port}/auth/token",service="wherry-registry"'
        )

    def test_names_the_scope(self, guarded: Running) -> None:
        reply = guarded.client("GET", "/v2/private/manifests/v1")
        assert reply.status == 401
        assert 'scope="repository:private:pull"' in reply.headers["WWW-Authenticate"]
        reply = guarded.client("POST", "/v2/team/app/blobs/uploads/")
        assert 'scope="repository:team/app:push,pull"' in reply.headers["WWW-Authenticate"]

    def test_a_strange_host_is_not_sent_back(self, guarded: Running) -> None:
        reply = guarded.client("GET", "/v2/", Host='evil"/x')
        assert "evil" not in reply.headers["WWW-Authenticate"]

    def test_a_push_is_refused_before_its_body(self, guarded: Running) -> None:
        head = (
            b"POST /v2/team/app/blobs/uploads/?digest=%b HTTP/1.1\r\nHost: x\r\n"
            % sha256(b"").encode()
        )
        with guarded.client.raw(head + b"Content-Length: 1000000000\r\n\r\n") as stream:
            assert stream.recv(12) == b"HTTP/1.1 401"


class TestBasic:
    @pytest.mark.parametrize("user", ["admin", "alice", "bob", "carol"])
    def test_wrong_passwords(self, guarded: Running, user: str) -> None:
        client = Client(guarded.port, basic=basic(user, "wrong"))
        assert client("GET", "/v2/").status == 401
        assert client("GET", "/v2/public/image/manifests/v1").status == 401

    @pytest.mark.parametrize("value", ["", "x", "!!!", "YQ==", base64.b64encode(b"\xff:").decode()])
    def test_odd_fields(self, guarded: Running, value: str) -> None:
        assert guarded.client("GET", "/v2/", Authorization=f"Basic {value}").status == 401
        assert guarded.client("GET", "/v2/", Authorization=f"Negotiate {value}").status == 401
        assert guarded.client("GET", "/v2/", Authorization=f"Bearer {value}").status == 401

    def test_rights(self, guarded: Running) -> None:
        def may(client: Client, name: str) -> str:
            pull = client("GET", f"/v2/{name}/manifests/v1").status in (200, 404)
            push = client("POST", f"/v2/{name}/blobs/uploads/").status == 202
            delete = client("DELETE", f"/v2/{name}/manifests/none").status == 404
            return "".join(c for c, yes in zip("rwd", (pull, push, delete), strict=True) if yes)

        expected = {
            ("", ""): {"public/image": "r"},
            ("alice", "wonder"): {"public/image": "r", "team/app": "rw", "team/deep/app": "rw", "shared": "rw"},
            ("bob", "builder"): {"public/image": "r", "team/app": "r", "shared": "rw"},
            ("admin", "root"): dict.fromkeys(
                ("public/image", "team/app", "team/deep/app", "private", "shared"), "rwd"
            ),
        }  # fmt: skip
        for (user, password), rights in expected.items():
            client = Client(guarded.port, basic=basic(user, password) if user else "")
            for name in ("public/image", "team/app", "team/deep/app", "private", "shared"):
                assert may(client, name) == rights.get(name, ""), (user, name)

    def test_denied_is_said(self, guarded: Running) -> None:
        reply = Client(guarded.port, basic=basic("bob", "builder"))("GET", "/v2/private/tags/list")
        assert (reply.status, reply.code) == (403, "DENIED")

    def test_the_catalog_shows_what_may_be_read(self, guarded: Running) -> None:
        assert guarded.client("GET", "/v2/_catalog").status == 401
        reply = Client(guarded.port, basic=basic("bob", "builder"))("GET", "/v2/_catalog")
        assert reply.json["repositories"] == ["public/image", "team/app"]

    def test_a_mount_needs_the_right_to_read(self, guarded: Running) -> None:
        alice = Client(guarded.port, basic=basic("alice", "wonder"))
        admin = Client(guarded.port, basic=basic("admin", "root"))
        digest = admin.push("private", b"secret layer")
        for query in (f"mount={digest}&from=private", f"mount={digest}"):
            assert alice("POST", f"/v2/team/app/blobs/uploads/?{query}").status == 202
        assert alice("HEAD", f"/v2/team/app/blobs/{digest}").status == 404


class TestTokens:
    def test_a_token_does_what_it_is_for(self, guarded: Running) -> None:
        client = token(guarded.port, "alice", "wonder", "repository:team/app:pull,push")
        assert client("GET", "/v2/").status == 200
        assert client("GET", "/v2/team/app/manifests/v1").status == 200
        assert client("POST", "/v2/team/app/blobs/uploads/").status == 202
        reply = client("GET", "/v2/team/deep/app/manifests/v1")
        assert reply.status == 401
        assert 'error="insufficient_scope"' in reply.headers["WWW-Authenticate"]

    def test_a_token_grants_no_more_than_its_user_has(self, guarded: Running) -> None:
        client = token(guarded.port, "bob", "builder", "repository:team/app:pull,push,delete")
        assert client("GET", "/v2/team/app/manifests/v1").status == 200
        assert client("POST", "/v2/team/app/blobs/uploads/").status == 401

    def test_without_a_password(self, guarded: Running) -> None:
        reply = ask_token(
            guarded.port, "", "", "repository:public/image:pull repository:private:pull"
        )
        client = Client(guarded.port, token=reply.json["access_token"])
        assert client("GET", "/v2/").status == 200
        assert client("GET", "/v2/public/image/manifests/v1").status == 200
        assert client("GET", "/v2/private/manifests/v1").status == 401

    def test_a_wrong_password(self, guarded: Running) -> None:
        for user in ("alice", "nobody"):
            reply = ask_token(guarded.port, user, "wrong")
            assert (reply.status, reply.code) == (401, "UNAUTHORIZED")

    def test_what_is_forged_is_refused(self, guarded: Running) -> None:
        good = ask_token(guarded.port, "alice", "wonder", "repository:team/app:pull").json["token"]
        head, body, mac = good.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        claims["sub"] = "admin"
        forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
        for text in (
            f"{head}.{forged}.{mac}",
            f"{none}.{forged}.",
            f"{head}.{body}.",
            good[:-2],
            "a.b.c",
            "..",
        ):
            reply = Client(guarded.port, token=text)("GET", "/v2/")
            assert reply.status == 401
            assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]

    def test_refresh_tokens(self, guarded: Running) -> None:
        reply = ask_token(guarded.port, "alice", "wonder", offline_token="true")
        refresh = reply.json["refresh_token"]
        assert Client(guarded.port, token=refresh)("GET", "/v2/").status == 401
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh,
            "service": "wherry-registry",
            "scope": "repository:team/app:pull",
        }
        again = guarded.client("POST", "/auth/token", urlencode(form).encode())
        client = Client(guarded.port, token=again.json["access_token"])
        assert client("GET", "/v2/team/app/manifests/v1").status == 200
        form["refresh_token"] = reply.json["token"]
        assert guarded.client("POST", "/auth/token", urlencode(form).encode()).status == 401

    def test_oauth_passwords(self, guarded: Running) -> None:
        form = {
            "grant_type": "password",
            "username": "bob",
            "password": "builder",
            "access_type": "offline",
        }
        reply = guarded.client("POST", "/auth/token", urlencode(form).encode())
        assert reply.status == 200 and reply.json["refresh_token"]
        form["password"] = "wrong"
        assert guarded.client("POST", "/auth/token", urlencode(form).encode()).status == 401
        assert guarded.client("POST", "/auth/token", b"grant_type=magic").status == 400

    def test_tokens_survive_a_restart(self, folder: Path, tmp_path: Path) -> None:
        with registry(tmp_path, f"--htpasswd={folder}/users") as first:
            text = ask_token(first.port, "bob", "builder", "repository:x:pull").json["token"]
        with registry(tmp_path, f"--htpasswd={folder}/users") as second:
            assert Client(second.port, token=text)("GET", "/v2/").status == 200

    def test_time_runs_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = Tokens(load_key(tmp_path), "service")
        text = tokens.issue("u", [Scope("repository", "a", frozenset(("pull",)))])
        bearer = tokens.verify(text)
        assert bearer is not None and bearer.allows("repository", "a", "pull")
        assert Tokens(load_key(tmp_path), "another").verify(text) is None
        monkeypatch.setattr("time.time", lambda: 1e11)
        assert tokens.verify(text) is None


def test_a_changed_file_counts_at_once(folder: Path, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(crypt_line("dave", "old"))
    with registry(tmp_path / "root", f"--htpasswd={users}") as running:
        old = Client(running.port, basic=basic("dave", "old"))
        refresh = ask_token(running.port, "dave", "old", offline_token="1").json["refresh_token"]
        assert old("GET", "/v2/").status == 200
        fresh = tmp_path / "fresh"
        fresh.write_text(crypt_line("dave", "new"))
        os.replace(fresh, users)
        assert old("GET", "/v2/").status == 401
        assert Client(running.port, basic=basic("dave", "new"))("GET", "/v2/").status == 200
        form = f"grant_type=refresh_token&refresh_token={quote(refresh)}".encode()
        assert running.client("POST", "/auth/token", form).status == 401
        users.unlink()
        assert Client(running.port, basic=basic("dave", "new"))("GET", "/v2/").status >= 400


def test_basic_alone(folder: Path, tmp_path: Path) -> None:
    with registry(tmp_path, f"--htpasswd={folder}/users", "--basic") as running:
        reply = running.client("GET", "/v2/")
        assert reply.headers["WWW-Authenticate"] == 'Basic realm="wherry registry"'
        assert Client(running.port, basic=basic("bob", "builder"))("GET", "/v2/").status == 200


def test_metrics(guarded: Running) -> None:
    # Where people are told apart, the counters have a listener of their own.
    assert guarded.client("GET", "/metrics").status == 404
    reply = Client(guarded.metrics)("GET", "/metrics")
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/plain")
    text = reply.body.decode()
    assert re.search(
        r'wherry_registry_requests_total\{method="GET",route="base",status="401"\} \d', text
    )
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{[^}]*\})? [0-9.e+-]+", line), line
    assert Client(guarded.metrics)("GET", "/v2/").status == 404


class TestTls:
    @pytest.fixture(scope="class")
    @staticmethod
    def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("tls")

        def openssl(*words: str) -> None:
            subprocess.run(
                ["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=30
            )

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority",
                "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        for name in ("server", "client"):
            openssl(
                "req",
                *key[:5],
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.csr",
                "-subj",
                f"/CN={name}",
            )
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                    "-CAcreateserial", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
        return folder

    def test_pull_and_push(self, certificates: Path, tmp_path: Path) -> None:
        flags = (f"--tls-cert={certificates}/server.pem", f"--tls-key={certificates}/server.key")
        with registry(tmp_path, *flags) as running:
            context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
            client = Client(running.port, tls=context)
            data = os.urandom(3_000_000)
            digest = client.push("a/b", data)
            assert client("GET", f"/v2/a/b/blobs/{digest}").body == data
            part = client("GET", f"/v2/a/b/blobs/{digest}", Range="bytes=1000000-2000000")
            assert part.body == data[1_000_000:2_000_001]
            # Who speaks no TLS learns nothing, and harms nobody.
            with running.client.raw(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n") as stream:
                assert b"200" not in stream.recv(100)
            assert client("GET", "/v2/").status == 200

    def test_clients_show_certificates(self, certificates: Path, tmp_path: Path) -> None:
        flags = [f"--tls-{n}={certificates}/{f}" for n, f in
                 (("cert", "server.pem"), ("key", "server.key"), ("client-ca", "ca.pem"))]  # fmt: skip
        with registry(tmp_path, *flags) as running:
            context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
            with pytest.raises((ssl.SSLError, ConnectionError)):
                Client(running.port, tls=context)("GET", "/v2/")
            context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
            assert Client(running.port, tls=context)("GET", "/v2/").status == 200


class TestFiles:
    def test_known_hashes(self) -> None:
        # A vector of the algorithm's authors.
        vector = b"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
        assert matches(b"U*U", vector) and not matches(b"U*V", vector)
        assert matches(b"U*U", vector.replace(b"2a", b"2y"))
        assert not matches(b"U*U\0", vector) and not matches(b"", b"") and not matches(b"x", b"*")

    @pytest.mark.parametrize(
        "line", ["alice", ":$2y$x", "alice:{SHA}x", "alice:plain", "a:$apr1$x$y", "\xff:$2y$1"]
    )
    def test_bad_htpasswd(self, line: str) -> None:
        with pytest.raises(Invalid, match="line 2"):
            parse_htpasswd(b"# comment\n" + line.encode("latin-1"), "users")

    @pytest.mark.parametrize("line", ["a b", "a b c d", "a b write", "a b pull,"])
    def test_bad_rights(self, line: str) -> None:
        with pytest.raises(Invalid, match="line 2"):
            parse_rights(f"\n{line}", "rights")

    @given(st.text(), st.text())
    def test_patterns_mean_themselves(self, left: str, right: str) -> None:
        rights = parse_rights("a.b/*/c x pull\n**/end x push", "rights")
        name = f"a.b/{left}/c"
        assert ("pull" in rights.allowed("x", name)) == ("/" not in left)
        assert not rights.allowed("x", f"aXb/{right}/c")

    @given(st.text())
    def test_scopes_and_fields_are_parsed_or_refused(self, text: str) -> None:
        for scope in parse_scopes([text, f"repository:{text}:pull"]):
            assert scope.kind in ("repository", "registry") and scope.actions
        parse_basic(text)
