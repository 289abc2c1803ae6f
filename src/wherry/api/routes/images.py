"""Images: listed, shown, named, removed, taken in and given out."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.api.messages import Answer, Handler, Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import TAR, json_answer, progress_answer
from wherry.api.services import Engine, Images
from wherry.api.versions import Version
from wherry.api.wire.filters import IMAGES, IMAGES_PRUNE, parse_filters
from wherry.api.wire.image import (
    render_deletions,
    render_history,
    render_image,
    render_image_item,
    shared_sizes,
)
from wherry.api.wire.platforms import check_made_for, parse_json_platform
from wherry.model.errors import Invalid
from wherry.model.images import Image, Platform

_SHARED_SIZES = (1, 42)
_COUNTED = (1, 51)
_PLATFORM = (1, 48)
_INSPECT_PLATFORM = (1, 49)
_REMOVE_PLATFORMS = (1, 50)


class ImageRoutes:
    """`/images/…` and wherry's own `/wherry/images/…`."""

    def __init__(self, images: Images, engine: Engine, pull: Handler) -> None:
        """`pull` answers POST /images/create where it names an image."""
        self._images = images
        self._engine = engine
        self._pull = pull

    def routes(self) -> list[Route]:
        """Return the table."""
        one = "/images/{name:all}"
        return [
            Route("GET", "/images/json", self.list),
            Route("POST", "/images/create", self.create),
            Route("POST", "/images/load", self.load),
            Route("POST", "/images/prune", self.prune),
            Route("GET", "/images/get", self.save),
            Route("GET", f"{one}/get", self.save),
            Route("GET", f"{one}/json", self.inspect),
            Route("GET", f"{one}/history", self.history),
            Route("POST", f"{one}/tag", self.tag),
            Route("DELETE", one, self.remove),
            Route("POST", "/wherry/images/bootstrap", self.bootstrap),
        ]

    async def list(self, request: Request) -> Response:
        """GET /images/json."""
        filters = dict(parse_filters(request.text("filters"), IMAGES))
        reference = request.text("filter")
        if reference and request.version < (1, 41):
            filters["reference"] = (reference,)
        everything = request.flag("all")
        images = await self._images.list(everything=everything, filters=filters)
        sized = request.version >= _SHARED_SIZES and request.flag("shared-size")
        shared = shared_sizes(images) if sized else {}
        counted = request.version >= _COUNTED
        used = await self._images.container_counts() if counted else {}
        return json_answer(
            [
                render_image_item(
                    image,
                    request.version,
                    containers=used.get(str(image.id), 0) if counted else -1,
                    shared=shared.get(str(image.id), -1),
                )
                for image in images
            ]
        )

    async def inspect(self, request: Request) -> Response:
        """GET /images/{name}/json."""
        wanted = _platforms(request, "platform", _INSPECT_PLATFORM)
        if wanted and request.flag("manifests"):
            raise Invalid("conflicting options: manifests and platform options cannot both be set")
        image = await self._inspected(request.parameters["name"], wanted)
        layers = f"{self._engine.facts().data_root}/layers"
        return json_answer(render_image(image, request.version, layers))

    async def history(self, request: Request) -> Response:
        """GET /images/{name}/history."""
        name = request.parameters["name"]
        image, *parents = await self._images.history(name)
        for wanted in _platforms(request, "platform", _PLATFORM):
            check_made_for(image, name, wanted)
        return json_answer(render_history(image, parents))

    async def _inspected(self, ref: str, wanted: Sequence[Platform]) -> Image:
        image = await self._images.inspect(ref)
        for platform in wanted:
            check_made_for(image, ref, platform)
        return image

    async def tag(self, request: Request) -> Response:
        """POST /images/{name}/tag."""
        await self._images.tag(
            request.parameters["name"], request.text("repo"), request.text("tag")
        )
        return Response(201)

    async def remove(self, request: Request) -> Response:
        """DELETE /images/{name}."""
        name = request.parameters["name"]
        if wanted := _platforms(request, "platforms", _REMOVE_PLATFORMS):
            await self._inspected(name, wanted)
        gone = await self._images.remove(
            name,
            force=request.flag("force"),
            prune=not request.flag("noprune"),
        )
        return json_answer(render_deletions(gone))

    async def prune(self, request: Request) -> Response:
        """POST /images/prune."""
        filters = parse_filters(request.text("filters"), IMAGES_PRUNE)
        gone, space = await self._images.prune(filters)
        return json_answer(
            {"ImagesDeleted": render_deletions(gone) or None, "SpaceReclaimed": space}
        )

    async def load(self, request: Request) -> Response:
        """POST /images/load."""
        wanted = _platforms(request, "platform", _PLATFORM)
        quiet = request.flag("quiet")
        return progress_answer(
            self._images.load(request.body, quiet=quiet, platform=wanted[0] if wanted else None)
        )

    async def save(self, request: Request) -> Response:
        """GET /images/get and /images/{name}/get. `form` and `compression` are wherry's own."""
        name = request.parameters.get("name")
        refs = [name] if name else request.query.get("names", [])
        if not refs:
            raise Invalid("no image was named")
        if wanted := _platforms(request, "platform", _PLATFORM):
            for ref in refs:
                await self._inspected(ref, wanted)
        form, compression = request.text("form", "docker"), request.text("compression")
        if form not in ("docker", "oci") or compression not in ("", "gzip", "zstd"):
            raise Invalid(
                f"unknown form {form!r} or compression {compression!r}",
                hint="docker or oci; gzip, zstd or none",
            )
        pieces = await self._images.save(refs, form=form, compression=compression)
        return Response(200, pieces, TAR)

    async def create(self, request: Request) -> Answer:
        """POST /images/create: pull or import."""
        source = request.text("fromSrc")
        if request.text("fromImage"):
            return await self._pull(request)
        if not source:
            raise Invalid("neither fromImage nor fromSrc", hint="fromImage=NAME&tag=TAG pulls")
        return progress_answer(
            self._images.import_archive(
                request.body,
                repository=request.text("repo"),
                tag=request.text("tag"),
                message=request.text("message"),
                changes=request.query.get("changes", []),
                platform=request.text("platform"),
                source=source,
            )
        )

    async def bootstrap(self, request: Request) -> Response:
        """POST /wherry/images/bootstrap?name=debian:bookworm-slim&variant=…"""
        name = request.text("name")
        if not name:
            raise Invalid("no name", hint="for example: name=busybox, name=debian:bookworm-slim")
        options = {key: values[0] for key, values in request.query.items() if key != "name"}
        return progress_answer(self._images.bootstrap(name, options))


def _platforms(request: Request, name: str, since: Version) -> list[Platform]:
    """Return the platforms that the parameter `name` asks for; versions before `since` do not have it."""
    if request.version < since:
        return []
    return [parse_json_platform(text) for text in request.query.get(name, ()) if text]
