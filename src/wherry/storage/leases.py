"""What a running operation still needs, kept from the collector.

A pull or build stores blobs and layers before anything refers to them, and relies on ones that it
found present. Leases live in memory: an operation does not outlive its process.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from wherry.model.ids import Digest


class Leases:
    """All leases of one store. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[Digest] = Counter()

    def lease(self) -> Lease:
        """Return an empty lease."""
        return Lease(self)

    def held(self, digest: Digest) -> bool:
        """Whether any lease holds `digest`."""
        with self._lock:
            return self._held[digest] > 0

    def sweep(self, digest: Digest, remove: Callable[[], None]) -> bool:
        """Call `remove` unless `digest` is held, and return whether it was called.

        No lease on anything begins meanwhile: who leases first and looks then sees the truth.
        """
        with self._lock:
            if self._held[digest] > 0:
                return False
            remove()
            return True

    def hold(self, digests: tuple[Digest, ...]) -> None:
        """Count one more holder of each."""
        with self._lock:
            self._held.update(digests)

    def release(self, digests: tuple[Digest, ...]) -> None:
        """Count one holder of each less."""
        with self._lock:
            self._held.subtract(digests)
            self._held = +self._held


class Lease:
    """What one operation holds, until its `with` block ends."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._digests: list[Digest] = []

    def add(self, *digests: Digest) -> None:
        """Hold `digests`. Ask whether they are present after this, not before."""
        self._leases.hold(digests)
        self._digests.extend(digests)

    def release(self) -> None:
        """Let go of all."""
        held, self._digests = tuple(self._digests), []
        self._leases.release(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
