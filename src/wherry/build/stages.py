"""The stages of one build, side by side: each waits for those it needs, where it needs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from wherry.build.cache import BuildCache, StepResult
from wherry.build.dockerfile.faults import show_place
from wherry.build.exchange import Record
from wherry.build.files import Contexts, Tree
from wherry.build.keys import step_key
from wherry.build.layers import LayersTree
from wherry.build.perform import Performer, Place, Tools
from wherry.build.service import BuildFailed
from wherry.build.sharing import SharedWork
from wherry.build.steps import (
    ConfigStep,
    FromContext,
    FromImage,
    FromStage,
    Graph,
    LayerStep,
    RunStep,
    Source,
    Stage,
    Step,
)
from wherry.images.bridge import in_thread
from wherry.images.intake import Intake
from wherry.images.store import StoredLayer
from wherry.images.unpack import LayerBlob, Unpacker
from wherry.model.build import (
    BuildRequest,
    Progress,
    SecretSource,
    StepCached,
    StepDone,
    StepFailed,
    StepOutput,
    StepRef,
    StepStarted,
)
from wherry.model.errors import Invalid, NotFound, WherryError
from wherry.model.ids import Digest, new_id
from wherry.model.images import HistoryEntry, Image, chain_ids
from wherry.model.moments import parse_rfc3339, render_rfc3339

COMMENT = "buildkit.dockerfile.v0"
"""What Docker's histories say of steps; tools look for it."""
_BILLION = 10**9
_EARLIEST = 315_532_800
"""1980-01-01: archives of the zip kind know no earlier time, and tools that make them refuse one."""

Emit = Callable[[Progress], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage came to. `base` is the image that it began from, if any."""

    layers: tuple[StoredLayer, ...]
    history: tuple[HistoryEntry, ...]
    base: Image | None
    author: str
    epoch: int
    records: tuple[Record, ...] = ()
    """What its own steps came to, and those of the stages below it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was looked up before the stages begin."""

    images: Mapping[FromImage, Image]
    layers: Mapping[FromImage, tuple[StoredLayer, ...]]


Outcome = tuple[StepResult, str]
"""What a step came to, and the id of the container it ran in, if any."""


class Stages:
    """Runs the graph of one build. `keys` are those of all results that were used or made."""

    def __init__(
        self,
        *,
        graph: Graph,
        request: BuildRequest,
        found: Found,
        tools: Tools,
        cache: BuildCache,
        sharing: SharedWork[Outcome],
        contexts: Contexts,
        unpacker: Unpacker,
        intake: Intake,
        secrets: SecretSource,
        emit: Emit,
        result_id: Callable[[Stage, StageResult, Step], str],
        offset: int = 0,
        platforms: bool = False,
    ) -> None:
        """`intake` holds what is used until the image is registered; steps are numbered after `offset`."""
        self._graph = graph
        self._request = request
        self._found = found
        self._cache = cache
        self._sharing = sharing
        self._contexts = contexts
        self._unpacker = unpacker
        self._intake = intake
        self._emit = emit
        self._result_id = result_id
        self._snapshots = tools.snapshots
        self._performer = Performer(tools, request, secrets, self._open)
        self._tasks: dict[int, asyncio.Task[StageResult]] = {}
        self._trees: dict[str, asyncio.Task[Tree]] = {}
        self._refs = number_steps(graph, offset, platforms=platforms)
        self.used: set[str] = set()
        self.made: set[str] = set()
        self._asked_epoch = request.source_date_epoch
        if self._asked_epoch is None and request.args.get("SOURCE_DATE_EPOCH", "").isdecimal():
            self._asked_epoch = int(request.args["SOURCE_DATE_EPOCH"])

    async def run(self) -> StageResult:
        """Return what the wanted stage came to. Raises BuildFailed and what else went wrong."""
        for stage in self._graph.stages:
            self._tasks[stage.index] = asyncio.create_task(self._stage(stage))
        try:
            pending: set[asyncio.Task[StageResult]] = set(self._tasks.values())
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
                failed = [task for task in done if not task.cancelled() and task.exception()]
                if failed:
                    # The one that failed first, not one that waited for it.
                    raise first_cause(failed)
            return self._tasks[self._graph.target].result()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            for opening in self._trees.values():
                opening.cancel()
            await asyncio.gather(*self._trees.values(), return_exceptions=True)

    # -- sources -----------------------------------------------------------------------------

    async def _open(self, source: Source) -> Tree:
        match source:
            case FromStage(index):
                result = await asyncio.shield(self._tasks[index])
                return LayersTree(self._snapshots, Place(result.layers).chain)
            case FromImage() as image:
                return LayersTree(self._snapshots, Place(self._found.layers[image]).chain)
            case FromContext(name):
                return await self._context(name)
            case _:
                return LayersTree(self._snapshots, ())

    async def _context(self, name: str) -> Tree:
        ref = self._request.contexts.get(name)
        if ref is None:
            raise NotFound("build context", name)
        if name not in self._trees:
            work = in_thread(lambda: self._contexts.open(ref))
            self._trees[name] = asyncio.create_task(work)
        return await asyncio.shield(self._trees[name])

    async def _epoch(self, base: Image | None, inherited: int | None) -> int:
        """Return the time (seconds) that layers are clamped to: asked for, the context's, the base's."""
        if self._asked_epoch is not None:
            return self._asked_epoch
        if self._request.contexts.get("") is not None:
            tree = await self._context("")
            if tree.epoch is not None:
                return tree.epoch
        if inherited is not None:
            return inherited
        if base is not None and base.created:
            try:
                return max(_EARLIEST, parse_rfc3339(base.created) // _BILLION)
            except Invalid:
                return _EARLIEST
        return _EARLIEST

    # -- one stage ---------------------------------------------------------------------------

    async def _stage(self, stage: Stage) -> StageResult:
        ref = self._refs[stage.index, -1]
        base: Image | None = None
        inherited: int | None = None
        history: tuple[HistoryEntry, ...] = ()
        layers: tuple[StoredLayer, ...] = ()
        author = stage.author
        records: tuple[Record, ...] = ()
        match stage.base:
            case FromStage(index):
                below = await asyncio.shield(self._tasks[index])
                layers, history, base = below.layers, below.history, below.base
                author, inherited = stage.author or below.author, below.epoch
                records = below.records
            case FromImage() as image:
                base = self._found.images[image]
                layers, history = self._found.layers[image], base.history
                author = stage.author or base.author
            case _:
                pass
        now = time.time_ns()
        self._emit(StepStarted(ref, now))
        epoch = await self._epoch(base, inherited)
        result = StageResult(layers, history, base, author, epoch, records)
        shown = base.id.short if base is not None and isinstance(stage.base, FromImage) else ""
        self._emit(StepDone(ref, time.time_ns(), shown))
        for number, step in enumerate(stage.steps):
            ref = self._refs[stage.index, number]
            try:
                result = await self._step(stage, step, ref, result)
            except asyncio.CancelledError:
                self._emit(StepFailed(ref, time.time_ns(), "canceled", canceled=True))
                raise
            except WherryError as error:
                excerpt = self._excerpt(step)
                self._emit(StepFailed(ref, time.time_ns(), str(error), excerpt=excerpt))
                raise
        return result

    def _excerpt(self, step: Step) -> str:
        if step.common.from_base:
            return ""
        lines = self._request.dockerfile.decode(errors="replace").splitlines()
        return show_place(step.common.instruction.span, self._request.dockerfile_name, lines)

    async def _step(
        self, stage: Stage, step: Step, ref: StepRef, before: StageResult
    ) -> StageResult:
        if isinstance(step, ConfigStep):
            self._emit(StepStarted(ref, time.time_ns()))
            after = _with_history(before, step, empty=True)
            self._emit(StepDone(ref, time.time_ns(), self._result_id(stage, after, step)))
            return after
        place = Place(before.layers)
        inputs = await self._performer.inputs(step, place)
        key = step_key(
            step,
            place.chain,
            inputs,
            epoch=self._asked_epoch,
            network=self._request.network,
            hosts=self._request.extra_hosts,
        )
        self.used.add(key)
        wanted = not self._request.no_cache and stage.name not in self._request.no_cache_filter
        if wanted and (hit := await self._hit(key, place)) is not None:
            after = _with_layer(before, step, hit, key)
            at = time.time_ns()
            self._emit(StepCached(ref, at, self._result_id(stage, after, step)))
            return after
        container = new_id()
        shown = container if isinstance(step, RunStep) else ""
        self._emit(StepStarted(ref, time.time_ns(), shown))

        async def make(tell: Callable[[tuple[int, bytes]], None]) -> Outcome:
            made = await self._make(step, place, key, container, before.epoch, tell)
            return made, shown

        (outcome, ran_in), joined = await self._sharing.do(
            key if wanted else f"{key} {container}",
            make,
            lambda event: self._emit(StepOutput(ref, event[1], event[0])),
        )
        self.made.add(key)
        if outcome.layer is not None:
            layer = outcome.layer.layer
            self._intake.hold(layer.chain_id, layer.blob)
        if joined and (again := await self._hit(key, place)) is not None:
            outcome = again
        after = _with_layer(before, step, outcome, key)
        done = StepDone(ref, time.time_ns(), self._result_id(stage, after, step), ran_in)
        self._emit(done)
        return after

    async def _make(
        self,
        step: LayerStep,
        place: Place,
        key: str,
        container: str,
        epoch: int,
        tell: Callable[[tuple[int, bytes]], None],
    ) -> StepResult:
        def keep(made: StoredLayer | None) -> None:
            if made is not None:
                self._intake.hold(made.layer.chain_id, made.layer.blob)
            self._cache.put(key, StepResult(made), place.chain, step.common.title)

        made = await self._performer.perform(
            step, place, container, epoch, keep, lambda fd, data: tell((fd, data))
        )
        return StepResult(made)

    async def _hit(self, key: str, place: Place) -> StepResult | None:
        """Return a result from the cache, held, its layer on disk; None where there is none."""
        found = self._cache.find(key)
        if found is None or found.layer is None:
            return found
        layer = found.layer.layer
        chain = chain_ids((*place.diff_ids, layer.diff_id))[-1]
        self._intake.hold(chain, layer.blob)
        if self._cache.find(key) is None or not self._intake.content.has(layer.blob):
            return None
        if self._snapshots.has_layer(chain):
            return StepResult(replace(found.layer, layer=replace(layer, chain_id=chain)))
        # The same layer upon others (--link), or one that only its blob is left of.
        blobs = [_blob(stored) for stored in (*place.layers, found.layer)]
        layers = await in_thread(lambda: self._unpacker.unpack(blobs, self._intake))
        return StepResult(layers[-1])


def _blob(stored: StoredLayer) -> LayerBlob:
    layer = stored.layer
    return LayerBlob(layer.blob, layer.blob_size, layer.media_type, layer.diff_id)


def _with_history(before: StageResult, step: Step, *, empty: bool) -> StageResult:
    if not step.common.created_by:
        return before
    entry = HistoryEntry(
        render_rfc3339(before.epoch * _BILLION),
        step.common.created_by,
        before.author if step.common.instruction.keyword == "MAINTAINER" else "",
        COMMENT,
        empty,
    )
    return replace(before, history=(*before.history, entry))


def _with_layer(before: StageResult, step: Step, result: StepResult, key: str) -> StageResult:
    after = _with_history(before, step, empty=result.layer is None)
    top = str(before.layers[-1].layer.chain_id) if before.layers else ""
    record = Record(key, step.common.title, top, result.layer)
    after = replace(after, records=(*after.records, record))
    if result.layer is None:
        return after
    return replace(after, layers=(*after.layers, result.layer))


def steps_in(graph: Graph) -> int:
    """Return how many steps a graph has, each FROM counted."""
    return sum(1 + len(stage.steps) for stage in graph.stages)


def number_steps(
    graph: Graph, offset: int = 0, *, platforms: bool = False
) -> dict[tuple[int, int], StepRef]:
    """Return a StepRef for every step by stage and number; -1 is the FROM. `platforms`: each says its own."""
    total = steps_in(graph) + offset
    refs: dict[tuple[int, int], StepRef] = {}
    number = offset
    for stage in graph.stages:
        from_image = isinstance(stage.base, FromImage)
        weighty = sum(not isinstance(step, ConfigStep) for step in stage.steps) + from_image
        at = 0
        titles = [(-1, stage.title, stage.instruction, from_image)]
        titles += [
            (place, step.common.title, step.common.instruction, not isinstance(step, ConfigStep))
            for place, step in enumerate(stage.steps)
        ]
        for place, title, instruction, counts in titles:
            number += 1
            at += counts
            refs[stage.index, place] = StepRef(
                id=number,
                title=title,
                written=instruction.original,
                stage=stage.name,
                number=number,
                total=total,
                stage_number=at if counts else 0,
                stage_total=weighty if counts else 0,
                platform=stage.platform if platforms else None,
            )
    return refs


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once and return what they give; the first that fails ends the others, and is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled() and (problem := task.exception()) is not None:
                raise problem
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def first_cause(failed: list[asyncio.Task[StageResult]]) -> BaseException:
    """Return the error to raise of several: a failed command's before all others."""
    errors = [error for task in failed if (error := task.exception()) is not None]
    return next((error for error in errors if isinstance(error, BuildFailed)), errors[0])


def short_id(chain: tuple[Digest, ...], step: Step) -> str:
    """Return an id for the state after a step that no image was made of."""
    text = f"{chain[-1] if chain else ''} {step.common.created_by}"
    return Digest.of(text.encode()).short
