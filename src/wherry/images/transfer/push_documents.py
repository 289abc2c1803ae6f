"""Push of documents: layers several at a time, then small blobs, then manifests, the one with the name last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Final

from wherry.images.manifests import Descriptor
from wherry.images.places import Places
from wherry.images.transfer.documents import Documents
from wherry.images.transfer.upload import Outgoing, Uploader
from wherry.model.ids import Digest, Reference
from wherry.model.views import Progress
from wherry.registry.client import Repository
from wherry.registry.media import is_foreign
from wherry.registry.stopping import Stop
from wherry.storage.content import ContentStore

_WORKERS: Final = 3


class DocumentPusher:
    """Pushes them. Blocking."""

    def __init__(self, *, content: ContentStore, places: Places, attempts: int) -> None:
        self._content = content
        self._places = places
        self.limit(attempts)

    def limit(self, attempts: int) -> None:
        """Try what is pushed from now on so often."""
        self._attempts = attempts

    def push(
        self,
        repository: Repository,
        reference: Reference,
        documents: Documents,
        report: Callable[[Progress], None],
        stop: Stop,
    ) -> Digest:
        """Push all of it and return the digest that `reference` then is.

        Raises Refused where the registry lets us not, Unavailable where it cannot be reached.
        """
        uploader = Uploader(repository, reference.repository, self._places, stop, self._attempts)
        layers = {one.digest: one for one in documents.layers if not is_foreign(one.media_type)}
        told = threading.Lock()

        def tell(line: Progress) -> None:
            with told:
                report(line)

        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="push") as pool:
            tasks = [
                pool.submit(self._layer, uploader, layer, tell, stop) for layer in layers.values()
            ]
            done, pending = wait(tasks, return_when=FIRST_EXCEPTION)
            problem = next((t.exception() for t in done if t.exception() is not None), None)
            if problem is not None:
                stop.set()
                for task in pending:
                    task.cancel()
        if problem is not None:
            raise problem
        for text, data in documents.blobs:
            digest = Digest.parse(text)
            if not uploader.has(digest):
                repository.finish_upload(repository.begin_upload(), digest, data)
        digest = Digest.parse(documents.manifests[-1][0].digest)
        for descriptor, data in documents.manifests[:-1]:
            repository.put_manifest(Digest.parse(descriptor.digest), descriptor.media_type, data)
        root, data = documents.manifests[-1]
        repository.put_manifest(reference.tag or digest, root.media_type, data)
        report(Progress(f"{reference.tag}: digest: {digest} size: {len(data)}"))
        return digest

    def _layer(
        self,
        uploader: Uploader,
        layer: Descriptor,
        tell: Callable[[Progress], None],
        stop: Stop,
    ) -> None:
        stop.check()
        digest = Digest.parse(layer.digest)
        if uploader.has(digest):
            tell(Progress("Layer already exists", digest.short))
            return
        source = uploader.mount(digest, [])
        if source is not None:
            tell(Progress(f"Mounted from {source}", digest.short))
            return
        uploader.send(
            Outgoing(digest, layer.size, lambda: self._content.open(digest)),
            lambda done: tell(Progress("Pushing", digest.short, done, layer.size)),
            lambda left: tell(Progress(f"Retrying in {left}s", digest.short)),
        )
        tell(Progress("Pushed", digest.short))
