"""rmi and prune: what may be removed, in Docker's order and words, and what goes with it.

A name given takes that name away, and the image with the last one; an id takes the image and all its
names, if they are of one repository. Containers keep an image: stopped ones unless forced, running
ones always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wherry.images.store import ImageStore
from wherry.images.users import Use, Users
from wherry.kernel.failpoints import failpoint
from wherry.model.errors import Conflict
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image
from wherry.model.views import ImageDeletion
from wherry.storage.collector import Collector

Notice = Callable[[str, Image], None]
"""Called with `untag` or `delete` and the image."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was untagged and deleted, in order, and the bytes that it gave back."""

    deletions: tuple[ImageDeletion, ...]
    space: int


class Remover:
    """Removes images. Blocking."""

    def __init__(
        self, store: ImageStore, collector: Collector, users: Users, notice: Notice
    ) -> None:
        self._store = store
        self._collector = collector
        self._users = users
        self._notice = notice

    def remove(self, ref: str, *, force: bool, prune: bool) -> Removed:
        """Remove what `ref` names; with `prune` also its parents that nothing needs any more.

        Raises NotFound, and Conflict where a container, a child or other names keep it.
        """
        image = self._store.resolve(ref)
        references = self._store.references(image.id)
        untagged: list[ImageDeletion] = []
        named = not self._store.is_id(ref, image.id)
        if named:
            if not force and _is_single(references):
                self._refuse_used(ref, image.id)
            reference = Reference.parse(ref).with_default_tag()
            untagged += self._untag(image, reference)
            untagged += self._untag_lone_digests(image, reference)
            if self._store.references(image.id):
                return Removed(tuple(untagged), 0)
        elif _is_single(references):
            self._check(image.id, force=force, names_matter=False)
            for reference in references:
                untagged += self._untag(image, reference)
        removed = self._delete(image, force=force, prune=prune, quiet=named)
        return Removed((*untagged, *removed.deletions), removed.space)

    def prune(self, candidates: Sequence[Image]) -> Removed:
        """Remove those of `candidates` that no container uses, with all their names."""
        deletions: list[ImageDeletion] = []
        space = 0
        used = self._users.image_users()
        for image in candidates:
            # A parent among them may have gone with its child already.
            if not self._store.has(image.id):
                continue
            if used.get(image.id) or self._store.children(image.id):
                continue
            for reference in self._store.references(image.id):
                deletions += self._untag(image, reference)
            removed = self._delete(image, force=False, prune=True, quiet=True)
            deletions += removed.deletions
            space += removed.space
        return Removed(tuple(deletions), space)

    def _delete(self, image: Image, *, force: bool, prune: bool, quiet: bool) -> Removed:
        try:
            self._check(image.id, force=force, names_matter=True)
        except Conflict:
            if quiet:
                return Removed((), 0)
            raise
        deletions: list[ImageDeletion] = []
        for reference in self._store.references(image.id):
            deletions += self._untag(image, reference)
        self._store.forget(image.id)
        failpoint("images.after-forget")
        self._notice("delete", image)
        deletions.append(ImageDeletion(deleted=str(image.id)))
        blobs = [layer.blob for layer in image.layers]
        collected = self._collector.collect(
            [*reversed(image.chain), *blobs, image.manifest, image.id]
        )
        deletions += [ImageDeletion(deleted=str(chain)) for chain in collected.layers]
        space = collected.space
        if prune and image.parent is not None and self._store.has(image.parent):
            parent = self._store.get(image.parent)
            if not self._store.references(parent.id):
                more = self._delete(parent, force=False, prune=True, quiet=True)
                deletions += more.deletions
                space += more.space
        return Removed(tuple(deletions), space)

    def _untag(self, image: Image, reference: Reference) -> list[ImageDeletion]:
        self._store.untag(reference)
        self._notice("untag", image)
        return [ImageDeletion(untagged=reference.familiar)]

    def _untag_lone_digests(self, image: Image, gone: Reference) -> list[ImageDeletion]:
        """Take away `name@digest` of a repository whose last tag on this image went."""
        rest = [
            reference
            for reference in self._store.references(image.id)
            if reference.repository == gone.repository
        ]
        if gone.digest or any(reference.tag for reference in rest):
            return []
        return [line for reference in rest for line in self._untag(image, reference)]

    def _refuse_used(self, ref: str, identifier: Digest) -> None:
        users = self._uses(identifier)
        if users:
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - container'
                f" {users[0].container_id[:12]} is using its referenced image {identifier.short}"
            )

    def _check(self, identifier: Digest, *, force: bool, names_matter: bool) -> None:
        if self._store.children(identifier):
            raise _conflict(identifier, "image has dependent child images", hard=True)
        users = self._uses(identifier)
        for use in users:
            if use.running:
                raise _conflict(
                    identifier,
                    f"image is being used by running container {use.container_id[:12]}",
                    hard=True,
                )
        if force:
            return
        if names_matter and self._store.references(identifier):
            raise _conflict(identifier, "image is referenced in multiple repositories", hard=False)
        for use in users:
            raise _conflict(
                identifier,
                f"image is being used by stopped container {use.container_id[:12]}",
                hard=False,
            )

    def _uses(self, identifier: Digest) -> Sequence[Use]:
        return self._users.image_users().get(identifier, ())


def _is_single(references: Sequence[Reference]) -> bool:
    """Whether all names are of one repository, with at most one tag among them."""
    tags = sum(1 for reference in references if reference.tag)
    return tags <= 1 and len({reference.repository for reference in references}) <= 1


def _conflict(identifier: Digest, problem: str, *, hard: bool) -> Conflict:
    force = "cannot be forced" if hard else "must be forced"
    return Conflict(f"conflict: unable to delete {identifier.short} ({force}) - {problem}")
