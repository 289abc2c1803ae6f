"""Registries through a SOCKS 5 proxy: names are its to look up, as for Docker; what is refused is said."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.registry import make_image
from tests.transfer.liar import Liar
from tests.transfer.socks_server import SocksServer
from tests.transfer.stores import Stores
from wherry.model.errors import Invalid, Unsupported
from wherry.registry import socks
from wherry.registry.dialling import Unreachable
from wherry.registry.endpoints import Origin, Proxies, RegistrySettings
from wherry.registry.stopping import Stop, Stopped

IMAGE = make_image([{"a": b"a" * 200_000}])


def through(tmp_path: Path, proxy: str, registry: str) -> RegistrySettings:
    """Return settings for a registry without TLS that is reached by `proxy` alone."""
    folder = tmp_path / "certs.d" / registry
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(f'server = "http://{registry}"')
    return RegistrySettings(folders=(tmp_path / "certs.d",), proxies=Proxies(proxy, proxy))


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS5"])
@pytest.mark.parametrize("login", [None, ("me", "päss:word")], ids=["open", "password"])
def test_an_image_comes_and_goes(
    new_stores: Callable[[str], Stores],
    tmp_path: Path,
    scheme: str,
    login: tuple[str, str] | None,
) -> None:
    with Liar() as liar, SocksServer(login) as proxy:
        liar.add(IMAGE, "1")
        name = f"far.invalid:{liar.port}"
        who = "me:p%C3%A4ss%3Aword@" if login else ""
        stores = new_stores("data")
        stores.settings = through(tmp_path, f"{scheme}://{who}127.0.0.1:{proxy.port}", name)
        image = stores.pull(f"{name}/a/b:1").image
        assert set(proxy.asked) == {(3, "far.invalid", liar.port)}
        assert set(proxy.logins) == ({login} if login else set())
        # Not as a proxy of HTTP is asked, and told nothing of the password.
        assert all(line.split()[1].startswith("/v2/") for line in liar.requests)
        assert not any("proxy-authorization" in headers for headers in liar.headers)
        stores.store.tag(image.id, stores.reference(f"{name}/c/d:2"))
        assert str(stores.push(f"{name}/c/d:2")) == IMAGE.digest


def test_tls_is_with_the_registry_and_not_with_the_proxy(
    new_stores: Callable[[str], Stores], tmp_path: Path
) -> None:
    """The client's first bytes come after the proxy's last, none of them lost."""
    seen = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, SocksServer() as proxy:
        port: int = server.getsockname()[1]

        def look() -> None:
            with suppress(OSError):
                while True:
                    with server.accept()[0] as client:
                        if client.recv(3) == b"\x16\x03\x01":  # a TLS handshake's record
                            seen.set()

        looking = threading.Thread(target=look)
        looking.start()
        stores = new_stores("data")
        url = f"socks5://127.0.0.1:{proxy.port}"
        stores.settings = RegistrySettings(folders=(), proxies=Proxies(url, url))
        with pytest.raises(Exception, match="tls"):
            stores.pull(f"10.255.255.1:{port}/a:1")
        server.shutdown(socket.SHUT_RDWR)
        looking.join(20)
        assert seen.is_set()
        assert proxy.asked[0] == (1, "10.255.255.1", port)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (1, "general failure"),
        (2, "not allowed by its rules"),
        (5, "connection refused"),
        (99, "failure 99"),
    ],
)
def test_what_the_proxy_refuses_is_said(
    new_stores: Callable[[str], Stores], tmp_path: Path, verdict: int, words: str
) -> None:
    stores = new_stores("data")
    with SocksServer() as proxy:
        proxy.verdict = verdict
        stores.settings = through(tmp_path, f"socks5://127.0.0.1:{proxy.port}", "far.invalid")
        with pytest.raises(Unreachable) as told:
            stores.pull("far.invalid/a:1")
        assert told.value.message == (
            f"proxy 127.0.0.1:{proxy.port} refused far.invalid:80: {words}"
        )


def test_a_wrong_password_is_said(new_stores: Callable[[str], Stores], tmp_path: Path) -> None:
    stores = new_stores("data")
    with SocksServer(("me", "right")) as proxy:
        for who, words in (("me:wrong@", "password are wrong"), ("", "another user")):
            url = f"socks5://{who}127.0.0.1:{proxy.port}"
            stores.settings = through(tmp_path, url, "far.invalid")
            with pytest.raises(Unreachable, match=words) as told:
                stores.pull("far.invalid/a:1")
            assert "wrong@" not in str(told.value)


@pytest.mark.parametrize("data", [b"", b"\x04", b"HTTP/1.1 400 Bad", b"\x05\x07", b"\x05\x00\x05"])
def test_what_speaks_something_else_is_refused(
    new_stores: Callable[[str], Stores], tmp_path: Path, data: bytes
) -> None:
    stores = new_stores("data")
    with SocksServer() as proxy:
        proxy.answer = lambda client: client.sendall(data)
        stores.settings = through(tmp_path, f"socks5://127.0.0.1:{proxy.port}", "far.invalid")
        with pytest.raises(Unreachable, match=f"proxy 127.0.0.1:{proxy.port} refused"):
            stores.pull("far.invalid/a:1")


def test_a_proxy_that_says_nothing_is_left_when_the_pull_is_called_off(
    new_stores: Callable[[str], Stores], tmp_path: Path
) -> None:
    stores, stop = new_stores("data"), Stop()
    with SocksServer() as proxy:

        def silent(client: socket.socket) -> None:
            stop.set()
            while client.recv(100):
                pass

        proxy.answer = silent
        stores.settings = through(tmp_path, f"socks5://127.0.0.1:{proxy.port}", "far.invalid")
        with pytest.raises((Stopped, Unreachable)):
            stores.pull("far.invalid/a:1", stop=stop)


def test_where_a_proxy_is() -> None:
    assert Origin.of_proxy("socks5://p") == Origin("socks5", "p", 1080)
    assert Origin.of_proxy("socks5h://u:p@[::1]:9") == Origin("socks5h", "::1", 9)
    assert Origin.of_proxy("http://p") == Origin("http", "p", 80)
    assert Origin.of_proxy("socks5://p").authority == "p:1080"
    for text in ("socks5://", "socks5://p:x", "socks4://p"):
        with pytest.raises(Invalid):
            Origin.of_proxy(text)
    with pytest.raises(Unsupported, match="proxy p: http, https and socks5"):
        Proxies("", "socks4://u:p@p").choose(Origin("https", "a.b", 443))


@given(st.binary(max_size=600), st.text(max_size=300), st.booleans())
def test_whatever_a_proxy_answers_is_an_end(data: bytes, host: str, login: bool) -> None:
    """No answer makes it read more than the protocol has, or raise anything else."""
    sent: list[bytes] = []
    left = memoryview(data)
    taken = 0

    def receive(size: int) -> bytes:
        nonlocal taken
        assert 0 < size <= 257
        if taken + size > len(left):
            raise socks.SocksRefused("it closed the connection")
        taken += size
        return bytes(left[taken - size : taken])

    with suppress(socks.SocksRefused):
        socks.connect(sent.append, receive, host, 443, ("u", "p") if login else None)
        # It is through: the reply was a success, and not a byte more was taken.
        assert data[0] == 5 and data[1] in (0, 2)
    assert taken <= 2 + 2 + 4 + 1 + 257


@given(
    st.ip_addresses() | st.from_regex(r"[a-z0-9.-]{1,255}", fullmatch=True), st.integers(0, 65535)
)
def test_a_request_says_where_to(host: object, port: int) -> None:
    data = socks.encode_request(str(host), port)
    assert data[:3] == b"\x05\x01\x00"
    assert int.from_bytes(data[-2:], "big") == port
    address = data[4:-2]
    match data[3]:
        case 1:
            assert socket.inet_ntop(socket.AF_INET, address) == str(host)
        case 4:
            assert address == socket.inet_pton(socket.AF_INET6, str(host))
        case kind:
            assert kind == 3 and address[0] == len(address) - 1
            assert address[1:].decode() == str(host)
