"""POST /build: its query and its X-Registry-Config as a BuildRequest; the cache as /system/df lists it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from wherry.api.messages import Request
from wherry.api.wire.codec import encode, pairs_of, render_time
from wherry.model.build import BuildRequest, CacheRef, OutputRef
from wherry.model.containers import Ulimit
from wherry.model.errors import Invalid, Unsupported
from wherry.model.resources import Limits

if TYPE_CHECKING:
    from wherry.build.service import CacheRecord

T = TypeVar("T")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_HUB = "docker.io"


class _Ulimit(msgspec.Struct):
    Name: str = ""
    Soft: int = 0
    Hard: int = 0


class _Output(msgspec.Struct):
    Type: str = ""
    Attrs: dict[str, str] | None = None


def _json(request: Request, name: str, what: str, kind: type[T], empty: T) -> T:
    """Return a query parameter that holds JSON. Raises Invalid in Docker's words.

    A null is nothing: Docker Compose sends `ulimits=null`.
    """
    text = request.text(name)
    if not text:
        return empty
    try:
        found = msgspec.json.decode(text.encode("utf-8", "replace"), type=kind | None)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"error reading {what}: {error}") from None
    return empty if found is None else found


def _lenient(request: Request, name: str) -> int | None:
    """Return a number, None for 0 and for what is none: so does Docker (28.5, `memory=x`)."""
    text = request.text(name)
    return (int(text) or None) if _NUMBER.fullmatch(text) else None


def parse_build(request: Request) -> BuildRequest:
    """Return what the query of POST /build asks for; Dockerfile and context are still missing.

    Raises Invalid, Unsupported.
    """
    version = request.text("version")
    if version not in ("", "1", "2"):
        raise Invalid(f'invalid version "{version}"')
    if version == "2":
        raise Unsupported(
            "building by the BuildKit API is not in this version of wherry",
            hint="set DOCKER_BUILDKIT=0, or use `wherry build`",
        )
    if any(request.query.get("securityopt", ())):
        raise Invalid("security options are not supported on linux")
    isolation = request.text("isolation")
    if isolation.lower() not in ("", "default"):
        raise Invalid(f'unsupported isolation: "{isolation}"')
    args = _json(request, "buildargs", "build args", dict[str, str | None], {})
    labels = _json(request, "labels", "labels", dict[str, str], {})
    ulimits = _json(request, "ulimits", "ulimit settings", list[_Ulimit], [])
    cache = _json(request, "cachefrom", "cache-from", list[str], [])
    outputs = _json(request, "outputs", "outputs", list[_Output], [])
    return BuildRequest(
        dockerfile=b"",
        dockerfile_name=request.text("dockerfile") or "Dockerfile",
        build_id=request.text("buildid"),
        # A null is an argument without a value: the client's environment has none.
        args={name: value for name, value in args.items() if value is not None},
        target=request.text("target"),
        labels=pairs_of(labels),
        platform=request.text("platform"),
        tags=tuple(tag for tag in request.query.get("t", ()) if tag),
        no_cache=request.flag("nocache"),
        cache_from=tuple(CacheRef("inline", (("ref", name),)) for name in cache),
        outputs=tuple(
            OutputRef(entry.Type, pairs_of(entry.Attrs))
            for entry in outputs
            if entry.Type not in ("moby", "")
        ),
        network=request.text("networkmode") or "default",
        extra_hosts=_extra_hosts(request),
        shm_size=max(request.number("shmsize"), 0),
        limits=Limits(
            memory=_lenient(request, "memory"),
            memory_swap=_lenient(request, "memswap"),
            cpu_shares=_lenient(request, "cpushares"),
            cpu_period=_lenient(request, "cpuperiod"),
            cpu_quota=_lenient(request, "cpuquota"),
            cpuset_cpus=request.text("cpusetcpus") or None,
            cpuset_mems=request.text("cpusetmems") or None,
        ),
        ulimits=tuple(Ulimit(entry.Name, entry.Soft, entry.Hard) for entry in ulimits),
        cgroup_parent=request.text("cgroupparent"),
        pull=request.flag("pull"),
        squash=request.flag("squash"),
        remove=request.flag("rm", True),
        force_remove=request.flag("forcerm"),
        registry_auth=parse_registry_config(request.headers.get("x-registry-config", "")),
    )


def _extra_hosts(request: Request) -> tuple[str, ...]:
    """docker's client sends one parameter with commas between, docker-py a JSON object."""
    found: list[str] = []
    for text in request.query.get("extrahosts", ()):
        if text.startswith("{"):
            hosts = _json(request, "extrahosts", "extra hosts", dict[str, str], {})
            found += [f"{name}:{address}" for name, address in hosts.items()]
        else:
            found += [entry for entry in text.split(",") if entry]
    for entry in found:
        if not entry.partition(":")[2]:
            raise Invalid(f'bad format for add-host: "{entry}"')
    return tuple(found)


def registry_host(server: str) -> str:
    """Return the host that an entry of X-Registry-Config is about; Docker Hub's old names are one."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return _HUB if host in ("index.docker.io", "registry-1.docker.io", _HUB) else host


def parse_registry_config(header: str) -> dict[str, str]:
    """Return registry host to X-Registry-Auth value. A header that makes no sense is no credentials."""
    if not header:
        return {}
    try:
        padded = header + "=" * (-len(header) % 4)
        raw = cast(object, msgspec.json.decode(base64.urlsafe_b64decode(padded)))
    except (ValueError, binascii.Error, RecursionError, msgspec.DecodeError):
        # Docker says nothing either: builds that need none go on.
        return {}
    if not isinstance(raw, dict):
        return {}
    entries = cast(dict[str, object], raw)
    return {
        registry_host(server): base64.urlsafe_b64encode(
            encode(cast(dict[str, object], entry)).strip()
        ).decode()
        for server, entry in entries.items()
        if isinstance(entry, dict)
    }


def with_dockerfile(request: BuildRequest, content: bytes) -> BuildRequest:
    """Return the request with its Dockerfile's content. Raises Invalid for an empty one."""
    if not content.strip():
        raise Invalid(f"the Dockerfile ({request.dockerfile_name}) cannot be empty")
    return replace(request, dockerfile=content)


def before_stages(request: BuildRequest) -> tuple[str, ...]:
    """Return the instructions before the first FROM, as written; none of a file that makes no sense."""
    from wherry.build.dockerfile.parser import parse

    try:
        found = parse(request.dockerfile, request.dockerfile_name).instructions
    except Invalid:
        return ()
    return tuple(one.original for one in takewhile(lambda one: one.keyword != "FROM", found))


def render_cache(
    records: Sequence[CacheRecord], *, parents: bool = True
) -> list[dict[str, object]]:
    """Return the BuildCache of GET /system/df; before API 1.42 no record told its `parents`."""
    return [
        {
            "ID": record.id,
            **({"Parents": list(record.parents)} if parents and record.parents else {}),
            "Type": record.kind,
            "Description": record.description,
            "InUse": record.in_use,
            "Shared": record.shared,
            "Size": record.size,
            "CreatedAt": render_time(record.created),
            "LastUsedAt": render_time(record.last_used) if record.last_used else None,
            "UsageCount": record.uses,
        }
        for record in records
    ]
