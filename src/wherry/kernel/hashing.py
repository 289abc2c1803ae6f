"""SHA-2 of much: OpenSSL's, by the processor's own instructions, where Python's is four times slower.

libcrypto is mapped at the first use and takes 3.4 MB: for a few bytes `hashlib` will do, which in wherryd
is Python's own (docs/decisions/0006).
"""

from __future__ import annotations

import hashlib
from typing import Protocol


class Hash(Protocol):
    """What is used of hashlib's objects."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...


def hash_by(algorithm: str) -> Hash:
    """Return an empty hash: sha256 or sha512, as digests name them."""
    if algorithm == "sha256":
        return sha256()
    try:
        from _hashlib import openssl_sha512
    except ImportError:
        return hashlib.sha512()
    return openssl_sha512(usedforsecurity=False)


def sha256(data: bytes = b"") -> Hash:
    """Return a hash that has taken in `data`."""
    try:
        from _hashlib import openssl_sha256
    except ImportError:
        return hashlib.sha256(data)
    return openssl_sha256(data, usedforsecurity=False)
