"""Building: the classic builder's door, `wherry build`'s, and the cache's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from wherry.api.building import Asks, ClientBuild
from wherry.api.contexts import BuildContexts
from wherry.api.messages import HIJACKED, Answer, ClientGone, Request, Response
from wherry.api.promises import Promises
from wherry.api.router import Route
from wherry.api.routes.shapes import JSON, RAW_STREAM, TAR, json_answer, told_late
from wherry.api.wire.build import (
    before_stages,
    parse_build,
    parse_registry_config,
    render_cache,
    with_dockerfile,
)
from wherry.api.wire.build_events import parse_build_body, render_build_event
from wherry.api.wire.classic import Classic, render_build_failure
from wherry.api.wire.codec import encode
from wherry.api.wire.filters import BUILD_PRUNE, parse_filters
from wherry.model.build import (
    MAIN_CONTEXT,
    BuildRequest,
    ContextKind,
    ContextRef,
    NoSecrets,
    Progress,
)
from wherry.model.errors import Invalid, NotFound
from wherry.model.ignore import Matcher
from wherry.model.urls import is_web
from wherry.model.views import Filters

if TYPE_CHECKING:
    from wherry.build.service import Builds

T = TypeVar("T")

_BODY_LIMIT = 32 << 20
"""Bytes of a request with its Dockerfile, and of a folder's manifest (some 200,000 files)."""
_SECRET_LIMIT = 1 << 20
_GIT = ("git://", "github.com/", "git@", "ssh://")


class BuildRoutes:
    """Satisfies nothing: `routes` is what it is for."""

    def __init__(self, builds: Builds, contexts: BuildContexts) -> None:
        self._builds = builds
        self._contexts = contexts
        self._asks = Asks()
        self._promises = Promises(contexts)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("POST", "/build", self.build),
            Route("POST", "/build/prune", self.prune),
            Route("POST", "/build/cancel", self.cancel),
            Route("POST", "/wherry/build", self.build_for_client),
            Route("POST", "/wherry/build/archive", self.archive),
            Route("POST", "/wherry/build/folder", self.folder),
            Route("POST", "/wherry/build/folder/{sync}", self.contents),
            Route("POST", "/wherry/build/answer/{ask}", self.answer),
            Route("GET", "/wherry/build/output/{ask}", self.output),
            Route("GET", "/wherry/build/cache", self.cache),
        ]

    # -- the classic door

    async def build(self, request: Request) -> Response:
        """POST /build."""
        wanted = parse_build(request)
        ref = await self._context(request)
        try:
            content = await self._dockerfile(ref, wanted.dockerfile_name)
            shown = ref if ref.ignore else await self._without_own_files(ref, wanted)
            wanted = with_dockerfile(replace(wanted, contexts={MAIN_CONTEXT: shown}), content)
            before = await asyncio.to_thread(before_stages, wanted)
        except BaseException:
            await self._contexts.release(ref)
            raise
        classic = Classic(
            quiet=request.flag("q"),
            keep_containers=not wanted.remove,
            before=before,
        )
        events = self._builds.build(wanted, secrets=NoSecrets(), exporter=None)
        return Response(200, self._told(events, classic.feed, [ref]), JSON)

    async def _context(self, request: Request) -> ContextRef:
        remote = request.text("remote")
        if not remote or remote == "client-session":
            tree = await self._contexts.receive(request.body)
            return ContextRef(ContextKind.TREE, tree)
        return await self._contexts.prepare(remote_context(remote))

    async def _without_own_files(self, ref: ContextRef, wanted: BuildRequest) -> ContextRef:
        """Leave out the Dockerfile and .dockerignore where .dockerignore does.

        Clients filtered the rest, and send these two all the same: the engine needs them.
        """
        lines = (await self._contexts.prepare(ref)).ignore
        matcher = Matcher(lines)
        own = tuple(n for n in (wanted.dockerfile_name, ".dockerignore") if matcher.ignored(n))
        return replace(ref, ignore=own) if own else ref

    async def _dockerfile(self, ref: ContextRef, name: str) -> bytes:
        try:
            return await self._contexts.read(ref, name)
        except NotFound:
            if name == "Dockerfile":
                # As Docker: builds that say nothing of it may spell it in lower case.
                with contextlib.suppress(NotFound):
                    return await self._contexts.read(ref, "dockerfile")
            raise _NoDockerfile(name) from None

    async def prune(self, request: Request) -> Response:
        """POST /build/prune."""
        keep = request.number("reserved-space") or request.number("keep-storage")
        from wherry.build.service import Pruning

        wanted = Pruning(
            filters=_prune_filters(request),
            everything=request.flag("all"),
            keep_bytes=keep or None,
            max_used=request.number("max-used-space") or None,
            min_free=request.number("min-free-space") or None,
        )
        gone = await self._builds.prune(wanted)
        return json_answer({"CachesDeleted": list(gone.ids) or None, "SpaceReclaimed": gone.space})

    async def cancel(self, request: Request) -> Response:
        """POST /build/cancel?id=."""
        identifier = request.text("id")
        if not identifier:
            raise Invalid("build ID not provided")
        self._builds.cancel(identifier)
        return Response(200)

    # -- wherry's door

    async def archive(self, request: Request) -> Response:
        """POST /wherry/build/archive: a context as tar."""
        tree = await self._contexts.receive(request.body)
        self._promises.add(tree)
        ref = await self._contexts.prepare(ContextRef(ContextKind.TREE, tree))
        return json_answer({"tree": tree, "ignore": ref.ignore})

    async def folder(self, request: Request) -> Response:
        """POST /wherry/build/folder?digest= or ?key= with a manifest."""
        if digest := request.text("digest"):
            tree = await self._contexts.known(digest)
            self._promises.add(tree)
            return json_answer({"tree": tree})
        manifest = await request.read(_BODY_LIMIT)
        tree, sync, wanted = await self._contexts.begin_sync(request.text("key"), manifest)
        self._promises.add(tree)
        return json_answer({"tree": tree, "sync": sync, "wanted": wanted})

    async def contents(self, request: Request) -> Response:
        """POST /wherry/build/folder/SYNC: the contents that were wanted."""
        tree = await self._contexts.finish_sync(request.parameters["sync"], request.body)
        self._promises.add(tree)
        return json_answer({"tree": tree})

    async def build_for_client(self, request: Request) -> Response:
        """POST /wherry/build."""
        auth = parse_registry_config(request.headers.get("x-registry-config", ""))
        wanted, complete = parse_build_body(await request.read(_BODY_LIMIT), auth)
        for ref in wanted.contexts.values():
            self._promises.claim(ref)
        wanted = await self._prepared(wanted, complete)
        run = ClientBuild(self._builds, self._contexts, self._asks)
        lines = self._told(run.run(wanted), _line, wanted.contexts.values())
        return Response(200, lines, JSON)

    async def _prepared(self, wanted: BuildRequest, complete: bool) -> BuildRequest:
        """Return the request with its contexts fetched and its Dockerfile read; else none is held."""
        keep = wanted.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "").lower() in ("1", "t", "true")
        platforms = wanted.platforms or tuple(filter(None, (wanted.platform,)))
        contexts = dict(wanted.contexts)
        try:
            for name, ref in wanted.contexts.items():
                # A client's folders and archives come with what is to be left out of them.
                if ref.kind is not ContextKind.TREE:
                    asked = replace(ref, keep_git_dir=keep)
                    contexts[name] = await self._contexts.prepare(asked, platforms)
            content = wanted.dockerfile
            if not complete:
                main = contexts.get(MAIN_CONTEXT, ContextRef())
                content = await self._dockerfile(main, wanted.dockerfile_name)
            return with_dockerfile(replace(wanted, contexts=contexts), content)
        except BaseException:
            await self._release(contexts.values())
            raise

    async def _told(
        self,
        events: AsyncGenerator[T],
        render: Callable[[T], bytes],
        contexts: Iterable[ContextRef],
    ) -> AsyncIterator[bytes]:
        """Yield a build's lines, its failure as the last of them; its contexts are held until then.

        Raises what fails before there is a line: an answer of its own can still be given.
        """
        begun = False
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    if lines := render(event):
                        begun = True
                        yield lines
        except Exception as error:
            if not begun or isinstance(error, ClientGone):
                raise
            yield render_build_failure(told_late(error, "a build"))
        finally:
            await self._release(contexts)

    async def _release(self, refs: Iterable[ContextRef]) -> None:
        for ref in refs:
            await self._contexts.release(ref)

    async def answer(self, request: Request) -> Answer:
        """POST /wherry/build/answer/ASK: a secret's value, or the way to an agent."""
        ask = self._asks.take(request.parameters["ask"], "secret", "agent")
        if ask.kind == "secret" or request.flag("missing"):
            value = await request.read(_SECRET_LIMIT)
            _resolve(ask.answer, None if request.flag("missing") else value)
            return Response(204)
        descriptor, _ = await request.hijack(RAW_STREAM)
        _resolve(ask.answer, descriptor)
        return HIJACKED

    async def output(self, request: Request) -> Response:
        """GET /wherry/build/output/ASK: the bytes of an output."""
        ask = self._asks.take(request.parameters["ask"], "output")

        async def pieces() -> AsyncIterator[bytes]:
            try:
                while piece := await ask.pieces.get():
                    yield piece
                _resolve(ask.answer, None)
            finally:
                if not ask.answer.done():
                    ask.abandon()

        return Response(200, pieces(), TAR)

    async def cache(self, request: Request) -> Response:
        """GET /wherry/build/cache: what the cache has."""
        return json_answer(render_cache(await self._builds.disk_usage()))


def _line(event: Progress | dict[str, object]) -> bytes:
    return encode(event) if isinstance(event, dict) else render_build_event(event)


def _resolve(answer: asyncio.Future[object], value: object) -> None:
    if not answer.done():
        answer.set_result(value)


class _NoDockerfile(NotFound):
    """In Docker's words."""

    def __init__(self, name: str) -> None:
        super().__init__("file", name)
        self.message = f"Cannot locate specified Dockerfile: {name}"


def remote_context(text: str) -> ContextRef:
    """Return what `remote=` names. Raises Invalid in Docker's words."""
    head = text.partition("#")[0]
    if text.startswith(_GIT) or head.endswith(".git"):
        return ContextRef(ContextKind.GIT, text)
    if is_web(text):
        return ContextRef(ContextKind.URL, text)
    raise Invalid(f"remoteURL ({text}) could not be recognized as URL")


def _prune_filters(request: Request) -> Filters:
    try:
        return parse_filters(request.text("filters"), BUILD_PRUNE)
    except Invalid as error:
        raise Invalid(f"failed to prune build cache: {error.message}") from None
