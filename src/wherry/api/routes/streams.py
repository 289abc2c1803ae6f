"""What goes on for as long as a container does: attach, exec, wait, logs, stats."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Generator
from dataclasses import replace

from wherry.api.messages import HIJACKED, Answer, LastPiece, Request, Response
from wherry.api.router import Route
from wherry.api.routes.containers import window_size
from wherry.api.routes.shapes import JSON, RAW_STREAM, json_answer, read_json, stream_type
from wherry.api.services import Containers, Engine
from wherry.api.wire.codec import encode, parse_time
from wherry.api.wire.execs import console_size, parse_exec, parse_exec_start, render_exec
from wherry.api.wire.stats import render_stats
from wherry.model.errors import Invalid, NotFound, StartFailed, WherryError
from wherry.model.literals import parse_number
from wherry.model.views import AttachOptions, LogOptions, StatsSample

_CONDITIONS = frozenset(("", "not-running", "next-exit", "removed"))
_STDOUT = 1
_SIZED = (1, 42)


_EXEC_FAILED = "OCI runtime exec failed: exec failed: unable to start container process"


class StreamRoutes:
    """`/containers/{id}/attach` and its like, and `/exec/…`."""

    def __init__(self, containers: Containers, engine: Engine) -> None:
        self._containers = containers
        self._engine = engine

    def routes(self) -> list[Route]:
        """Return the table."""
        one = "/containers/{id}"
        return [
            Route("POST", f"{one}/attach", self.attach),
            Route("POST", f"{one}/wait", self.wait),
            Route("GET", f"{one}/logs", self.logs),
            Route("GET", f"{one}/stats", self.stats),
            Route("POST", f"{one}/exec", self.exec_create),
            Route("POST", "/exec/{id}/start", self.exec_start),
            Route("POST", "/exec/{id}/resize", self.exec_resize),
            Route("GET", "/exec/{id}/json", self.exec_inspect),
        ]

    async def attach(self, request: Request) -> Answer:
        """POST /containers/{id}/attach: the connection becomes the container's stdio."""
        ref = request.parameters["id"]
        options = AttachOptions(
            stdin=request.flag("stdin"),
            stdout=request.flag("stdout"),
            stderr=request.flag("stderr"),
            logs=request.flag("logs"),
            stream=request.flag("stream"),
            detach_keys=request.text("detachKeys"),
        )
        container = await self._containers.check_attach(ref, options)
        tty = container.spec.tty
        if tty:
            options = replace(options, multiplexed=False)
        fd, initial = await request.hijack(_kind(request, tty=tty))
        with _another(fd) as second:
            try:
                await self._containers.attach(container.id, options, fd, initial)
            except WherryError as error:
                _send_error(second, str(error), tty=tty)
        return HIJACKED

    async def exec_create(self, request: Request) -> Response:
        """POST /containers/{id}/exec."""
        spec = parse_exec(await read_json(request), sized=request.version >= _SIZED)
        exec_id = await self._containers.exec_create(request.parameters["id"], spec)
        # Here already: a client that asks for an upgrade at the start shows no message of a refusal.
        await self._containers.exec_check(exec_id)
        return json_answer({"Id": exec_id}, 201)

    async def exec_start(self, request: Request) -> Answer:
        """POST /exec/{id}/start: detached, or the connection becomes the process's stdio."""
        exec_id = request.parameters["id"]
        body = parse_exec_start(await read_json(request))
        view = await self._containers.exec_inspect(exec_id)
        await self._containers.exec_check(exec_id)
        tty = view.spec.tty
        sized = request.version >= _SIZED
        size = console_size(body.ConsoleSize if sized else None, tty=tty)
        if body.Detach:
            try:
                await self._containers.exec_start(
                    exec_id, detach=True, tty=tty, console_size=size, fd=-1, initial=b""
                )
            except StartFailed as error:
                error.message = f"{_EXEC_FAILED}: {error.message}"
                raise
            return Response(200)
        fd, initial = await request.hijack(_kind(request, tty=tty))
        with _another(fd) as second:
            try:
                await self._containers.exec_start(
                    exec_id, detach=False, tty=tty, console_size=size, fd=fd, initial=initial
                )
            except WherryError as error:
                # The status is sent already: Docker writes the message into the stream too.
                _send_error(second, f"{_EXEC_FAILED}: {error}\r\n", tty=tty)
        return HIJACKED

    async def exec_resize(self, request: Request) -> Response:
        """POST /exec/{id}/resize."""
        rows, columns = window_size(request)
        await self._containers.exec_resize(request.parameters["id"], rows, columns)
        return Response(200)

    async def exec_inspect(self, request: Request) -> Response:
        """GET /exec/{id}/json."""
        return json_answer(
            render_exec(await self._containers.exec_inspect(request.parameters["id"]))
        )

    async def wait(self, request: Request) -> Response:
        """POST /containers/{id}/wait. The client starts the container once it has the head."""
        # Before API 1.30 there was one, and the parameter was passed over.
        condition = request.text("condition") if request.version >= (1, 30) else ""
        if condition not in _CONDITIONS:
            raise Invalid(f'invalid condition: "{condition}"')
        exited = await self._containers.wait(request.parameters["id"], condition or "not-running")

        async def body() -> AsyncIterator[bytes]:
            result = await exited
            answer: dict[str, object] = {"StatusCode": result.code}
            if result.error:
                answer["Error"] = {"Message": result.error}
            yield LastPiece(encode(answer))

        return Response(200, body(), JSON, early=True)

    async def logs(self, request: Request) -> Response:
        """GET /containers/{id}/logs."""
        options = LogOptions(
            stdout=request.flag("stdout"),
            stderr=request.flag("stderr"),
            since=parse_time(request.text("since"), "since"),
            until=parse_time(request.text("until"), "until"),
            tail=_tail(request.text("tail")),
            timestamps=request.flag("timestamps"),
            details=request.flag("details"),
            follow=request.flag("follow"),
        )
        if not (options.stdout or options.stderr):
            raise Invalid("Bad parameters: you must choose at least one stream")
        raw, pieces = await self._containers.logs(request.parameters["id"], options)
        kind = stream_type(request.version, tty=raw)
        return Response(200, pieces, kind, early=options.follow)

    async def stats(self, request: Request) -> Response:
        """GET /containers/{id}/stats: one sample (with one a second before), or one each second."""
        ref = request.parameters["id"]
        memory = self._engine.facts().memory
        stream, one_shot = request.flag("stream", True), request.flag("one-shot")
        one_shot = one_shot and request.version >= (1, 41)
        if stream and one_shot:
            raise Invalid("cannot have stream=true and one-shot=true")
        sample = await self._containers.stats(ref)
        if stream:
            return Response(200, self._samples(sample, memory), JSON, early=True)
        before: StatsSample | None = None
        if sample.counters is not None and not one_shot:
            await asyncio.sleep(1)
            before, sample = sample, await self._containers.stats(sample.id)
        return json_answer(render_stats(sample, before, memory))

    async def _samples(self, sample: StatsSample, memory: int) -> AsyncIterator[bytes]:
        before: StatsSample | None = None
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            yield encode(render_stats(sample, before, memory))
            due = max(due + 1, loop.time())
            await asyncio.sleep(due - loop.time())
            try:
                before, sample = sample, await self._containers.stats(sample.id)
            except NotFound:
                return


def _tail(text: str) -> int:
    # Docker takes anything that is no number for "all".
    number = parse_number(text)
    return -1 if number is None else number


def _kind(request: Request, *, tty: bool) -> str:
    """Return the content type of a hijacked stream. Docker says `raw` to who asks for no upgrade, always."""
    upgrade = "upgrade" in dict(request.headers)
    return stream_type(request.version, tty=tty) if upgrade else RAW_STREAM


@contextlib.contextmanager
def _another(fd: int) -> Generator[int]:
    """Yield another descriptor of a connection that is given away, to say why nothing came of it."""
    other = os.dup(fd)
    try:
        yield other
    finally:
        os.close(other)


def _send_error(fd: int, message: str, *, tty: bool) -> None:
    """Write `message` as the stream's last words; a client that is gone or does not read is left alone."""
    data = message.encode("utf-8", "replace")
    if not tty:
        data = bytes((_STDOUT, 0, 0, 0)) + len(data).to_bytes(4) + data
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as stream:
        stream.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        stream.shutdown(socket.SHUT_RDWR)
