"""Capabilities: the table against the kernel's header, Docker's rules as Docker 28.5 showed them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Internal, Invalid, Unsupported
from wherry.runtime import capabilities
from wherry.runtime.capabilities import ALL, DEFAULT, NAMES, mask_of, names_of, resolve

HEADER = Path("/usr/include/linux/capability.h")
SYS_RESOURCE = 1 << 24


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers")
def test_numbers_are_the_headers() -> None:
    found = {
        name: int(number)
        for name, number in re.findall(r"#define (CAP_[A-Z_]+)\s+(\d+)$", HEADER.read_text(), re.M)
    }
    assert found == {name: number for number, name in enumerate(NAMES)}


def test_the_default_set_is_dockers() -> None:
    assert DEFAULT == 0xA80425FB
    assert len(names_of(DEFAULT)) == 14


@given(st.integers(min_value=0, max_value=ALL))
def test_names_and_masks_are_inverse(mask: int) -> None:
    assert mask_of(names_of(mask)) == mask
    assert mask_of(name.removeprefix("CAP_").lower() for name in names_of(mask)) == mask


# Each line is what Docker Engine 28.5 answered (CapBnd of the container), in a root that lacks
# CAP_SYS_RESOURCE.
@pytest.mark.parametrize(
    ("add", "drop", "privileged", "expected"),
    [
        ((), (), False, 0xA80425FB),
        (("NET_ADMIN",), ("NET_ADMIN",), False, 0xA80435FB),
        (("CHOWN",), ("CHOWN",), False, 0xA80425FB),
        (("CHOWN",), ("ALL", "CHOWN"), False, 0x1),
        (("ALL",), ("CHOWN",), False, 0x1FFFEFFFFFE),
        (("ALL",), ("ALL",), False, 0x1FFFEFFFFFF),
        (("ALL",), ("ALL", "CHOWN"), False, 0x1FFFEFFFFFE),
        (("all", "sys_admin"), ("all",), False, 0x1FFFEFFFFFF),
        ((), ("CHOWN",), True, 0x1FFFEFFFFFF),
        ((), ("ALL",), True, 0x1FFFEFFFFFF),
        ((), ("cap_Chown",), False, 0xA80425FA),
    ],
)
def test_resolve_answers_as_docker_does(
    add: tuple[str, ...], drop: tuple[str, ...], privileged: bool, expected: int
) -> None:
    available = ALL & ~SYS_RESOURCE
    assert resolve(add, drop, privileged=privileged, available=available) == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("FOO", "CAP_FOO"),
        ("cap_foo", "CAP_FOO"),
        ("net admin", "CAP_NET ADMIN"),
        ("", "CAP_"),
        ("21", "CAP_21"),
    ],
)
def test_unknown_names_are_refused_in_dockers_words(name: str, shown: str) -> None:
    with pytest.raises(Invalid, match=re.escape(f'invalid CapAdd: unknown capability: "{shown}"')):
        resolve([name], [])
    with pytest.raises(Invalid, match=re.escape(f'invalid CapDrop: unknown capability: "{shown}"')):
        resolve([], [name], privileged=True)


def test_a_capability_the_machine_lacks_is_refused_by_name_only() -> None:
    available = ALL & ~SYS_RESOURCE
    with pytest.raises(Unsupported, match='not supported by your kernel.*"CAP_SYS_RESOURCE"'):
        resolve(["SYS_RESOURCE"], [], available=available)
    with pytest.raises(Unsupported):
        resolve(["ALL", "sys_resource"], [], available=available)
    assert resolve(["ALL"], [], available=available) == available
    assert resolve(["SYS_RESOURCE"], []) == DEFAULT | SYS_RESOURCE


@given(st.integers(min_value=0, max_value=ALL), st.lists(st.sampled_from(NAMES)))
def test_nothing_beyond_what_is_available(available: int, drop: list[str]) -> None:
    for privileged in (False, True):
        assert resolve([], drop, privileged=privileged, available=available) & ~available == 0


def test_bounding_reads_this_process() -> None:
    mask = capabilities.bounding(Path("/proc/self/status").read_text())
    assert 0 < mask <= ALL
    with pytest.raises(Internal):
        capabilities.bounding("Name:\tx\n")
