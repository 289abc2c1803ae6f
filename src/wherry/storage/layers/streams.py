"""Streams with a thread beside them: read ahead, and hash on the way.

zlib's, zstd's and OpenSSL's code releases the interpreter's lock, so reading and inflating, hashing
and unpacking overlap; a layer then costs about what its slowest stage costs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from wherry.kernel.hashing import hash_by
from wherry.model.ids import Digest
from wherry.storage.layers.entries import Readable

_CHUNK: Final = 1 << 20
_DEPTH: Final = 4
# Below this a hand-over to another thread costs more than hashing here.
_WORTH_A_THREAD: Final = 1 << 16


class Hasher:
    """A hash fed in order; once pieces are large, by a thread of its own."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hash = hash_by(algorithm)
        self._queue: queue.Queue[bytes | None] | None = None
        self._thread: threading.Thread | None = None

    def update(self, data: bytes) -> None:
        """Take `data` in, at once or soon."""
        if self._queue is None:
            if len(data) < _WORTH_A_THREAD:
                self._hash.update(data)
                return
            self._queue = queue.Queue(_DEPTH)
            self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
            self._thread.start()
        self._queue.put(data)

    def close(self) -> None:
        """End the thread when it has taken everything in."""
        if self._thread is not None and self._queue is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = self._queue = None

    def digest(self) -> Digest:
        """Return the digest of all that was taken in so far."""
        self.close()
        return Digest(self._algorithm, self._hash.hexdigest())

    def _run(self) -> None:
        feed = self._queue
        while feed is not None and (data := feed.get()) is not None:
            self._hash.update(data)


class HashingReader:
    """A stream whose bytes are hashed as they are read. `size` counts them."""

    def __init__(self, stream: Readable, algorithm: str = "sha256") -> None:
        self._stream = stream
        self._hasher = Hasher(algorithm)
        self.size = 0

    def read(self, n: int, /) -> bytes:
        """Return what the stream's read returns."""
        data = self._stream.read(n)
        if data:
            self.size += len(data)
            self._hasher.update(data)
        return data

    def digest(self) -> Digest:
        """Return the digest of all that was read so far."""
        return self._hasher.digest()

    def close(self) -> None:
        """End the thread; `digest` still answers. The stream stays open."""
        self._hasher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class HashingWriter:
    """Hands bytes on to `out` and hashes them. `size` counts them."""

    def __init__(self, out: Callable[[bytes], object]) -> None:
        self._out = out
        self._hasher = Hasher()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        """Hash `data`, hand it on, and return its length."""
        self._hasher.update(data)
        self._out(data)
        self.size += len(data)
        return len(data)

    def digest(self) -> Digest:
        """Return the sha256 of all that was written so far."""
        return self._hasher.digest()

    def close(self) -> None:
        """End the thread; `digest` still answers."""
        self._hasher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ReadAhead:
    """A stream that a thread of its own reads `depth` chunks of `chunk` bytes ahead.

    An exception of the stream's is raised by the `read` that comes to it. Close it (or leave the
    `with` block) before using the stream again: the thread then has ended.
    """

    def __init__(self, stream: Readable, *, chunk: int = _CHUNK, depth: int = _DEPTH) -> None:
        self._stream = stream
        self._chunk = chunk
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(depth)
        self._rest = b""
        self._ended = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def read(self, n: int, /) -> bytes:
        """Return at most `n` bytes, b"" at the end."""
        if not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._ended = not item
            self._rest = item
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    def close(self) -> None:
        """Stop reading ahead and wait until the thread has ended."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()
        self._ended, self._rest = True, b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                data = self._stream.read(self._chunk)
                self._queue.put(data)
                if not data:
                    return
        except BaseException as problem:  # handed to the reader, whatever it is
            self._queue.put(problem)
