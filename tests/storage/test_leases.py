"""Leases keep the collector away, and only while they last."""

from __future__ import annotations

import pytest

from wherry.model.ids import Digest
from wherry.storage.leases import Leases

A, B = Digest.of(b"a"), Digest.of(b"b")


def test_what_is_leased_is_not_swept() -> None:
    leases = Leases()
    removed: list[str] = []
    with leases.lease() as first, leases.lease() as second:
        first.add(A, B)
        second.add(A)
        assert not leases.sweep(A, lambda: removed.append("a"))
        first.release()
        assert leases.held(A)
        assert not leases.held(B)
        assert leases.sweep(B, lambda: removed.append("b"))
    assert not leases.held(A)
    assert leases.sweep(A, lambda: removed.append("a"))
    assert removed == ["b", "a"]


def test_a_lease_ends_with_its_operation() -> None:
    leases = Leases()
    lease = leases.lease()
    with pytest.raises(KeyError), lease:
        lease.add(A)
        raise KeyError
    assert not leases.held(A)
    lease.release()
    assert not leases.held(A)
