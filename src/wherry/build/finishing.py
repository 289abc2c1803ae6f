"""The end of a build: images out of stages, into the store or not, with what is attested of them, and outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from wherry.build.annotations import MANIFEST, of_level, parse_annotations
from wherry.build.arguments import platform_text
from wherry.build.destinations import is_stored, is_written
from wherry.build.files import BuiltImage, Export, Exported, Exporter
from wherry.build.finish import encode_image, image_config
from wherry.build.layers import LayersTree
from wherry.build.made import Made
from wherry.build.stages import StageResult
from wherry.build.statements import Attestation
from wherry.build.steps import FromImage, Graph, Stage
from wherry.images.bridge import in_thread
from wherry.images.config import host_platform
from wherry.images.intake import Intake
from wherry.images.making import put_manifest
from wherry.images.store import ImageStore
from wherry.model.build import (
    BuildRequest,
    Finished,
    Progress,
    StepDone,
    StepFailed,
    StepRef,
    StepStarted,
    Transfer,
)
from wherry.model.errors import Unsupported, WherryError
from wherry.model.ids import Digest, Reference, new_id
from wherry.model.images import Image
from wherry.storage.snapshots import Snapshotter

Emit = Callable[[Progress], None]
_EXPORTS = 1 << 30
"""Ids of steps from here on are those of outputs."""
_TITLES = {
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
}


@dataclass(frozen=True, slots=True)
class Solved:
    """What one platform's image is made of."""

    request: BuildRequest
    graph: Graph
    images: Mapping[FromImage, Image]
    target: Stage
    result: StageResult
    used: frozenset[str]
    """The keys of all results that were used or made."""


class Finishing:
    """Makes images, and has them brought where they are wanted."""

    def __init__(
        self, store: ImageStore, snapshots: Snapshotter, tagged: Callable[[Image, str], None]
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._tagged = tagged

    async def finish(
        self,
        request: BuildRequest,
        solved: Sequence[Solved],
        references: Sequence[Reference],
        began: int,
        exporter: Exporter | None,
        intake: Intake,
        emit: Emit,
    ) -> Finished:
        """Return what the build came to. Raises what an output raises."""
        written = [output for output in request.outputs if is_written(output)]
        if written and exporter is None:
            raise Unsupported(f"the output {written[0].kind} has nobody to write it")
        stored = is_stored(request)
        kept = tuple(references) if stored else ()
        build_id, ended = new_id()[:24], time.time_ns()
        made = [
            Made(one.request, one.graph, one.images, host_platform(), build_id, began, ended)
            for one in solved
        ]
        images = [await in_thread(lambda one=one: self._make(one, intake)) for one in solved]
        if stored:
            images = [await in_thread(lambda: self._register(solved[0], images[0], kept))]
            for reference in kept:
                self._tagged(images[0].image, reference.familiar)
        if written and (request.provenance or request.sbom):
            images = [
                await in_thread(
                    lambda one=one, facts=facts, how=how: _attested(request, one, facts, how)
                )
                for one, facts, how in zip(images, made, solved, strict=True)
            ]
        told = Exported(str(images[0].image.manifest)) if stored else Exported()
        for number, output in enumerate(written):
            assert exporter is not None
            answer = await _export(
                Export(request, output, images), exporter, _EXPORTS + number, emit
            )
            told = answer if answer.digest else told
        return _finished(request, images, made, told, stored, kept, intake, build_id)

    def _make(self, solved: Solved, intake: Intake) -> BuiltImage:
        """Return an image whose blobs are written and held, and that no store knows yet."""
        request, result = solved.request, solved.result
        data = encode_image(request, solved.target, result)
        identifier = intake.put(data)
        platform = solved.target.platform
        annotations = of_level(parse_annotations(request.annotations), MANIFEST, platform)
        layers = tuple(stored.layer for stored in result.layers)
        manifest = put_manifest(intake, identifier, len(data), list(layers), annotations)
        image = Image(
            identifier,
            manifest,
            image_config(request, solved.target),
            layers,
            platform=platform,
            history=result.history,
        )
        return BuiltImage(image, data, result.layers, LayersTree(self._snapshots, image.chain))

    def _register(
        self, solved: Solved, built: BuiltImage, references: Sequence[Reference]
    ) -> BuiltImage:
        base = solved.result.base
        image, _ = self._store.register(
            built.image.id,
            built.image.manifest,
            built.layers,
            references=references,
            parent=base.id if base is not None else None,
        )
        return BuiltImage(image, built.config, built.layers, built.root)


def _attested(request: BuildRequest, built: BuiltImage, made: Made, solved: Solved) -> BuiltImage:
    """Return the image with what was asked to be attested of it. Blocks."""
    # Here, since most builds attest nothing.
    from wherry.build.provenance import provenance
    from wherry.build.sbom.scan import scan
    from wherry.build.sbom.spdx import bill

    found: list[Attestation] = []
    if request.sbom:
        with built.root.open() as root:
            packages = scan(root)
        # The name of a document is free: as with BuildKit, that of what was scanned.
        found.append(bill(packages, "sbom", solved.result.epoch))
    if request.provenance:
        version, builder = request.provenance_version, request.builder_id
        found.append(provenance(made, request.provenance, version, builder))
    return BuiltImage(built.image, built.config, built.layers, built.root, tuple(found))


async def _export(export: Export, exporter: Exporter, number: int, emit: Emit) -> Exported:
    step = StepRef(number, _TITLES.get(export.output.kind, "pushing to registry"))

    def tell(event: Progress) -> None:
        if isinstance(event, Transfer) and event.step is None:
            event = replace(event, step=step)
        emit(event)

    emit(StepStarted(step, time.time_ns()))
    try:
        answer = await exporter.export(export, tell)
    except WherryError as error:
        emit(StepFailed(step, time.time_ns(), str(error)))
        raise
    if answer.digest:
        images = export.images
        what = "manifest list" if len(images) > 1 or images[0].attestations else "manifest"
        emit(Transfer(step, f"exporting {what} {answer.digest}", 0, 0, True))
    emit(StepDone(step, time.time_ns()))
    return answer


def _finished(
    request: BuildRequest,
    images: Sequence[BuiltImage],
    made: Sequence[Made],
    told: Exported,
    stored: bool,
    references: Sequence[Reference],
    intake: Intake,
    build_id: str,
) -> Finished:
    from wherry.build.provenance import summary

    several = len(images) > 1
    metadata: dict[str, object] = {}
    for one, facts in zip(images, made, strict=True):
        suffix = f"/{platform_text(one.image.platform)}" if several else ""
        metadata[f"buildx.build.provenance{suffix}"] = summary(facts)
    metadata["buildx.build.ref"] = f"wherry/wherry/{build_id}"
    identifier = ""
    if told.digest:
        image = images[0].image
        alone = not several and (stored or not images[0].attestations)
        identifier = str(image.id) if alone else told.digest
        if alone:
            metadata["containerimage.config.digest"] = str(image.id)
        if told.descriptor is not None:
            metadata["containerimage.descriptor"] = dict(told.descriptor)
        metadata["containerimage.digest"] = told.digest
        names = [str(reference) for reference in references] or list(request.tags)
        if names:
            metadata["image.name"] = ",".join(
                str(Reference.parse(name).with_default_tag()) for name in names
            )
    return Finished(
        image_id=identifier,
        manifest=told.digest,
        manifest_size=_size(told, intake),
        stored=stored,
        names=tuple(reference.familiar for reference in references),
        metadata=metadata,
    )


def _size(told: Exported, intake: Intake) -> int:
    if told.descriptor is not None:
        size = told.descriptor.get("size")
        return size if isinstance(size, int) else 0
    return intake.content.size(Digest.parse(told.digest)) if told.digest else 0
