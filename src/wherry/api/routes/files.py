"""Files in and out of containers: cp, export, commit."""

from __future__ import annotations

from wherry.api.messages import Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import TAR, json_answer, read_json
from wherry.api.services import Containers
from wherry.api.wire.archive import render_path_stat
from wherry.api.wire.create import parse_config
from wherry.model.errors import Invalid
from wherry.model.views import CommitOptions

_STAT = "X-Docker-Container-Path-Stat"


class FileRoutes:
    """`/containers/{id}/archive`, `/export`, and `/commit`."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def routes(self) -> list[Route]:
        """Return the table."""
        archive = "/containers/{id}/archive"
        return [
            Route("HEAD", archive, self.stat),
            Route("GET", archive, self.read),
            Route("PUT", archive, self.write),
            Route("GET", "/containers/{id}/export", self.export),
            Route("POST", "/commit", self.commit),
        ]

    async def stat(self, request: Request) -> Response:
        """HEAD /containers/{id}/archive."""
        stat = await self._containers.stat_path(request.parameters["id"], _path(request))
        return Response(200, headers=((_STAT, render_path_stat(stat)),))

    async def read(self, request: Request) -> Response:
        """GET /containers/{id}/archive."""
        stat, pieces = await self._containers.read_archive(request.parameters["id"], _path(request))
        return Response(200, pieces, TAR, ((_STAT, render_path_stat(stat)),))

    async def write(self, request: Request) -> Response:
        """PUT /containers/{id}/archive."""
        await self._containers.write_archive(
            request.parameters["id"],
            _path(request),
            request.body,
            no_overwrite_dir_non_dir=request.flag("noOverwriteDirNonDir"),
            copy_uid_gid=request.flag("copyUIDGID"),
        )
        return Response(200)

    async def export(self, request: Request) -> Response:
        """GET /containers/{id}/export."""
        pieces = await self._containers.export(request.parameters["id"])
        return Response(200, pieces, "application/octet-stream")

    async def commit(self, request: Request) -> Response:
        """POST /commit."""
        config, triggers = parse_config(await read_json(request))
        changes = [f"ONBUILD {trigger}" for trigger in triggers]
        repository, tag = request.text("repo"), request.text("tag")
        options = CommitOptions(
            name=f"{repository}:{tag}" if repository and tag else repository,
            author=request.text("author"),
            comment=request.text("comment"),
            pause=request.flag("pause", True),
            changes=(*changes, *request.query.get("changes", ())),
        )
        digest = await self._containers.commit(request.text("container"), options, config)
        return json_answer({"Id": str(digest)}, 201)


def _path(request: Request) -> str:
    path = request.file_name("path")
    if not path:
        raise Invalid("bad parameter: path cannot be empty")
    return path
