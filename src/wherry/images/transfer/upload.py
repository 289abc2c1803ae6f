"""One blob on its way out: not sent where the registry has it, mounted where it can be, resumed where cut.

    has it? > mounted from a repository that had it? > upload begun or taken up again > sent from where
    the registry is > finished under its digest
The upload's URL is kept in the database from its beginning, so that the next push goes on from there:
from the byte that the registry names. (docker/distribution 2.8 gives an upload up whose request was
cut in the middle; there a layer is begun anew.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from wherry.images.places import Places
from wherry.kernel.failpoints import failpoint
from wherry.model.errors import WherryError
from wherry.model.ids import Digest
from wherry.registry.client import Repository, is_temporary
from wherry.registry.faults import Refused
from wherry.registry.stopping import Stop

_PIECE: Final = 256 << 10
_REPORT_SECONDS: Final = 0.1
_MOST_MOUNTS: Final = 4
# After this many bytes an attempt counts as a success: the next failure begins to count anew.
_PROGRESS: Final = 64 << 10
_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.1
_LONGEST_WAIT: Final = 60
_RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A blob to send, and how its bytes are opened where they are needed."""

    digest: Digest
    size: int
    open: Callable[[], BinaryIO]


class Uploader:
    """Sends blobs to one repository; `name` is its canonical name."""

    def __init__(
        self, repository: Repository, name: str, places: Places, stop: Stop, attempts: int
    ) -> None:
        self._repository = repository
        self._name = name
        self._places = places
        self._stop = stop
        self._attempts = attempts
        self._taken_up: set[str] = set()

    def has(self, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        if self._repository.has_blob(digest):
            self._places.add(self._name, [digest])
            return True
        self._places.remove(self._name, digest)
        return False

    def mount(self, digest: Digest, others: list[str]) -> str | None:
        """Take the blob over from a repository of the same registry; return which, or None.

        Not where an upload was begun already: that goes on.
        """
        if self._places.upload(self._name, digest):
            return None
        domain = self._name.partition("/")[0]
        known = [*self._places.of(digest), *others]
        sources = [
            name.partition("/")[2]
            for name in dict.fromkeys(known)
            if name.partition("/")[0] == domain and name != self._name
        ]
        for source in sources[:_MOST_MOUNTS]:
            try:
                upload = self._repository.mount(digest, source)
            except Refused as error:
                if error.temporary:
                    raise
                self._places.remove(f"{domain}/{source}", digest)
                continue
            if not upload:
                self._places.add(self._name, [digest])
                return source
            self._places.remove(f"{domain}/{source}", digest)
            self._places.keep_upload(self._name, digest, upload)
        return None

    def send(
        self, blob: Outgoing, tell: Callable[[int], object], retry: Callable[[int], object]
    ) -> None:
        """Upload the blob. `tell` is called with the bytes that are there, `retry` with the seconds to wait."""
        failures, furthest, asked = 0, 0, -1
        while True:
            start = -1
            try:
                url, start = self._resume(blob)
                if start - furthest >= _PROGRESS:
                    failures, furthest = 0, start
                if url:
                    self._go_on(blob, url, start, tell)
                break
            except WherryError as error:
                self._stop.check()
                failures += 1
                status = error.status if isinstance(error, Refused) else 0
                # 416: the registry has another number of bytes than it said, since what was on its
                # way when the connection broke came in after all. It is asked again, once.
                # Before an upload was there (`start` is -1) a 400 or 404 is for good: names, rights.
                gone = status in (400, 404) and start >= 0
                lost = gone or (status == 416 and start == asked)
                again = is_temporary(error) or lost or status == 416
                if failures >= self._attempts or not again:
                    raise
                asked = start
                for left in range(_wait(error, failures), 0, -1):
                    retry(left)
                    self._stop.wait(1)
                if lost:
                    self._places.keep_upload(self._name, blob.digest, "")
        self._places.keep_upload(self._name, blob.digest, "")
        self._places.add(self._name, [blob.digest])

    def _go_on(self, blob: Outgoing, url: str, start: int, tell: Callable[[int], object]) -> None:
        if start < blob.size:
            length = blob.size - start
            url = self._repository.upload(
                url,
                self._pieces(blob, start, tell),
                start,
                length,
                self._stop,
                # What was on its way when the connection broke may still come in before this.
                placed=url in self._taken_up,
            )
            self._places.keep_upload(self._name, blob.digest, url)
            failpoint("upload.before-finish")
        self._repository.finish_upload(url, blob.digest)

    def _resume(self, blob: Outgoing) -> tuple[str, int]:
        """Return the upload to go on with and the bytes that it has; no upload where the blob is there."""
        url = self._places.upload(self._name, blob.digest)
        if url:
            try:
                url, start = self._settled(url)
                if start <= blob.size:
                    self._taken_up.add(url)
                    return url, start
            except WherryError as error:
                self._stop.check()
                if not isinstance(error, Refused) or error.denied:
                    raise
                # Finished, and the answer to that was lost?
                if error.missing and self._repository.has_blob(blob.digest):
                    return "", blob.size
        url = self._repository.begin_upload()
        self._places.keep_upload(self._name, blob.digest, url)
        return url, 0

    def _settled(self, url: str) -> tuple[str, int]:
        """Return the upload's URL and bytes once they grow no more.

        What was on its way when the connection broke is still being taken in. Sending from a place that
        is passed meanwhile would be for nothing, and the refusal comes when megabytes are on their way.
        """
        url, size = self._repository.upload_state(url)
        for _ in range(_LOOKS):
            before = size
            self._stop.wait(_LOOK_SECONDS)
            url, size = self._repository.upload_state(url)
            if size == before:
                break
        return url, size

    def _pieces(
        self, blob: Outgoing, start: int, tell: Callable[[int], object]
    ) -> Callable[[], Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            told = 0.0
            with blob.open() as file:
                offset, end = start, blob.size
                while offset < end:
                    self._stop.check()
                    data = os.pread(file.fileno(), min(_PIECE, end - offset), offset)
                    if not data:
                        return
                    yield data
                    offset += len(data)
                    now = time.monotonic()
                    if now - told >= _REPORT_SECONDS or offset == blob.size:
                        told = now
                        tell(offset)

        return pieces


def _wait(error: WherryError, failures: int) -> int:
    if isinstance(error, Refused) and error.retry_after:
        return min(int(error.retry_after) + 1, _LONGEST_WAIT)
    return min(_RETRY_SECONDS * (failures - 1), _LONGEST_WAIT)
