"""DOCKER_HOST's forms."""

from __future__ import annotations

import pytest

from wherry.client.address import parse_address
from wherry.model.errors import Invalid, Unsupported


@pytest.mark.parametrize(
    ("text", "path", "host", "port"),
    [
        ("unix:///run/x.sock", "/run/x.sock", "", 0),
        ("unix://relative", "relative", "", 0),
        ("tcp://h:1", "", "h", 1),
        ("tcp://h", "", "h", 2375),
        ("tcp://:99", "", "127.0.0.1", 99),
        ("tcp://[::1]:5", "", "::1", 5),
        ("tcp://[::1]", "", "::1", 2375),
        ("http://h:80/path", "", "h", 80),
        ("https://h", "", "h", 2376),
        ("ssh://h", "", "h", 0),
        ("ssh://me@h:22", "", "h", 22),
    ],
)
def test_parse(text: str, path: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.path, address.host, address.port) == (path, host, port)


@pytest.mark.parametrize(
    "text", ["", "x", "unix://", "foo://x", "tcp://h:x", "tcp://h:70000", "tcp://[::1", "tcp://h:²"]
)
def test_bad_addresses_name_themselves(text: str) -> None:
    with pytest.raises(Invalid, match="unable to parse engine host"):
        parse_address(text)


@pytest.mark.parametrize("text", ["npipe:////./pipe/x", "fd://"])
def test_what_is_not_in_this_version(text: str) -> None:
    with pytest.raises(Unsupported):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["ssh://", "ssh://-x", "ssh://-l@h", "ssh://a:b@h", "ssh://h/path", "ssh://h:x"]
)
def test_what_ssh_must_not_be_given(text: str) -> None:
    with pytest.raises(Invalid):
        parse_address(text)


def test_equal_by_place() -> None:
    assert parse_address("tcp://h") == parse_address("tcp://h:2375")
    assert hash(parse_address("tcp://h")) == hash(parse_address("tcp://h:2375"))
    assert parse_address("tcp://h") != parse_address("tcp://i")
