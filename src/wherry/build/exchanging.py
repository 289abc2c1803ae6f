"""`--cache-from` and `--cache-to` carried out: images of the store, folders, registries.

A registry is asked for the records first, then for the layers of those results that are not here. No image
enters the store for it, and none is made for what is pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from wherry.build.cache import BuildCache
from wherry.build.exchange import (
    Record,
    absolute,
    cache_image,
    export_folder,
    import_folder,
    import_records,
    layers_of,
    records_of,
)
from wherry.build.forms import Forms, LayerForms, parse_compression
from wherry.build.mountcache import MountCache
from wherry.images.bridge import in_thread
from wherry.images.config import LARGEST_CONFIG
from wherry.images.intake import Intake
from wherry.images.manifests import Descriptor, decode_index, decode_manifest, encode_manifest
from wherry.images.store import ImageStore, StoredLayer
from wherry.images.transfer.documents import Documents, Fetching
from wherry.model.build import BuildRequest, BuildWarning, CacheRef, Progress
from wherry.model.errors import Invalid, NotFound, Unavailable, Unsupported, WherryError
from wherry.model.ids import Digest, Reference
from wherry.model.images import Layer
from wherry.registry.media import INDEXES, OCI_CONFIG, OCI_MANIFEST

T = TypeVar("T")
_MOST_MANIFESTS = 16
"""Of an index: one a platform."""


class CacheRegistry(Protocol):
    """What is used of registries."""

    async def fetch(
        self, reference: Reference, request: BuildRequest, work: Callable[[Fetching], T]
    ) -> T:
        """Return what `work` returns; it is called in a thread. Raises NotFound, Unavailable and the like."""
        ...

    async def push_documents(
        self,
        reference: Reference,
        documents: Documents,
        request: BuildRequest,
        report: Callable[[Progress], None],
    ) -> None:
        """Push them. Raises Unauthorized kinds, Unavailable and the like."""
        ...


class Exchanging:
    """Takes caches in and gives them away."""

    def __init__(
        self,
        cache: BuildCache,
        mounts: MountCache,
        store: ImageStore,
        forms: Forms,
        registry: CacheRegistry | None,
    ) -> None:
        self._cache = cache
        self._mounts = mounts
        self._store = store
        self._forms = forms
        self._registry = registry

    # -- in ----------------------------------------------------------------------------------

    async def take(
        self, request: BuildRequest, intake: Intake, emit: Callable[[Progress], None]
    ) -> None:
        """Take in what `--cache-from` names; what cannot be had is told, and the build goes on."""
        for ref in request.cache_from:
            try:
                await self._take(ref, request, intake)
            except WherryError as error:
                name = ref.get("ref") or ref.get("src")
                emit(BuildWarning("", f"cache {ref.kind} {name} could not be imported: {error}"))

    async def _take(self, ref: CacheRef, request: BuildRequest, intake: Intake) -> None:
        if ref.kind == "local":
            folder = absolute(ref.get("src"))
            await in_thread(lambda: import_folder(folder, self._cache, intake, self._mounts))
            return
        if ref.kind not in ("registry", "inline"):
            raise Unsupported(f"a cache of type {ref.kind} is not known")
        name = ref.get("ref")
        # An image's name means the image that is here, if it is: so did the classic builder's.
        if ref.kind == "inline" and await in_thread(lambda: self._take_image(name, intake)):
            return
        if self._registry is None:
            raise NotFound("build cache", name)
        reference = Reference.parse(name).with_default_tag()
        try:
            await self._registry.fetch(
                reference, request, lambda found: self._take_fetched(found, name, intake)
            )
        except (NotFound, Unavailable):
            if ref.kind == "inline" or not await in_thread(lambda: self._take_image(name, intake)):
                raise

    def _take_image(self, name: str, intake: Intake) -> bool:
        """Take in the records of an image of the store; return whether there is such an image."""
        try:
            image = self._store.resolve(name)
        except NotFound:
            return False
        intake.hold(*image.chain, *(layer.blob for layer in image.layers))
        config = self._store.config_json(image.id)
        import_records(config, image.layers, self._cache, intake, self._mounts, lambda layer: None)
        return True

    def _take_fetched(self, found: Fetching, name: str, intake: Intake) -> None:
        media_type, data = found.manifest("")
        manifests = [data]
        if media_type in INDEXES:
            entries = [
                entry
                for entry in decode_index(data, name)
                if entry.platform is None or entry.platform.architecture != "unknown"
            ]
            manifests = [found.manifest(entry.digest)[1] for entry in entries[:_MOST_MANIFESTS]]
        for one in manifests:
            manifest = decode_manifest(one, name)
            if manifest.config.size > LARGEST_CONFIG:
                raise Invalid(f"the cache {name} has more than {LARGEST_CONFIG} bytes of records")
            config = found.small(manifest.config.digest, manifest.config.size)
            layers = layers_of(config, manifest.layers, name)

            def bring(layer: Layer) -> None:
                if intake.content.has(layer.blob):
                    return
                with intake.content.writer(layer.blob.algorithm) as writer:
                    found.blob(str(layer.blob), layer.blob_size, writer.write)
                    writer.commit(layer.blob, size=layer.blob_size)

            import_records(config, layers, self._cache, intake, self._mounts, bring)

    # -- out ---------------------------------------------------------------------------------

    async def give(
        self,
        request: BuildRequest,
        least: Sequence[Record],
        used: frozenset[str],
        intake: Intake,
        emit: Callable[[Progress], None],
    ) -> None:
        """Give the cache to what `--cache-to` names: `least` are the image's own steps, `used` all keys.

        Raises what writing and pushing raise, unless `ignore-error=true` makes it a warning.
        """
        for ref in request.cache_to:
            if ref.kind == "inline":
                continue
            try:
                await self._give(ref, request, least, used, intake, emit)
            except WherryError as error:
                if ref.get("ignore-error") not in ("1", "true"):
                    raise
                emit(BuildWarning("", f"cache {ref.kind} could not be exported: {error}"))

    async def _give(
        self,
        ref: CacheRef,
        request: BuildRequest,
        least: Sequence[Record],
        used: frozenset[str],
        intake: Intake,
        emit: Callable[[Progress], None],
    ) -> None:
        mode = ref.get("mode") or "min"
        if mode not in ("min", "max"):
            raise Invalid(f"invalid mode {mode!r} of a cache", hint="min or max")
        wanted = used if mode == "max" else {record.key for record in least}
        mounts = self._mounts if ref.get("mounts") in ("true", "1") else None
        config, layers = await in_thread(
            lambda: cache_image(records_of(self._cache, wanted), intake, mounts)
        )
        if ref.kind == "local":
            folder = absolute(ref.get("dest"))
            await in_thread(lambda: export_folder(folder, config, layers, intake))
        elif ref.kind != "registry":
            raise Unsupported(f"a cache of type {ref.kind} is not known")
        elif self._registry is None:
            raise Unsupported("this engine cannot push", hint="--cache-to type=local")
        else:
            reference = Reference.parse(ref.get("ref")).with_default_tag()
            forms = LayerForms(intake, self._forms, parse_compression(dict(ref.attributes)))
            documents = await in_thread(lambda: _documents(config, layers, forms))
            await self._registry.push_documents(reference, documents, request, emit)


def _documents(config: bytes, layers: Sequence[StoredLayer], forms: LayerForms) -> Documents:
    blobs = [forms.form(stored) for stored in layers]
    about = Descriptor(OCI_CONFIG, str(Digest.of(config)), len(config))
    manifest = encode_manifest(about, blobs)
    root = Descriptor(OCI_MANIFEST, str(Digest.of(manifest)), len(manifest))
    return Documents(blobs, [(about.digest, config)], [(root, manifest)])
