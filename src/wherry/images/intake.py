"""What one operation brings into the stores: leased while it goes on, gone again where nothing came of it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from wherry.model.ids import Digest
from wherry.storage.collector import Collector
from wherry.storage.content import ContentStore
from wherry.storage.layers import Readable
from wherry.storage.leases import Leases

_CHUNK = 1 << 20


class Intake:
    """A lease and a list. Leaving the `with` block sweeps of what was brought in all that no image took."""

    def __init__(self, content: ContentStore, leases: Leases, collector: Collector) -> None:
        self.content = content
        self._lease = leases.lease()
        self._collector = collector
        self._brought: list[Digest] = []

    def hold(self, *digests: Digest) -> None:
        """Keep blobs or layers from the collector. Ask whether they are present after this."""
        self._lease.add(*digests)
        self._brought.extend(digests)

    def put(self, data: bytes) -> Digest:
        """Store a small blob."""
        digest = Digest.of(data)
        self.hold(digest)
        return digest if self.content.has(digest) else self.content.put(data)

    def spool(self, stream: Readable, *, chunk: int = _CHUNK) -> tuple[Digest, int]:
        """Store what is left of `stream`; return its digest and size in bytes. Raises Full."""

        def copy(out: Callable[[bytes], object]) -> None:
            while data := stream.read(chunk):
                out(data)

        return self.write(copy)

    def write(self, produce: Callable[[Callable[[bytes], object]], object]) -> tuple[Digest, int]:
        """Store what `produce` writes to the function that it is given."""
        with self.content.writer() as writer:
            produce(writer.write)
            digest = writer.digest()
            self.hold(digest)
            writer.commit()
            return digest, writer.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lease.release()
        # Layers are brought in base first and can only be removed from the top.
        self._collector.collect(reversed(self._brought))


class Intakes(Protocol):
    """Makes intakes: `functools.partial(Intake, content, leases, collector)`."""

    def __call__(self) -> Intake: ...
