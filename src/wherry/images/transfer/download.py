"""One blob on its way in: fetched once whoever wants it, resumed where it was cut, verified at its end.

    thread: slot > hash what is kept > { request from there > write, hash, tell } > verify > durable
    readers: follow the file as it grows
The bytes stay in `Partials` until the image that they belong to is registered, so a pull that is cut
anywhere goes on from what was written.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Protocol

from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Invalid, Unavailable, WherryError
from wherry.model.ids import Digest
from wherry.model.views import Progress
from wherry.registry.answers import WrongContent
from wherry.registry.client import BlobBody, RangeRefused, is_temporary
from wherry.registry.faults import Refused
from wherry.registry.stopping import Stop
from wherry.storage.content import ContentStore
from wherry.storage.durable import full
from wherry.storage.layers import Readable
from wherry.storage.layers.streams import Hasher
from wherry.storage.partials import Partials

_PIECE: Final = 256 << 10
# What was unpacked leaves the page cache in steps of this many bytes, see `_Follower`.
_DROPPED: Final = 2 << 20
_REPORT_SECONDS: Final = 0.15
# After this many bytes an attempt counts as a success: the next failure begins to count anew.
_PROGRESS: Final = 64 << 10
_RETRY_SECONDS: Final = 5
_LONGEST_WAIT: Final = 60

Report = Callable[[Progress], None]
OpenAt = Callable[[Digest, int, Stop], BlobBody]
"""Requests a blob from an offset on."""


class KeptPartSpoilt(Unavailable):
    """What was kept of a blob was not its beginning; it is gone, and fetching anew helps."""


class Slots(Protocol):
    """A semaphore: `threading.Semaphore`."""

    def acquire(self, blocking: bool = ..., timeout: float | None = ...) -> bool: ...
    def release(self) -> None: ...


class Download:
    """The download of one blob. `watch` it, follow it with `reader`, `wait` for its end."""

    def __init__(
        self,
        digest: Digest,
        size: int,
        open_at: OpenAt,
        *,
        content: ContentStore,
        partials: Partials,
        slots: Slots,
        attempts: int,
    ) -> None:
        self.digest = digest
        self.size = size
        self.watchers = 0
        self.kept = 0
        """Bytes that an earlier transfer left."""
        self._open_at = open_at
        self._content = content
        self._partials = partials
        self._slots = slots
        self._attempts = attempts
        self._stop = Stop()
        self._changed = threading.Condition()
        self._available = 0
        self._read = 0
        self._reports: list[Report] = []
        self._last: Progress | None = None
        self._reported = 0.0
        self._error: BaseException | None = None
        self.done = False
        """All bytes are here, verified and durable."""
        self._fd = partials.open(digest)
        self._thread = threading.Thread(target=self._run, name="download", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether it ended without the blob."""
        return self._error is not None

    def watch(self, report: Report) -> None:
        """Have `report` called with what happens, first with what happened last."""
        with self._changed:
            self._reports.append(report)
            last = self._last
        if last is not None:
            report(last)

    def unwatch(self, report: Report) -> None:
        """Take a watcher away."""
        with self._changed:
            if report in self._reports:
                self._reports.remove(report)

    def end(self) -> None:
        """Call it off, wait until its thread has ended, and close the file."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        os.close(self._fd)

    def wait(self, check: Callable[[], object]) -> None:
        """Return when it is done; raise what it failed with. `check` may raise to end the waiting."""
        with self._changed:
            while not self.done:
                if self._error is not None:
                    raise self._error
                check()
                self._changed.wait(0.5)

    def adopt(self) -> None:
        """Make the blob, which must be done, one of the content store."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._content.adopt(self._fd, self._partials.path(self.digest), self.digest)

    @contextmanager
    def reader(self, check: Callable[[], object]) -> Generator[Readable]:
        """Give a stream of the blob's bytes that follows their coming."""
        yield _Follower(self, check)

    def read_at(self, n: int, offset: int, check: Callable[[], object]) -> bytes:
        """Return up to `n` bytes from `offset` on, b"" at the end, waiting until there are some."""
        with self._changed:
            while self._available <= offset < self.size:
                if self._error is not None:
                    raise self._error
                check()
                self._changed.wait(0.5)
            n = min(n, self._available - offset)
        return os.pread(self._fd, n, offset) if n > 0 else b""

    def drop_cached(self, start: int, end: int) -> None:
        """Take the bytes from `start` to `end`, which were read, out of the page cache.

        Those that are not on disk yet stay, and begin to be written (posix_fadvise(2)).
        """
        self._read = max(self._read, end)
        os.posix_fadvise(self._fd, start, end - start, os.POSIX_FADV_DONTNEED)

    def _run(self) -> None:
        try:
            self._tell(Progress("Waiting", self.digest.short), only_if=self._occupied())
            self._take_slot()
            try:
                self._fetch()
            finally:
                self._slots.release()
            # Here, beside the unpacking; `adopt` waits for it.
            os.fsync(self._fd)
            if self._read:
                self.drop_cached(0, self._read)
        except BaseException as error:  # handed to whoever waits, whatever it is
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _occupied(self) -> bool:
        if self._slots.acquire(blocking=False):
            self._slots.release()
            return False
        return True

    def _take_slot(self) -> None:
        while not self._slots.acquire(timeout=0.2):
            self._stop.check()

    def _fetch(self) -> None:
        hasher = Hasher(self.digest.algorithm)
        try:
            self.kept = self._hash_kept(hasher)
            failures = 0
            while self._available < self.size:
                before = self._available
                try:
                    self._receive(hasher)
                except WherryError as error:
                    self._stop.check()
                    if self._available - before >= _PROGRESS:
                        failures = 0
                    failures += 1
                    if isinstance(error, RangeRefused) and self._available:
                        self._spoilt()
                    if not is_temporary(error) or failures >= self._attempts:
                        raise
                    self._pause(failures, error)
            self._tell(Progress("Verifying Checksum", self.digest.short))
            self._verify(hasher)
        finally:
            hasher.close()
        self._tell(Progress("Download complete", self.digest.short))
        with self._changed:
            self.done = True
            self._changed.notify_all()

    def _hash_kept(self, hasher: Hasher) -> int:
        """Take in what an earlier transfer left; return its bytes."""
        kept = os.fstat(self._fd).st_size
        if kept > self.size:
            os.ftruncate(self._fd, 0)
            kept = 0
        offset = 0
        while offset < kept:
            self._stop.check()
            data = os.pread(self._fd, _PIECE, offset)
            if not data:
                break
            hasher.update(data)
            offset += len(data)
            self._advance(len(data))
        return offset

    def _receive(self, hasher: Hasher) -> None:
        body = self._open_at(self.digest, self._available, self._stop)
        with self._stop.waking(body.answer.abort):
            try:
                # Without ranges the registry sends again what is here.
                skip = self._available - body.start
                while data := body.answer.read(_PIECE):
                    self._stop.check()
                    if skip:
                        dropped = min(skip, len(data))
                        data, skip = data[dropped:], skip - dropped
                        if not data:
                            continue
                    if self._available + len(data) > self.size:
                        raise WrongContent(
                            f"blob {self.digest}: the registry sent more than its {self.size} bytes"
                        )
                    self._write(data)
                    hasher.update(data)
                    self._advance(len(data))
                    failpoint("download.after-piece")
            finally:
                body.answer.close()
        if self._available < self.size:
            self._stop.check()
            raise Refused(
                503, "", f"blob {self.digest} ended after {self._available} of {self.size} bytes"
            )

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        offset = self._available
        with full("the content store"):
            while rest:
                done = os.pwrite(self._fd, rest, offset)
                rest = rest[done:]
                offset += done

    def _advance(self, count: int) -> None:
        with self._changed:
            self._available += count
            self._changed.notify_all()
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS or self._available == self.size:
            self._reported = now
            self._tell(Progress("Downloading", self.digest.short, self._available, self.size))

    def _verify(self, hasher: Hasher) -> None:
        found = hasher.digest()
        if found == self.digest:
            return
        if self.kept:
            self._spoilt()
        self._partials.discard(self.digest)
        raise WrongContent(
            f"filesystem layer verification failed for digest {self.digest}: its content is {found}"
        )

    def _spoilt(self) -> None:
        self._partials.discard(self.digest)
        raise KeptPartSpoilt(f"what was kept of blob {self.digest} was not its beginning")

    def _pause(self, failures: int, error: WherryError) -> None:
        seconds = min(_RETRY_SECONDS * (failures - 1), _LONGEST_WAIT)
        if isinstance(error, Refused) and error.retry_after:
            seconds = min(int(error.retry_after) + 1, _LONGEST_WAIT)
        for left in range(seconds, 0, -1):
            plural = "" if left == 1 else "s"
            self._tell(Progress(f"Retrying in {left} second{plural}", self.digest.short))
            self._stop.wait(1)

    def _tell(self, progress: Progress, *, only_if: bool = True) -> None:
        if not only_if:
            return
        with self._changed:
            self._last = progress
            reports = list(self._reports)
        for report in reports:
            try:
                report(progress)
            except WherryError:  # that watcher is gone; others may not be
                self.unwatch(report)


class _Follower:
    """A blob's bytes as they come.

    A blob is read once, by who unpacks it, so its pages serve the layer's files next: memory that the
    machine had not touched for long costs ten times as much to write to (docs/performance.md).
    """

    def __init__(self, download: Download, check: Callable[[], object]) -> None:
        self._download = download
        self._check = check
        self._offset = 0
        self._dropped = 0

    def read(self, n: int, /) -> bytes:
        data = self._download.read_at(n, self._offset, self._check)
        self._offset += len(data)
        if self._offset - self._dropped >= _DROPPED or not data:
            # Once more for the step before, which was being written then.
            self._download.drop_cached(max(0, self._dropped - _DROPPED), self._offset)
            self._dropped = self._offset
        return data


class Downloads:
    """The downloads going on, each blob once. Thread safe."""

    def __init__(
        self, content: ContentStore, partials: Partials, *, concurrent: int, attempts: int
    ) -> None:
        self._content = content
        self._partials = partials
        self.limit(concurrent, attempts)
        self._changed = threading.Condition()
        self._going: dict[Digest, Download] = {}
        self._ending: set[Digest] = set()

    def limit(self, concurrent: int, attempts: int) -> None:
        """Let that many of the downloads that begin from now on run at a time, and be tried so often."""
        self._slots = threading.BoundedSemaphore(concurrent)
        self._attempts = attempts

    def join(
        self, digest: Digest, size: int, open_at: OpenAt, report: Report
    ) -> tuple[Download, bool]:
        """Return the download of a blob, and whether it was begun by this call. `leave` it.

        `report` is called with what happens, by the download's thread.
        """
        with self._changed:
            while digest in self._ending:
                self._changed.wait()
            going = self._going.get(digest)
            # A failed one writes no more: another may take its file up.
            if going is not None and not going.failed:
                if going.size != size:
                    raise Invalid(f"blob {digest} is said to have {going.size} and {size} bytes")
                going.watchers += 1
                going.watch(report)
                return going, False
            download = Download(
                digest,
                size,
                open_at,
                content=self._content,
                partials=self._partials,
                slots=self._slots,
                attempts=self._attempts,
            )
            download.watchers = 1
            download.watch(report)
            self._going[digest] = download
            download.start()
        return download, True

    def leave(self, download: Download, *, discard: bool) -> None:
        """Let go of a download; the last to leave ends it, and with `discard` drops its bytes."""
        digest = download.digest
        with self._changed:
            download.watchers -= 1
            if download.watchers:
                return
            current = self._going.get(digest) is download
            if current:
                del self._going[digest]
                self._ending.add(digest)
        try:
            download.end()
            if discard and current:
                self._partials.discard(digest)
        finally:
            if current:
                with self._changed:
                    self._ending.discard(digest)
                    self._changed.notify_all()


__all__ = ["Download", "Downloads", "KeptPartSpoilt", "Report"]
