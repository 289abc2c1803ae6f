"""A container-wide MAC address beside those of endpoints, in the words of each version (Docker 28.5's)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wherry.api.devices import number_of
from wherry.api.wire.create import read_create
from wherry.model.containers import ContainerSpec
from wherry.model.errors import Invalid

A, B = "02:42:00:00:00:0a", "02:42:00:00:00:0b"
Version = tuple[int, int]


def read(version: Version, mode: str, mac: str = A, **endpoints: str) -> ContainerSpec:
    body: dict[str, Any] = {"Image": "x", "MacAddress": mac, "HostConfig": {"NetworkMode": mode}}
    named = {name: {"MacAddress": text} for name, text in endpoints.items()}
    body["NetworkingConfig"] = {"EndpointsConfig": named}
    return read_create(json.dumps(body).encode(), number_of, version)[0]


def test_before_1_44_endpoints_had_none() -> None:
    found = read((1, 43), "net", net=B)
    assert found.mac_address == A and [one.mac for one in found.endpoints] == [""]
    assert read((1, 43), "net", "", net="nonsense").endpoints[0].mac == ""
    for mode in ("host", "none"):
        with pytest.raises(Invalid, match="mac-address and the network mode"):
            read((1, 43), mode)


def test_since_1_44_it_must_be_of_a_network_that_is_named() -> None:
    for mode, name in (("net", "bridge"), ("default", "net"), ("bridge", "net")):
        with pytest.raises(Invalid, match="unable to migrate container-wide MAC address"):
            read((1, 44), mode, **{name: B})
    for mode, name in (("net", "net"), ("default", "bridge"), ("bridge", "default")):
        found = read((1, 44), mode, **{name: B})
        assert (found.mac_address, found.endpoints[0].mac) == (A, B)
    assert read((1, 44), "net").mac_address == A


@pytest.mark.parametrize("mode", ["host", "none", "container:other"])
def test_since_1_44_it_is_passed_over_without_a_link_of_its_own(mode: str) -> None:
    assert read((1, 44), mode).mac_address == ""
