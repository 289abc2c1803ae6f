"""`wherryd`: leaves out of memory what it can do without, then reads its settings and does as they say."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wherry.kernel.deferred import defer


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon, or stop one; return the exit code."""
    spare_memory()
    from wherry.daemon.command import run

    return run(argv)


def spare_memory() -> None:
    """Import what would bring more than is needed without it: docs/decisions/0006."""
    defer("inspect", "traceback", "shutil", "tempfile", "difflib", "csv", "lzma", "bz2")
    _without("ssl", "asyncio")
    _without("typing_extensions", "msgspec")
    # Some Pythons are built without hashes of their own (Fedora's).
    if _is_there("_sha256") or _is_there("_sha2"):
        _without("_hashlib", "hashlib", "hmac")


def _without(left_out: str, *names: str) -> None:
    """Import `names`, which ask for `left_out` and can do without it."""
    if left_out in sys.modules:
        return
    sys.modules[left_out] = None  # pyright: ignore[reportArgumentType]
    try:
        for name in names:
            __import__(name)
    finally:
        del sys.modules[left_out]


def _is_there(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
