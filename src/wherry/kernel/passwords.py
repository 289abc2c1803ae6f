"""Passwords against their hashes, by the C library's crypt(3): bcrypt, SHA-512, yescrypt, scrypt.

libxcrypt is on every Debian, Ubuntu, Fedora and Arch; glibc's own crypt (before) knows no bcrypt.
Python's `crypt` module is gone since 3.13.
"""

from __future__ import annotations

import ctypes
import functools
import hmac
from typing import Final

from wherry.model.errors import Unsupported

_DATA_SIZE: Final = 32768  # struct crypt_data of libxcrypt, crypt(3)


@functools.cache
def _library() -> ctypes.CDLL:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if hasattr(library, "crypt_rn"):
            library.crypt_rn.restype = ctypes.c_char_p
            library.crypt_rn.argtypes = (
                ctypes.c_char_p,
                ctypes.c_char_p,
                ctypes.c_char_p,
                ctypes.c_int,
            )
            return library
    raise Unsupported("libcrypt is not on this machine", hint="install libxcrypt (libcrypt1)")


def matches(password: bytes, hashed: bytes) -> bool:
    """Whether `password` is what `hashed` was made of; False for a hash of an unknown kind.

    Takes as long as the hash was made to take (bcrypt: 50 ms and more), without the interpreter's lock.
    Raises Unsupported.
    """
    if b"\0" in password or b"\0" in hashed:
        return False
    if hashed.startswith(b"$2y$"):
        # Apache's htpasswd writes 2y, the same algorithm as 2b.
        hashed = b"$2b$" + hashed[4:]
    data = ctypes.create_string_buffer(_DATA_SIZE)
    found: bytes | None = _library().crypt_rn(password, hashed, data, _DATA_SIZE)
    return found is not None and hmac.compare_digest(found, hashed)
