"""OpenSSL's hash, and Python's where there is none, say the same."""

from __future__ import annotations

import hashlib
import sys

import pytest

from wherry.kernel.hashing import sha256


@pytest.mark.parametrize("openssl", [True, False])
def test_it_is_sha256(openssl: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openssl:
        monkeypatch.setitem(sys.modules, "_hashlib", None)
    hasher = sha256(b"one ")
    hasher.update(memoryview(b"two"))
    assert hasher.digest() == hashlib.sha256(b"one two").digest()
    assert hasher.hexdigest() == hashlib.sha256(b"one two").hexdigest()
