"""Images: listed, shown, named, removed, taken in and given out."""

from __future__ import annotations

from typing import cast

import msgspec

from wherry.api.messages import Answer, Handler, Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import TAR, json_answer, progress_answer
from wherry.api.services import Engine, Images
from wherry.api.wire.filters import IMAGES, IMAGES_PRUNE, parse_filters
from wherry.api.wire.image import (
    render_deletions,
    render_history,
    render_image,
    render_image_item,
    shared_sizes,
)
from wherry.model.errors import Invalid, NotFound, Unsupported
from wherry.model.images import Image


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
        shared = shared_sizes(images) if request.flag("shared-size") else {}
        used = await self._images.container_counts() if shared else {}
        return json_answer(
            [
                render_image_item(
                    image,
                    request.version,
                    containers=used.get(str(image.id), 0) if shared else -1,
                    shared=shared.get(str(image.id), -1),
                )
                for image in images
            ]
        )

    async def inspect(self, request: Request) -> Response:
        """GET /images/{name}/json."""
        image = await self._images.inspect(request.parameters["name"])
        _check_platform(request, image)
        layers = f"{self._engine.facts().data_root}/layers"
        return json_answer(render_image(image, request.version, layers))

    async def history(self, request: Request) -> Response:
        """GET /images/{name}/history."""
        image, *parents = await self._images.history(request.parameters["name"])
        _check_platform(request, image)
        return json_answer(render_history(image, parents))

    async def tag(self, request: Request) -> Response:
        """POST /images/{name}/tag."""
        await self._images.tag(
            request.parameters["name"], request.text("repo"), request.text("tag")
        )
        return Response(201)

    async def remove(self, request: Request) -> Response:
        """DELETE /images/{name}."""
        _refuse_platforms(request, "platforms")
        gone = await self._images.remove(
            request.parameters["name"],
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
        _refuse_platforms(request, "platform")
        return progress_answer(self._images.load(request.body, quiet=request.flag("quiet")))

    async def save(self, request: Request) -> Response:
        """GET /images/get and /images/{name}/get. `form` and `compression` are wherry's own."""
        name = request.parameters.get("name")
        refs = [name] if name else request.query.get("names", [])
        if not refs:
            raise Invalid("no image was named")
        if request.text("platform"):
            for ref in refs:
                _check_platform(request, await self._images.inspect(ref))
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


def _platform_parts(text: str) -> tuple[str, str, str]:
    try:
        raw = cast(object, msgspec.json.decode(text.encode()))
    except msgspec.DecodeError:
        raise Invalid(f"invalid platform: {text!r}") from None
    if not isinstance(raw, dict):
        raise Invalid(f"invalid platform: {text!r}")
    fields = cast(dict[str, object], raw)
    parts = [str(fields.get(name) or "") for name in ("os", "architecture", "variant")]
    return parts[0], parts[1], parts[2]


class _WrongPlatform(NotFound):
    def __init__(self, name: str, have: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        super().__init__("image", name)
        one, other = ("/".join(filter(None, parts)) for parts in (have, wanted))
        self.message = (
            f"image with reference {name} was found but its platform ({one}) does not match the "
            f"specified platform ({other})"
        )


def _check_platform(request: Request, image: Image) -> None:
    """Raise NotFound where a platform is asked for that the image is not made for."""
    for text in request.query.get("platform", ()):
        wanted = _platform_parts(text)
        have = (image.platform.os, image.platform.architecture, image.platform.variant)
        if any(want and want != got for want, got in zip(wanted, have, strict=True)):
            name = request.parameters.get("name", "")
            raise _WrongPlatform(name, have, wanted)


def _refuse_platforms(request: Request, name: str) -> None:
    if request.text(name):
        raise Unsupported(
            f"choosing a platform ({name}) is not in this version of wherry",
            hint="images of several platforms come later",
        )
