"""What goes to registries: pull, push, login, search, and looking at what they have."""

from __future__ import annotations

from wherry.api.messages import Request, Response
from wherry.api.router import Route
from wherry.api.routes.shapes import json_answer, progress_answer, read_json
from wherry.api.services import Registries
from wherry.api.wire.filters import SEARCH, parse_filters
from wherry.api.wire.registries import (
    parse_auth,
    parse_credentials_header,
    parse_manifest_list,
    parse_push_platform,
    render_distribution,
    render_search,
)
from wherry.model.errors import Invalid


class RegistriesRoutes:
    """`/images/{name}/push`, `/images/search`, `/auth`, `/distribution`, and wherry's own looks."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def routes(self) -> list[Route]:
        """Return the table."""
        return [
            Route("GET", "/images/search", self.search),
            Route("POST", "/images/{name:all}/push", self.push),
            Route("POST", "/auth", self.auth),
            Route("GET", "/distribution/{name:all}/json", self.distribution),
            Route("GET", "/wherry/registries/manifest", self.manifest),
            Route("POST", "/wherry/registries/manifest", self.push_list),
            Route("GET", "/wherry/registries/config", self.image_config),
            Route("GET", "/wherry/registries/referrers", self.referrers),
        ]

    async def pull(self, request: Request) -> Response:
        """POST /images/create?fromImage=…"""
        name = request.text("fromImage")
        lines = self._registries.pull(
            name,
            request.text("tag"),
            request.text("platform"),
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
        )
        return progress_answer(lines)

    async def push(self, request: Request) -> Response:
        """POST /images/{name}/push."""
        lines = self._registries.push(
            request.parameters["name"],
            request.text("tag"),
            parse_push_platform(request.text("platform")),
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
        )
        return progress_answer(lines)

    async def auth(self, request: Request) -> Response:
        """POST /auth."""
        credentials = parse_auth(await read_json(request))
        token = await self._registries.login(credentials.server, credentials)
        return json_answer({"IdentityToken": token, "Status": "Login Succeeded"})

    async def distribution(self, request: Request) -> Response:
        """GET /distribution/{name}/json."""
        found = await self._registries.distribution(
            request.parameters["name"],
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
        )
        return json_answer(render_distribution(found))

    async def search(self, request: Request) -> Response:
        """GET /images/search."""
        term = request.text("term")
        if not term:
            raise Invalid("no search term", hint="term=WORD")
        found = await self._registries.search(
            term,
            request.number("limit", 25) or 25,
            parse_filters(request.text("filters"), SEARCH),
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
        )
        return json_answer(render_search(found))

    async def manifest(self, request: Request) -> Response:
        """GET /wherry/registries/manifest?name=…: the manifest's bytes, its digest in a header."""
        media_type, digest, data = await self._registries.manifest(
            request.text("name"),
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
            request.flag("insecure"),
        )
        return Response(200, data, media_type, (("Docker-Content-Digest", str(digest)),))

    async def image_config(self, request: Request) -> Response:
        """GET /wherry/registries/config?name=…: an image's configuration, as it is stored."""
        data = await self._registries.image_config(
            request.text("name"),
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
            request.flag("insecure"),
        )
        return Response(200, data, "application/json")

    async def push_list(self, request: Request) -> Response:
        """POST /wherry/registries/manifest?name=…: store a manifest list and all it names."""
        stored, digest = await self._registries.push_list(
            request.text("name"),
            parse_manifest_list(await read_json(request)),
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
            request.flag("insecure"),
        )
        return json_answer({"Manifests": [str(one) for one in stored], "Digest": str(digest)})

    async def referrers(self, request: Request) -> Response:
        """GET /wherry/registries/referrers?name=…: the index of what refers to a manifest."""
        data = await self._registries.referrers(
            request.text("name"),
            parse_credentials_header(request.headers.get("x-registry-auth", "")),
        )
        return Response(200, data, "application/vnd.oci.image.index.v1+json")
