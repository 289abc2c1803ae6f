"""Push: an image out of the store into a registry, its layers' blobs several at a time.

An image that came from a registry goes out with the bytes that it came with: the same manifest, the
same digest. Layers made here are compressed once; what came of it is kept for the next push.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Final

from wherry.images.intake import Intake, Intakes
from wherry.images.manifests import (
    LARGEST_MANIFEST,
    Descriptor,
    decode_manifest,
    encode_manifest,
)
from wherry.images.places import LayerForm, Places
from wherry.images.store import ImageStore
from wherry.images.transfer.resolve import platform_name
from wherry.images.transfer.upload import Outgoing, Uploader
from wherry.model.errors import Internal
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Layer, Platform
from wherry.model.views import Progress
from wherry.registry.client import Repository
from wherry.registry.faults import Missing
from wherry.registry.media import (
    DOCKER_LAYER,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    is_foreign,
)
from wherry.registry.stopping import Stop
from wherry.storage.content import ContentStore
from wherry.storage.layers.compression import Compression, compressor, decompressed

Report = Callable[[Progress], None]
_PIECE: Final = 1 << 20
_PLAIN: Final = (OCI_LAYER, DOCKER_LAYER)


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer as it is pushed."""

    layer: Layer
    wanted: Descriptor
    """What the image's own manifest says of it."""


class Pusher:
    """Pushes images. Blocking."""

    def __init__(
        self,
        *,
        store: ImageStore,
        content: ContentStore,
        places: Places,
        intakes: Intakes,
        concurrent: int,
        attempts: int,
    ) -> None:
        self._store = store
        self._content = content
        self._places = places
        self._intakes = intakes
        self._compressing: dict[Digest, threading.Lock] = {}
        self._lock = threading.Lock()
        self.limit(concurrent, attempts)

    def limit(self, concurrent: int, attempts: int) -> None:
        """Let that many of the layers that begin from now on be sent at a time, and tried so often."""
        self._concurrent = concurrent
        self._attempts = attempts
        self._slots = threading.BoundedSemaphore(concurrent)

    def chosen(
        self, reference: Reference, platform: Platform | None
    ) -> list[tuple[Image, Reference]]:
        """Return what to push: the image of the tag, or all tags. Raises NotFound with Docker's words."""
        if reference.tag:
            identifier = self._store.named(reference)
            found = [(reference, identifier)] if identifier is not None else []
        else:
            found = self._store.in_repository(reference)
        if not found:
            raise Missing(
                f"An image does not exist locally with the tag: {reference.familiar_repository}"
            )
        chosen: list[tuple[Image, Reference]] = []
        for name, identifier in found:
            image = self._store.get(identifier)
            if platform is not None and not _fits(image.platform, platform):
                raise Missing(
                    f"image with reference {name.familiar} was found but does not provide the"
                    f" specified platform ({platform_name(platform)})"
                )
            chosen.append((image, name))
        return chosen

    def push(
        self,
        repository: Repository,
        image: Image,
        reference: Reference,
        report: Report,
        stop: Stop,
    ) -> Digest:
        """Push `image` as `reference` and return its manifest's digest.

        Raises Refused where the registry lets us not, Unavailable where it cannot be reached.
        """
        with self._intakes() as intake:
            intake.hold(image.id, image.manifest, *(layer.blob for layer in image.layers))
            image = self._store.get(image.id)
            data = self._content.read(image.manifest, limit=LARGEST_MANIFEST)
            manifest = decode_manifest(data, str(image.manifest))
            if len(manifest.layers) != len(image.layers):
                raise Internal(f"manifest {image.manifest} is not that of image {image.id}")
            parts = [
                _Part(layer, wanted)
                for layer, wanted in zip(image.layers, manifest.layers, strict=True)
            ]
            uploader = Uploader(
                repository, reference.repository, self._places, stop, self._attempts
            )
            pushed = self._push_layers(uploader, image, parts, intake, report, stop)
            config = self._store.config_json(image.id)
            media_type = manifest.media_type or OCI_MANIFEST
            configuration = Digest.parse(manifest.config.digest)
            if any(new != part.wanted for new, part in zip(pushed, parts, strict=True)):
                wanted = Descriptor(OCI_CONFIG, str(image.id), len(config))
                data = encode_manifest(wanted, pushed, manifest.annotations)
                media_type = OCI_MANIFEST
                configuration = image.id
            self._push_config(uploader, repository, configuration, config)
            digest = repository.put_manifest(reference.tag, media_type, data)
            self._store.tag(image.id, replace(reference, tag="", digest=digest))
        tag = reference.tag
        report(Progress(f"{tag}: digest: {digest} size: {len(data)}"))
        report(Progress(aux=(("Tag", tag), ("Digest", str(digest)), ("Size", len(data)))))
        return digest

    def _push_layers(
        self,
        uploader: Uploader,
        image: Image,
        parts: Sequence[_Part],
        intake: Intake,
        report: Report,
        stop: Stop,
    ) -> list[Descriptor]:
        """Push every layer; return what the manifest is to say of each."""
        unique = {part.layer.diff_id: part for part in reversed(parts)}
        for part in unique.values():
            report(Progress("Preparing", part.layer.diff_id.short))
        others = [name.repository for name in self._store.references(image.id)]
        busy = max(1, min(self._concurrent, len(unique)))
        with ThreadPoolExecutor(busy, thread_name_prefix="push") as pool:
            if len(unique) > busy:
                for part in list(unique.values())[busy:]:
                    report(Progress("Waiting", part.layer.diff_id.short))
            tasks: dict[Digest, Future[Descriptor]] = {
                diff: pool.submit(self._push_layer, uploader, part, others, intake, report, stop)
                for diff, part in unique.items()
            }
            done, pending = wait(tasks.values(), return_when=FIRST_EXCEPTION)
            problem = next((t.exception() for t in done if t.exception() is not None), None)
            if pending or problem is not None:
                stop.set()
                for task in pending:
                    task.cancel()
        if problem is not None:
            raise problem
        return [tasks[part.layer.diff_id].result() for part in parts]

    def _push_layer(
        self,
        uploader: Uploader,
        part: _Part,
        others: list[str],
        intake: Intake,
        report: Report,
        stop: Stop,
    ) -> Descriptor:
        name = part.layer.diff_id.short
        if is_foreign(part.wanted.media_type):
            report(Progress("Skipped foreign layer", name))
            return part.wanted
        slots = self._slots
        while not slots.acquire(timeout=0.2):
            stop.check()
        try:
            stop.check()
            form = self._form(part, uploader, intake, stop)
            digest = Digest.parse(form.digest)
            if uploader.has(digest):
                report(Progress("Layer already exists", name))
                return form
            source = uploader.mount(digest, others)
            if source is not None:
                report(Progress(f"Mounted from {source}", name))
                return form
            if not self._content.has(digest):
                form = self._local_form(part, intake, stop)
                digest = Digest.parse(form.digest)
            uploader.send(
                Outgoing(digest, form.size, lambda: self._content.open(digest)),
                lambda done: report(Progress("Pushing", name, done, form.size)),
                lambda left: report(
                    Progress(f"Retrying in {left} second{'' if left == 1 else 's'}", name)
                ),
            )
            report(Progress("Pushed", name))
            return form
        finally:
            slots.release()

    def _form(self, part: _Part, uploader: Uploader, intake: Intake, stop: Stop) -> Descriptor:
        """Return the blob to push a layer as: its own, or what compressing one made here gives."""
        plain = part.wanted.media_type in _PLAIN
        if not plain or self._places.of(Digest.parse(part.wanted.digest)):
            return part.wanted
        known = self._places.form(part.layer.diff_id)
        if known is not None:
            intake.hold(known.blob)
            if self._content.has(known.blob) or uploader.has(known.blob):
                return _descriptor(known)
        return self._compressed(part, intake, stop)

    def _local_form(self, part: _Part, intake: Intake, stop: Stop) -> Descriptor:
        """Return the layer as a blob that is here, where the manifest's own is not."""
        layer = part.layer
        if layer.blob == layer.diff_id:
            return self._compressed(part, intake, stop)
        return Descriptor(layer.media_type, str(layer.blob), layer.blob_size)

    def _compressed(self, part: _Part, intake: Intake, stop: Stop) -> Descriptor:
        diff = part.layer.diff_id
        with self._lock:
            alone = self._compressing.setdefault(diff, threading.Lock())
        with alone:
            known = self._places.form(diff)
            if known is not None:
                intake.hold(known.blob)
                if self._content.has(known.blob):
                    return _descriptor(known)

            def produce(out: Callable[[bytes], object]) -> None:
                encoder = compressor(Compression.GZIP, out)
                with self._content.open(part.layer.blob) as file:
                    plain = decompressed(file)[1]
                    while data := plain.read(_PIECE):
                        stop.check()
                        encoder.write(data)
                encoder.finish()

            blob, size = intake.write(produce)
            form = LayerForm(blob, OCI_LAYER_GZIP, size)
            self._places.keep_form(diff, form)
            return _descriptor(form)

    def _push_config(
        self, uploader: Uploader, repository: Repository, digest: Digest, data: bytes
    ) -> None:
        if not uploader.has(digest):
            repository.finish_upload(repository.begin_upload(), digest, data)


def _descriptor(form: LayerForm) -> Descriptor:
    return Descriptor(form.media_type, str(form.blob), form.size)


def _fits(have: Platform, wanted: Platform) -> bool:
    return (have.os, have.architecture) == (wanted.os, wanted.architecture) and (
        not wanted.variant or wanted.variant == have.variant
    )
