"""`POST /wherry/build`: the request as JSON, and what the build tells, an object a line.

{"type": "started", "step": {…}, "at": 1}, cached, output (base64), done, failed, warning, transfer,
finished, and questions to the client: {"ask": ID, "secret"|"agent"|"output": …}.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.api.wire.codec import decode, encode, pairs_of
from wherry.model.build import (
    BuildRequest,
    BuildWarning,
    CacheRef,
    ContextKind,
    ContextRef,
    Finished,
    OutputRef,
    Progress,
    StepCached,
    StepDone,
    StepFailed,
    StepOutput,
    StepRef,
    StepStarted,
    Transfer,
)
from wherry.model.containers import Ulimit
from wherry.model.errors import Invalid
from wherry.model.resources import Limits


class _Context(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    value: str = ""
    ignore: list[str] = []
    epoch: int | None = None


class _Kind(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    attributes: dict[str, str] = {}


class _Ulimit(msgspec.Struct):
    Name: str
    Soft: int = 0
    Hard: int = 0


class _Limits(msgspec.Struct, forbid_unknown_fields=True):
    memory: int | None = None
    memory_swap: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    nano_cpus: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None


class BuildBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body. `dockerfile` is base64; None means the file `dockerfile_name` of the context."""

    dockerfile: str | None = None
    dockerfile_name: str = "Dockerfile"
    build_id: str = ""
    contexts: dict[str, _Context] = {}
    args: dict[str, str] = {}
    target: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    platform: str = ""
    platforms: list[str] = []
    tags: list[str] = []
    no_cache: bool = False
    no_cache_filter: list[str] = []
    cache_from: list[_Kind] = []
    cache_to: list[_Kind] = []
    outputs: list[_Kind] = []
    network: str = "default"
    extra_hosts: list[str] = []
    shm_size: int = 0
    limits: _Limits = msgspec.field(default_factory=_Limits)
    ulimits: list[_Ulimit] = []
    cgroup_parent: str = ""
    security_opts: list[str] = []
    pull: bool = False
    secrets: list[str] = []
    ssh: list[str] = []
    entitlements: list[str] = []
    squash: bool = False
    source_date_epoch: int | None = None
    provenance: str = ""
    provenance_version: str = ""
    builder_id: str = ""
    sbom: bool = False
    check_only: bool = False
    call: str = ""


def parse_build_body(body: bytes, auth: Mapping[str, str]) -> tuple[BuildRequest, bool]:
    """Return the request, and whether its Dockerfile came with it. Raises Invalid."""
    said = decode(BuildBody, body)
    try:
        contexts = {
            name: ContextRef(
                ContextKind(context.kind), context.value, tuple(context.ignore), context.epoch
            )
            for name, context in said.contexts.items()
        }
        dockerfile = base64.b64decode(said.dockerfile or "", validate=True)
    except ValueError as error:
        raise Invalid(f"invalid build request: {error}") from None
    if said.provenance not in ("", "min", "max"):
        raise Invalid(f'invalid mode "{said.provenance}"', hint="min or max")
    if said.provenance_version not in ("", "v0.2", "v1"):
        raise Invalid(f'invalid SLSA version "{said.provenance_version}"', hint="v0.2 or v1")
    if said.security_opts:
        raise Invalid("security options are not supported on linux", hint="RUN --security=insecure")
    limits = Limits(**{name: getattr(said.limits, name) for name in _Limits.__struct_fields__})
    same: dict[str, Any] = {
        name: getattr(said, name)
        for name in (
            *("dockerfile_name", "build_id", "args", "target", "platform", "no_cache", "network"),
            *("shm_size", "cgroup_parent", "pull", "squash", "source_date_epoch", "provenance"),
            *("sbom", "check_only", "call", "provenance_version", "builder_id"),
        )
    }
    tuples: dict[str, Any] = {
        name: tuple(getattr(said, name))
        for name in (
            *("tags", "no_cache_filter", "extra_hosts", "secrets", "ssh"),
            *("entitlements", "platforms"),
        )
    }
    request = BuildRequest(
        dockerfile=dockerfile,
        contexts=contexts,
        labels=pairs_of(said.labels),
        annotations=pairs_of(said.annotations),
        cache_from=tuple(CacheRef(c.kind, pairs_of(c.attributes)) for c in said.cache_from),
        cache_to=tuple(CacheRef(c.kind, pairs_of(c.attributes)) for c in said.cache_to),
        outputs=tuple(OutputRef(o.kind, pairs_of(o.attributes)) for o in said.outputs),
        limits=limits,
        ulimits=tuple(Ulimit(u.Name, u.Soft, u.Hard) for u in said.ulimits),
        registry_auth=auth,
        **same,
        **tuples,
    )
    return request, said.dockerfile is not None


def _step(step: StepRef) -> dict[str, object]:
    answer: dict[str, object] = {"id": step.id, "title": step.title}
    for name in ("stage", "number", "total", "stage_number", "stage_total"):
        if value := getattr(step, name):
            answer[name] = value
    if step.platform is not None:
        from wherry.build.arguments import platform_text

        answer["platform"] = platform_text(step.platform)
    return answer


def _body(event: Progress) -> dict[str, object]:
    match event:
        case StepStarted():
            return {"type": "started", "at": event.at}
        case StepCached():
            return {"type": "cached", "at": event.at}
        case StepOutput():
            data = base64.b64encode(event.data).decode()
            return {"type": "output", "data": data, "fd": event.fd}
        case StepDone():
            return {"type": "done", "at": event.at}
        case StepFailed():
            canceled = {"canceled": True} if event.canceled else {}
            said = {"message": event.message, "excerpt": event.excerpt}
            return {"type": "failed", "at": event.at, **said, **canceled}
        case BuildWarning():
            fields = ("rule", "message", "description", "url", "line", "last_line", "excerpt")
            return {"type": "warning", **{name: getattr(event, name) for name in fields}}
        case Transfer():
            fields = ("name", "current", "total", "done")
            return {"type": "transfer", **{name: getattr(event, name) for name in fields}}
        case Finished():
            return {
                "type": "finished",
                "image_id": event.image_id,
                "manifest": event.manifest,
                "stored": event.stored,
                "names": list(event.names),
                "metadata": dict(event.metadata),
            }


def render_build_event(event: Progress) -> bytes:
    """Return one line."""
    answer = _body(event)
    step = getattr(event, "step", None)
    if isinstance(step, StepRef):
        answer["step"] = _step(step)
    return encode(answer)
