"""The ways to a registry: mirrors, folders of hosts, TLS with authorities of one's own, proxies."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.registry import DockerRegistry, make_image, upload
from tests.transfer.liar import Liar
from tests.transfer.stores import Stores
from wherry.model.errors import Invalid, Unavailable, WherryError
from wherry.model.ids import Reference
from wherry.registry.credentials import Credentials
from wherry.registry.dialling import Unreachable, Untrusted
from wherry.registry.endpoints import Origin, Proxies, RegistrySettings, is_insecure
from wherry.registry.hosts import find_endpoints

IMAGE = make_image([{"a": b"a"}])


def settings(tmp_path: Path, **more: object) -> RegistrySettings:
    return RegistrySettings(folders=(tmp_path / "certs.d",), **more)  # pyright: ignore


def hosts_toml(tmp_path: Path, domain: str, text: str) -> None:
    folder = tmp_path / "certs.d" / domain
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(text)


def ways(domain: str, found: RegistrySettings) -> list[str]:
    """Return the endpoints as text."""
    return [
        f"{e.origin}{e.path}" + ("" if e.trust.verify else " unverified")
        for e in find_endpoints(domain, found)
    ]


def test_where_registries_are(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    assert ways("docker.io", plain) == ["https://registry-1.docker.io/v2"]
    assert ways("a.b:5000", plain) == ["https://a.b:5000/v2"]
    assert ways("127.0.0.1:5000", plain)[0] == "http://127.0.0.1:5000/v2"
    assert ways("localhost", plain)[1] == "https://localhost/v2 unverified"
    assert ways("[::1]:5000", plain)[0] == "http://[::1]:5000/v2"
    open_ = settings(tmp_path, insecure=("a.b:5000", "10.0.0.0/8", "c"))
    assert ways("a.b:5000", open_) == ["https://a.b:5000/v2 unverified", "http://a.b:5000/v2"]
    assert ways("a.b:5001", open_) == ["https://a.b:5001/v2"]
    assert ways("10.1.2.3", open_) == ["https://10.1.2.3/v2 unverified", "http://10.1.2.3/v2"]
    mirrored = settings(tmp_path, mirrors=("https://m.x", "http://n.x/hub"))
    assert ways("docker.io", mirrored) == [
        "https://m.x/v2",
        "http://n.x/hub/v2",
        "https://registry-1.docker.io/v2",
    ]
    assert ways("a.b", mirrored) == ["https://a.b/v2"]


def test_a_hosts_file_says_where(tmp_path: Path) -> None:
    hosts_toml(
        tmp_path,
        "a.b_5000_",
        """
        server = "https://real.b"
        [host."https://mirror.b"]
          capabilities = ["pull", "resolve"]
          ca = "ca.crt"
          client = [["client.cert", "client.key"]]
          skip_verify = true
          [host."https://mirror.b".header]
            x-team = ["one", "two"]
        [host."http://other.b/path"]
          override_path = true
        """,
    )
    mirror, other, real = find_endpoints("a.b:5000", settings(tmp_path))
    folder = tmp_path / "certs.d" / "a.b_5000_"
    assert (mirror.pull, mirror.push, mirror.mirror) == (True, False, True)
    assert mirror.query == "ns=a.b:5000"
    assert mirror.trust.authorities == (str(folder / "ca.crt"),)
    assert mirror.trust.certificates == ((str(folder / "client.cert"), str(folder / "client.key")),)
    assert not mirror.trust.verify
    assert mirror.headers == (("x-team", "one, two"),)
    assert (str(other.origin), other.path) == ("http://other.b", "/path")
    assert (str(real.origin), real.mirror) == ("https://real.b", False)


@pytest.mark.parametrize(
    "text",
    ["x = [", "host = 1", '[host."ftp://x"]', '[host."https://x"]\ncapabilities = ["fly"]',
     '[host."https://x"]\nca = 5', '[host."https://x"]\nclient = [["a","b","c"]]', "\0"],
)  # fmt: skip
def test_a_malformed_hosts_file_is_named(tmp_path: Path, text: str) -> None:
    hosts_toml(tmp_path, "a.b", text)
    with pytest.raises(Invalid):
        find_endpoints("a.b", settings(tmp_path))


def test_a_mirror_is_asked_first_and_told_nothing(
    new_stores: Callable[[str], Stores], tmp_path: Path
) -> None:
    stores = new_stores("data")
    with Liar() as mirror, Liar() as real:
        mirror.add(IMAGE, "1")
        hosts_toml(
            tmp_path,
            real.host,
            f'server = "{real.base}"\n[host."{mirror.base}"]\n[host."http://127.0.0.1:1"]\n',
        )
        stores.settings = settings(tmp_path)
        stores.pull(f"{real.host}/a/b:1", credentials=Credentials("u", "p", registry_token="t"))
        assert mirror.requests and not real.requests
        assert not [h for h in mirror.headers if "authorization" in h]
        # What it has not is asked of the registry itself.
        real.add(make_image([{"b": b"b"}]), "2")
        stores.pull(f"{real.host}/a/b:2")
        assert real.count("GET", "/manifests/2") == 1


def test_a_mirror_that_lies_is_passed_over(
    new_stores: Callable[[str], Stores], tmp_path: Path
) -> None:
    stores = new_stores("data")
    with Liar() as mirror, Liar() as real:
        real.add(IMAGE, "1")
        mirror.lie("/manifests/", lambda h: h.answer(200, b'{"schemaVersion":2}'))
        hosts_toml(tmp_path, real.host, f'server = "{real.base}"\n[host."{mirror.base}"]\n')
        stores.settings = settings(tmp_path)
        stores.pull(f"{real.host}/a/b@{IMAGE.digest}")
        assert mirror.requests


class Authority:
    """A certificate authority in a folder, and a certificate by it for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
        self._openssl(
            "req", "-x509", *key, "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=tests"
        )
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        self._openssl("req", *key, "server.key", "-out", "server.csr", "-subj", "/CN=registry")
        self._openssl(
            "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.crt", "-days", "2", "-extfile", "names",
        )  # fmt: skip

    def _openssl(self, *words: str) -> None:
        subprocess.run(
            ["openssl", *words], cwd=self.folder, check=True, capture_output=True, timeout=30
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerRegistry]:
    """A docker-registry with TLS, by an authority that nobody knows."""
    folder = authority.folder
    tls = (str(folder / "server.crt"), str(folder / "server.key"))
    with DockerRegistry(tmp_path_factory.mktemp("secure"), tls=tls) as registry:
        yield registry


def test_tls_with_an_authority_of_ones_own(
    new_stores: Callable[[str], Stores],
    tmp_path: Path,
    secure: DockerRegistry,
    authority: Authority,
) -> None:
    stores = new_stores("data")
    made = tmp_path / "certs.d" / secure.host
    made.mkdir(parents=True)
    (made / "ca.crt").write_bytes((authority.folder / "ca.crt").read_bytes())
    with Liar() as liar:
        liar.add(IMAGE, "1")
        image = stores.pull(f"{liar.host}/a:1").image
    stores.store.tag(image.id, Reference.parse(f"{secure.host}/a:1"))
    stores.settings = settings(tmp_path)
    assert str(stores.push(f"{secure.host}/a:1")) == IMAGE.digest
    other = new_stores("other")
    other.settings = stores.settings
    assert str(other.pull(f"{secure.host}/a:1").digest) == IMAGE.digest


def test_an_unknown_authority_is_refused_unless_it_may_be(
    new_stores: Callable[[str], Stores], tmp_path: Path, secure: DockerRegistry
) -> None:
    stores = new_stores("data")
    hosts_toml(tmp_path, secure.host, f'server = "https://{secure.host}"')
    stores.settings = settings(tmp_path)
    with pytest.raises(Untrusted, match="failed to verify certificate: unable to get local issuer"):
        stores.pull(f"{secure.host}/a:1")
    # On the loopback it need not be known, as with Docker. The way without TLS is tried first there,
    # and the server answers it with 400.
    stores.settings = RegistrySettings(folders=())
    with pytest.raises(WherryError, match="manifest unknown"):
        stores.pull(f"{secure.host}/none:1")


class Proxy:
    """A proxy that keeps the heads it saw; it takes every name for 127.0.0.1."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            self.heads.append(head.decode())
            method, target, _ = head.decode().split("\r\n")[0].split(" ")
            authority = target if method == "CONNECT" else Origin.parse(target).authority
            with socket.create_connection(
                ("127.0.0.1", int(authority.rpartition(":")[2]))
            ) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = "/" + target.split("/", 3)[3]
                    head = head.replace(target.encode(), path.encode(), 1)
                    server.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                if method == "CONNECT":
                    pump(client, server)
                back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


def test_a_proxy_is_used(
    new_stores: Callable[[str], Stores], tmp_path: Path, proxy: Proxy, secure: DockerRegistry
) -> None:
    stores = new_stores("data")
    url = f"http://me:pass@127.0.0.1:{proxy.port}"
    stores.settings = settings(tmp_path, proxies=Proxies(url, url, "direct.invalid"))
    with pytest.raises(Unavailable, match="failed to verify certificate"):
        stores.pull(f"far.invalid:{secure.port}/a:1")
    assert proxy.heads[0].startswith(f"CONNECT far.invalid:{secure.port} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cGFzcw==" in proxy.heads[0]
    with Liar() as liar:
        liar.add(IMAGE, "1")
        name = f"far.invalid:{liar.port}"
        hosts_toml(tmp_path, name, f'server = "http://{name}"')
        stores.pull(f"{name}/a:1")
        assert proxy.heads[-1].startswith(f"GET http://{name}/v2/a/")
    with pytest.raises(Unreachable, match="lookup of direct.invalid"):
        stores.pull("direct.invalid/a:1")


@pytest.mark.parametrize(
    ("none", "host", "used"),
    [
        ("", "a.b", True),
        ("*", "a.b", False),
        ("a.b", "a.b", False),
        ("a.b", "x.a.b", False),
        (".a.b", "a.b", True),
        (".a.b", "x.a.b", False),
        ("b", "ab", True),
        ("a.b:443", "a.b", False),
        ("a.b:80", "a.b", True),
        ("10.0.0.0/8", "10.9.9.9", False),
        ("10.0.0.0/8", "11.9.9.9", True),
        ("x, a.b", "a.b", False),
        ("", "127.0.0.1", False),
        ("", "localhost", False),
    ],
)
def test_no_proxy(none: str, host: str, used: bool) -> None:
    proxies = Proxies("http://p", "http://p", none)
    assert bool(proxies.choose(Origin("https", host, 443))) is used


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_setting_is_read(host: str, entry: str) -> None:
    is_insecure(host, 5000, (entry,))
    Proxies("", "http://p", entry).choose(Origin("https", host, 443))
    with suppress(Invalid):
        Origin.parse(host)


def test_a_plain_registry(registry: DockerRegistry, stores: Stores) -> None:
    upload(registry.base, "plain/it", IMAGE, "1")
    assert str(stores.pull(f"{registry.host}/plain/it:1").image.id) == IMAGE.id
