"""What the API needs of build contexts and outputs, as Protocols; `daemon.contexts` satisfies them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from wherry.model.build import ContextRef, Progress
from wherry.model.views import ByteSource

if TYPE_CHECKING:
    from wherry.build.files import Export, Exported

    WriteOutput = Callable[[Export, Callable[[bytes], object]], Exported]
    """Writes an output that goes to the client, as tar. Blocks."""
    PushOutput = Callable[[Export, Callable[[Progress], None]], Awaitable[Exported]]
    """Pushes what was built."""


class BuildContexts(Protocol):
    """Contexts that clients send."""

    async def receive(self, body: ByteSource) -> str:
        """Keep a context that comes as tar, plain or compressed; return its tree id. Raises Invalid, Full."""
        ...

    async def known(self, digest: str) -> str:
        """Return the tree id of a folder whose manifest has this digest, "" for none."""
        ...

    async def begin_sync(self, key: str, manifest: bytes) -> tuple[str, str, tuple[int, ...]]:
        """Return a tree id and nothing, or "", the sync's id and the numbers of the entries whose content
        is wanted."""
        ...

    async def finish_sync(self, sync: str, body: ByteSource) -> str:
        """Take the wanted contents; return the tree id. Raises NotFound, Invalid, Full."""
        ...

    async def prepare(self, ref: ContextRef, platforms: Sequence[str] = ()) -> ContextRef:
        """Return the context with its own .dockerignore read, where it comes from elsewhere.

        An OCI layout becomes the images that it has for `platforms`, () being the host's.
        """
        ...

    async def read(self, ref: ContextRef, path: str) -> bytes:
        """Return a file of a context. Raises NotFound, Invalid for one too large."""
        ...

    async def release(self, ref: ContextRef) -> None:
        """A build that used it is over."""
        ...

    async def write_output(self, export: Export, write: Callable[[bytes], object]) -> Exported:
        """Write an output that goes to the client, as tar; `write` may block."""
        ...

    async def push(self, export: Export, report: Callable[[Progress], None]) -> Exported:
        """Push what was built. Raises Unavailable, Forbidden, Invalid."""
        ...
