"""Builds, from the request to the image. It knows no front end: it takes a request and tells of progress.

    parse > base images found, pulled > graph > stages > synced > image registered > outputs, cache exports

What is killed in between leaves layers that the cache has rows for, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

from wherry.build.arguments import unused_arguments
from wherry.build.bases import Bases
from wherry.build.cache import BuildCache
from wherry.build.destinations import check_outputs, enters_store, platforms_of
from wherry.build.dockerfile.faults import DockerfileError, locating
from wherry.build.dockerfile.parser import parse
from wherry.build.dockerfile.syntax import Dockerfile
from wherry.build.exchanging import Exchanging
from wherry.build.files import Contexts, Exporter
from wherry.build.finish import encode_image
from wherry.build.finishing import Finishing, Solved
from wherry.build.graph import ImagesNeeded, plan_graph, sources_of
from wherry.build.lint import check, check_errors
from wherry.build.outline import describe
from wherry.build.perform import Tools
from wherry.build.prune import Keeper
from wherry.build.service import CacheRecord, Pruned, Pruning
from wherry.build.sharing import SharedWork
from wherry.build.squash import squash
from wherry.build.stages import Found, Outcome, StageResult, Stages, short_id, steps_in, together
from wherry.build.steps import FromImage, Graph, RunStep, Stage, Step
from wherry.build.telling import Telling
from wherry.images.bridge import in_thread
from wherry.images.config import host_platform
from wherry.images.intake import Intake, Intakes
from wherry.images.store import ImageStore, check_taggable
from wherry.images.unpack import Unpacker
from wherry.model.build import (
    BuildRequest,
    BuildWarning,
    Finished,
    Progress,
    SecretSource,
)
from wherry.model.errors import Unsupported
from wherry.model.ids import Digest, Reference, new_id
from wherry.model.ignore import Matcher
from wherry.model.images import Image, ImageConfig
from wherry.runtime.emulation import choose_emulator
from wherry.storage.durable import full

T = TypeVar("T")
_LONG = 64 << 10
"""Bytes of a Dockerfile that is read beside the event loop."""


class Solver:
    """What `service.Builds` declares."""

    def __init__(
        self,
        *,
        tools: Tools,
        cache: BuildCache,
        store: ImageStore,
        unpacker: Unpacker,
        intakes: Intakes,
        contexts: Contexts,
        bases: Bases,
        keeper: Keeper,
        tagged: Callable[[Image, str], None],
        exchanging: Exchanging,
    ) -> None:
        """`tagged` is told of names given."""
        self._tools = tools
        self._cache = cache
        self._store = store
        self._unpacker = unpacker
        self._intakes = intakes
        self._contexts = contexts
        self._bases = bases
        self._keeper = keeper
        self._tagged = tagged
        self._exchanging = exchanging
        self._sharing: SharedWork[Outcome] = SharedWork()
        self._running: dict[str, set[asyncio.Task[None]]] = {}

    # -- what front ends call ----------------------------------------------------------------

    async def build(
        self, request: BuildRequest, *, secrets: SecretSource, exporter: Exporter | None = None
    ) -> AsyncGenerator[Progress]:
        """Build; closing the generator cancels it. See `service.Builds.build`."""
        telling = Telling()
        task = asyncio.create_task(self._whole(request, secrets, exporter, telling.tell))
        task.add_done_callback(lambda _: telling.end())
        if request.build_id:
            self._running.setdefault(request.build_id, set()).add(task)
        try:
            while (event := await telling.next()) is not None:
                yield event
            if task.cancelled():
                raise Unsupported("the build was canceled")
            with full("the build"):
                await task
        finally:
            if request.build_id:
                self._running[request.build_id].discard(task)
                if not self._running[request.build_id]:
                    del self._running[request.build_id]
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def cancel(self, build_id: str) -> None:
        """Cancel the builds that were asked for with this id."""
        for task in self._running.get(build_id, ()):
            task.cancel()

    async def disk_usage(self) -> list[CacheRecord]:
        """Return all that the cache has."""
        return await in_thread(self._keeper.records)

    async def prune(self, wanted: Pruning) -> Pruned:
        """Remove what matches and nobody uses. Raises Invalid for a filter."""
        return await in_thread(lambda: self._keeper.prune(wanted))

    # -- one build ---------------------------------------------------------------------------

    async def _whole(
        self,
        request: BuildRequest,
        secrets: SecretSource,
        exporter: Exporter | None,
        emit: Callable[[Progress], None],
    ) -> None:
        references = _references(request)
        check_outputs(request)
        dockerfile = await _considered(
            request, lambda: parse(request.dockerfile, request.dockerfile_name)
        )
        context = request.contexts.get("")
        ignored = Matcher(context.ignore).ignored if context and context.ignore else None
        findings = await _considered(request, lambda: check(dockerfile, request, ignored))
        for warning in findings:
            emit(warning)
        check_errors(dockerfile, findings)
        if request.check_only:
            emit(Finished())
            return
        if request.call:
            emit(Finished(metadata=describe(dockerfile, request)))
            return
        declared = [one.arguments for one in dockerfile.instructions if one.keyword == "ARG"]
        if unused := unused_arguments(request.args, declared):
            text = f"One or more build-args [{' '.join(unused)}] were not consumed"
            emit(BuildWarning("", text))
        with self._intakes() as intake:
            await self._exchanging.take(request, intake, emit)
            began = time.time_ns()
            planned: list[tuple[BuildRequest, Graph, Found]] = []
            for platform in platforms_of(request):
                one = replace(request, platform=platform, platforms=())
                planned.append((one, *await self._plan(one, dockerfile, intake, emit)))
            offsets = accumulate((steps_in(graph) for _, graph, _ in planned), initial=0)
            solving = [
                self._solve(one, graph, found, (offset, len(planned) > 1), secrets, intake, emit)
                for (one, graph, found), offset in zip(planned, offsets, strict=False)
            ]
            solved = await together(solving)
            finishing = Finishing(self._store, self._tools.snapshots, self._tagged)
            end = await finishing.finish(request, solved, references, began, exporter, intake, emit)
            least = [record for one in solved for record in one.result.records]
            used = frozenset[str]().union(*(one.used for one in solved))
            await self._exchanging.give(request, least, used, intake, emit)
            emit(end)

    async def _plan(
        self,
        request: BuildRequest,
        dockerfile: Dockerfile,
        intake: Intake,
        emit: Callable[[Progress], None],
    ) -> tuple[Graph, Found]:
        images: dict[FromImage, Image] = {}
        configs: dict[FromImage, ImageConfig] = {}
        while True:
            try:
                graph = await _considered(
                    request, lambda: plan_graph(dockerfile, request, configs, host_platform())
                )
                break
            except ImagesNeeded as needed:
                for source in sorted(needed.images, key=lambda one: one.reference):
                    with locating(dockerfile, source.reference):
                        images[source] = await self._image(source, request, intake, emit)
                    configs[source] = images[source].config
        for stage in graph.stages:
            for step in stage.steps:
                if isinstance(step, RunStep):
                    check_run(step, request, dockerfile)
            for source in sources_of(stage.steps):
                if isinstance(source, FromImage) and source not in images:
                    with locating(dockerfile, source.reference):
                        images[source] = await self._image(source, request, intake, emit)
        layers = {source: self._store.layers(image.id) for source, image in images.items()}
        return graph, Found(images, layers)

    async def _image(
        self,
        source: FromImage,
        request: BuildRequest,
        intake: Intake,
        emit: Callable[[Progress], None],
    ) -> Image:
        while True:
            image = await self._bases.find(source.reference, source.platform, request, emit)
            intake.hold(*image.chain, *(layer.blob for layer in image.layers))
            # Removed between the two lines: looked for once more.
            if self._store.has(image.id):
                return image

    async def _solve(
        self,
        request: BuildRequest,
        graph: Graph,
        found: Found,
        place: tuple[int, bool],
        secrets: SecretSource,
        intake: Intake,
        emit: Callable[[Progress], None],
    ) -> Solved:
        """Return what one platform's image is made of. `place`: the steps before its own, whether there are
        other platforms."""
        target = graph.stage(graph.target)

        def result_id(stage: Stage, result: StageResult, step: Step) -> str:
            last = stage is target and step is stage.steps[-1]
            if last and not request.squash:
                return Digest.of(encode_image(request, stage, result)).short
            chain = tuple(stored.layer.chain_id for stored in result.layers)
            return short_id(chain, step)

        stages = Stages(
            graph=graph,
            request=request,
            found=found,
            tools=self._tools,
            cache=self._cache,
            sharing=self._sharing,
            contexts=self._contexts,
            unpacker=self._unpacker,
            intake=intake,
            secrets=secrets,
            emit=emit,
            result_id=result_id,
            offset=place[0],
            platforms=place[1],
        )
        try:
            result = await stages.run()
        finally:
            await in_thread(lambda: self._settle(stages.used, stages.made))
        if request.squash and result.layers:
            key, whole = new_id(), result
            try:
                result = await in_thread(
                    lambda: squash(whole, key, self._tools.snapshots, intake, self._tools.scratch)
                )
            finally:
                self._tools.runner.discard(key)
        return Solved(request, graph, found.images, target, result, frozenset(stages.used))

    def _settle(self, used: set[str], made: set[str]) -> None:
        """Sync what was made, by whatever build, and note what was used."""
        self._tools.snapshots.settle()
        if made:
            self._cache.settled(made)
        if used - made:
            self._cache.touch(used - made)


async def _considered(request: BuildRequest, work: Callable[[], T]) -> T:
    """Return what `work` makes of the Dockerfile: of a long one in a thread, for a megabyte takes seconds."""
    return await in_thread(work) if len(request.dockerfile) > _LONG else work()


def check_run(step: RunStep, request: BuildRequest, dockerfile: Dockerfile) -> None:
    """Check that a RUN asks for nothing that was not granted, and that its programs can be executed here.

    Raises DockerfileError.
    """
    network = step.network if step.network != "default" else request.network
    # A Dockerfile may be anybody's: what it takes of the host is the caller's to give.
    granted = {*request.entitlements, *(("network.host",) if request.network == "host" else ())}
    wanted = (("network.host", step.network == "host"), ("security.insecure", step.insecure))
    detail = hint = ""
    for name, asked in wanted:
        if asked and name not in granted:
            detail, hint = f"{name} is not allowed", f"wherry build --allow {name} grants it"
    if not detail:
        try:
            # Either means the host's user namespace: decision 0002.
            choose_emulator(step.architecture, own=not step.insecure and network != "host")
            return
        except Unsupported as error:
            detail, hint = error.message, error.hint
    instruction = step.common.instruction
    raise DockerfileError(
        detail,
        span=None if step.common.from_base else instruction.span,
        name=dockerfile.name,
        lines=dockerfile.lines,
        at=instruction.written,
        hint=hint,
    )


def _references(request: BuildRequest) -> tuple[Reference, ...]:
    """Return the names that the image gets in the store. Raises Invalid for one that cannot be."""
    texts = dict.fromkeys(request.tags)
    for output in request.outputs:
        if enters_store(output):
            texts |= dict.fromkeys(filter(None, output.get("name").split(",")))
    return tuple(_reference(text.strip()) for text in texts)


def _reference(tag: str) -> Reference:
    repository, colon, name = tag.rpartition(":")
    if not colon or "/" in name:
        return check_taggable(tag, "")
    return check_taggable(repository, name)
