"""Pull: an image out of a registry into the store, its layers fetched, verified and unpacked at once.

manifest > configuration > { layers come in, several at a time } beside { they are unpacked, base
first, as they come } > blobs adopted > image registered > what was kept for resuming removed
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Final

from wherry.images.config import host_platform
from wherry.images.intake import Intake, Intakes
from wherry.images.places import Places
from wherry.images.store import ImageStore, StoredLayer
from wherry.images.transfer.download import Download, Downloads, KeptPartSpoilt
from wherry.images.transfer.resolve import Found, find_image, platform_name
from wherry.images.unpack import LayerBlob, Unpacker
from wherry.kernel.failpoints import failpoint
from wherry.model.errors import NotFound, WherryError
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Platform, chain_ids
from wherry.model.views import Progress
from wherry.registry.answers import WrongContent
from wherry.registry.client import BlobBody, Repository
from wherry.registry.stopping import Stop
from wherry.storage.content import ContentStore
from wherry.storage.layers import Readable
from wherry.storage.partials import Partials
from wherry.storage.snapshots import Snapshotter

Report = Callable[[Progress], None]
_REPORT_SECONDS: Final = 0.1
# Of a whole image: what was kept may be spoilt, what another pull fetched may fail with its registry.
_ATTEMPTS: Final = 3
# A layer that cannot be unpacked is waited for up to this size, to know whether its bytes are wrong.
_WAITED_FOR: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of a pull: the image, and whether its name stood for it before."""

    image: Image
    digest: Digest
    up_to_date: bool
    warning: str = ""


class Puller:
    """Pulls images. Blocking; several pulls of one layer share the work."""

    def __init__(
        self,
        *,
        store: ImageStore,
        content: ContentStore,
        snapshots: Snapshotter,
        partials: Partials,
        places: Places,
        unpacker: Unpacker,
        intakes: Intakes,
        downloads: Downloads,
    ) -> None:
        self._store = store
        self._content = content
        self._snapshots = snapshots
        self._partials = partials
        self._places = places
        self._unpacker = unpacker
        self._intakes = intakes
        self._downloads = downloads

    def pull(
        self,
        repository: Repository,
        reference: Reference,
        platform: Platform | None,
        report: Report,
        check: Callable[[], object],
    ) -> Pulled:
        """Bring in what `reference` (a tag or a digest) stands for. `check` raises to call it off.

        Raises Refused where the registry has none or lets us not; Invalid and WrongContent, naming
        the part, for what is not what it should be; Full.
        """
        top = repository.manifest(reference.digest or reference.tag)
        name = str(reference.digest) if reference.digest else reference.tag
        report(Progress(f"Pulling from {repository.path}", str(name)))
        found = find_image(repository, top, platform or host_platform(), self._content)
        before = self._store.named(reference)
        image = self._name_known(reference, found)
        if image is None:
            image = self._bring(repository, reference, found, report, check)
        warning = ""
        if platform is not None and not _fits(image.platform, platform):
            warning = (
                f"WARNING: image with reference {reference.familiar} was found but its platform"
                f" ({platform_name(image.platform)}) does not match the specified platform"
                f" ({platform_name(platform)})"
            )
        return Pulled(image, top.digest, before == image.id, warning)

    def _name_known(self, reference: Reference, found: Found) -> Image | None:
        """Give an image that is here the names; return None where it is not."""
        if not self._store.has(found.image_id):
            return None
        try:
            for name in _names(reference, found):
                self._store.tag(found.image_id, name)
            return self._store.get(found.image_id)
        except NotFound:
            return None

    def _bring(
        self,
        repository: Repository,
        reference: Reference,
        found: Found,
        report: Report,
        check: Callable[[], object],
    ) -> Image:
        chains = chain_ids(blob.diff_id for blob in found.layers)
        for attempt in range(1, _ATTEMPTS + 1):
            with self._intakes() as intake, ExitStack() as stack:
                intake.hold(*chains, *(blob.blob for blob in found.layers))
                present = self._present(chains, intake)
                incoming = _Incoming(
                    self._downloads, self._content, self._partials, repository, report, check
                )
                stack.callback(incoming.close)
                try:
                    incoming.begin(found.layers, present)
                    layers = self._unpacker.unpack(
                        incoming.blobs, intake, incoming.progress, incoming
                    )
                except WherryError as problem:
                    check()
                    error = incoming.verdict(problem)
                    again = isinstance(error, KeptPartSpoilt) or incoming.others_failed()
                    if attempt == _ATTEMPTS or not again:
                        raise error from problem
                    continue
                incoming.adopt()
                failpoint("pull.before-register")
                image = self._register(reference, found, layers, intake)
                incoming.registered = True
            self._places.add(f"{reference.repository}", [blob.blob for blob in found.layers])
            return image
        raise AssertionError("unreachable")

    def _present(self, chains: Sequence[Digest], intake: Intake) -> dict[int, StoredLayer]:
        """Return the layers that are here already, by position. Their blobs are held."""
        present: dict[int, StoredLayer] = {}
        for position, chain in enumerate(chains):
            known = self._store.layer_of(chain)
            if known is None or not self._snapshots.has_layer(chain):
                continue
            intake.hold(known.layer.blob)
            if self._content.has(known.layer.blob):
                present[position] = known
        return present

    def _register(
        self,
        reference: Reference,
        found: Found,
        layers: Sequence[StoredLayer],
        intake: Intake,
    ) -> Image:
        identifier = intake.put(found.config_bytes)
        manifest = intake.put(found.manifest.data)
        image, _ = self._store.register(
            identifier, manifest, layers, references=_names(reference, found)
        )
        return image


class _Incoming:
    """The layers of one pull on their way: downloads to begin, follow and let go of. A LayerSource."""

    def __init__(
        self,
        downloads: Downloads,
        content: ContentStore,
        partials: Partials,
        repository: Repository,
        report: Report,
        check: Callable[[], object],
    ) -> None:
        self.blobs: list[LayerBlob] = []
        self.registered = False
        self._downloads = downloads
        self._content = content
        self._partials = partials
        self._repository = repository
        self._report = report
        self._check = check
        self._going: dict[Digest, Download] = {}
        self._shared: list[Download] = []
        self._present: set[Digest] = set()
        self._read: Digest | None = None
        self._extracted = 0.0

    def others_failed(self) -> bool:
        """Whether a download failed that another pull began, from its registry and with its credentials."""
        return any(download.failed for download in self._shared)

    def verdict(self, problem: WherryError) -> WherryError:
        """Return what made unpacking fail: `problem`, or that the blob is not what its digest says."""
        download = self._going.get(self._read) if self._read else None
        if download is not None and (download.kept or download.size <= _WAITED_FOR):
            try:
                download.wait(self._check)
            except WherryError as error:
                return error
        return problem

    def begin(self, layers: Sequence[LayerBlob], present: dict[int, StoredLayer]) -> None:
        """Begin what is not present: downloads of blobs that are not here either."""
        for position, blob in enumerate(layers):
            known = present.get(position)
            if known is not None:
                self._report(Progress("Already exists", blob.blob.short))
                layer = known.layer
                blob = LayerBlob(layer.blob, layer.blob_size, layer.media_type, layer.diff_id)
                self._present.add(blob.diff_id)
            self.blobs.append(blob)
            if known is not None:
                continue
            self._report(Progress("Pulling fs layer", blob.blob.short))
        for position, blob in enumerate(layers):
            if position in present or blob.blob in self._going:
                continue
            if self._content.has(blob.blob):
                if self._content.size(blob.blob) != blob.size:
                    raise WrongContent(f"layer {blob.blob} has another size than its manifest says")
                self._report(Progress("Download complete", blob.blob.short))
                continue
            self._join(blob)

    def _join(self, blob: LayerBlob) -> None:
        download, own = self._downloads.join(blob.blob, blob.size, self._open_at, self._report)
        self._going[blob.blob] = download
        if not own:
            self._shared.append(download)

    def _open_at(self, digest: Digest, offset: int, stop: Stop) -> BlobBody:
        return self._repository.blob(digest, offset, stop)

    def open(self, blob: LayerBlob) -> AbstractContextManager[Readable]:
        """Return the blob's bytes as they come."""
        download = self._going.get(blob.blob)
        self._read = blob.blob
        if download is None:
            return self._content.open(blob.blob)
        return download.reader(self._check)

    def verify(self, blob: LayerBlob) -> None:
        """Wait for the whole blob, whose digest its download verifies."""
        download = self._going.get(blob.blob)
        if download is not None:
            download.wait(self._check)

    def made(self, blob: LayerBlob) -> None:
        """Say that the layer is done."""
        if blob.diff_id in self._present:
            return
        self._report(Progress("Extracting", blob.blob.short, blob.size, blob.size))
        self._report(Progress("Pull complete", blob.blob.short))

    def progress(self, blob: LayerBlob, done: int) -> None:
        """Say how far unpacking is, once it no longer waits for the download."""
        self._check()
        download = self._going.get(blob.blob)
        if download is not None and not download.done:
            return
        now = time.monotonic()
        if now - self._extracted >= _REPORT_SECONDS:
            self._extracted = now
            self._report(Progress("Extracting", blob.blob.short, done, blob.size))

    def adopt(self) -> None:
        """Make every blob that came one of the content store."""
        for download in self._going.values():
            download.wait(self._check)
            download.adopt()

    def close(self) -> None:
        """Let go of the downloads; what came of them is kept unless the image is registered."""
        for download in self._going.values():
            download.unwatch(self._report)
            try:
                self._downloads.leave(download, discard=self.registered)
            except WherryError:
                continue


def _names(reference: Reference, found: Found) -> list[Reference]:
    by_digest = replace(reference, tag="", digest=found.top.digest)
    return [by_digest] if reference.digest else [reference, by_digest]


def _fits(have: Platform, wanted: Platform) -> bool:
    if (have.os, have.architecture) != (wanted.os, wanted.architecture):
        return False
    return not wanted.variant or not have.variant or have.variant == wanted.variant
