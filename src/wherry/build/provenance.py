"""Provenance: what an image was made from, and how, as SLSA's predicate in the form that BuildKit gives it. Pure.

`min` says what was asked for without the values, and the materials. `max` adds the arguments, the ids of
secrets, the Dockerfile and every step. The value of a secret is in neither: steps know only its id.

Source: SLSA Provenance v0.2 and v1; fields and their places asked of BuildKit 0.26 (Docker 28.5).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from wherry.build.arguments import PREDEFINED, platform_text
from wherry.build.bundle import package_url
from wherry.build.definition import definition
from wherry.build.made import Made
from wherry.build.statements import Attestation
from wherry.build.steps import AddStep, Graph, is_remote
from wherry.model.build import MAIN_CONTEXT, BuildRequest, ContextKind, ContextRef
from wherry.model.ids import Reference
from wherry.model.moments import render_rfc3339

V02, V1 = "https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1"
_TYPE_02 = "https://mobyproject.org/buildkit@v1"
_TYPE_1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_METADATA = "https://mobyproject.org/buildkit@v1#metadata"

Object = dict[str, object]


def provenance(made: Made, mode: str, version: str = "", builder_id: str = "") -> Attestation:
    """Return the attestation; `mode` is min or max, `version` v0.2 (also "") or v1."""
    predicate = _v1(made, mode, builder_id) if version == "v1" else _v02(made, mode, builder_id)
    return Attestation(V1 if version == "v1" else V02, predicate, "provenance.json")


def summary(made: Made) -> Object:
    """Return what `--metadata-file` tells: the least, and no times."""
    wire = _v02(made, "min", "")
    del wire["metadata"]
    return wire


def _v02(made: Made, mode: str, builder_id: str) -> Object:
    full = mode == "max"
    source = _source(made.request, "entryPoint")
    wire: Object = {"builder": {"id": builder_id}, "buildType": _TYPE_02}
    if materials := _materials(made):
        wire["materials"] = materials
    wire["invocation"] = {
        "configSource": source,
        "parameters": _parameters(made.request, full),
        "environment": {"platform": platform_text(made.host)},
    }
    details, about = _details(made) if full else ({}, {})
    if full:
        wire["buildConfig"] = details
    wire["metadata"] = {
        "buildInvocationID": made.build_id,
        "buildStartedOn": render_rfc3339(made.began),
        "buildFinishedOn": render_rfc3339(made.ended),
        "completeness": {
            "parameters": full,
            "environment": True,
            "materials": _is_complete(made.request),
        },
        "reproducible": False,
        _METADATA: about,
    }
    return wire


def _v1(made: Made, mode: str, builder_id: str) -> Object:
    full = mode == "max"
    details, about = _details(made) if full else ({}, {})
    internal: Object = {"buildConfig": details} if full else {}
    definition_wire: Object = {"buildType": _TYPE_1}
    if materials := _materials(made):
        definition_wire["resolvedDependencies"] = materials
    definition_wire["externalParameters"] = {
        "configSource": _source(made.request, "path"),
        "request": _parameters(made.request, full),
    }
    definition_wire["internalParameters"] = internal | {"builderPlatform": platform_text(made.host)}
    return {
        "buildDefinition": definition_wire,
        "runDetails": {
            "builder": {"id": builder_id},
            "metadata": {
                "invocationId": made.build_id,
                "startedOn": render_rfc3339(made.began),
                "finishedOn": render_rfc3339(made.ended),
                "buildkit_metadata": about,
                "buildkit_completeness": {
                    "request": full,
                    "resolvedDependencies": _is_complete(made.request),
                },
            },
        },
    }


def without_credentials(url: str) -> str:
    """Return a URL without the user and password that it may carry."""
    try:
        parts = urlsplit(url)
        if "@" not in parts.netloc or parts.scheme not in ("http", "https"):
            return url
    except ValueError:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _source(request: BuildRequest, name: str) -> Object:
    """Return where the Dockerfile is from."""
    context = request.contexts.get(MAIN_CONTEXT)
    wire: Object = {}
    if context is not None and context.origin:
        wire |= _fetched(context)
    return wire | {name: request.dockerfile_name}


def _fetched(context: ContextRef) -> Object:
    wire: Object = {"uri": without_credentials(context.origin)}
    if context.revision:
        algorithm = "sha1" if len(context.revision) == 40 else "sha256"
        wire["digest"] = {algorithm: context.revision}
    return wire


def _parameters(request: BuildRequest, full: bool) -> Object:
    arguments: dict[str, str] = {}
    if full:
        # Those of proxies hold passwords, and change nothing of what is made.
        given = {name: value for name, value in request.args.items() if name not in PREDEFINED}
        arguments |= {f"build-arg:{name}": value for name, value in given.items()}
        arguments |= {f"label:{name}": value for name, value in request.labels}
    if request.network in ("none", "host"):
        arguments["force-network-mode"] = request.network
    if request.target:
        arguments["target"] = request.target
    if request.no_cache:
        arguments["no-cache"] = ""
    for name, ref in request.contexts.items():
        if name != MAIN_CONTEXT:
            arguments[f"context:{name}"] = _context_text(name, ref)
    wire: Object = {"frontend": "dockerfile.v0"}
    if arguments:
        wire["args"] = dict(sorted(arguments.items()))
    if full and request.secrets:
        wire["secrets"] = [{"id": name, "optional": True} for name in sorted(request.secrets)]
    if full and request.ssh:
        wire["ssh"] = [{"id": name, "optional": True} for name in sorted(request.ssh)]
    local = [
        name or "context"
        for name, ref in request.contexts.items()
        if ref.kind is ContextKind.TREE and not ref.origin
    ]
    if local:
        wire["locals"] = [{"name": name} for name in sorted({*local, "dockerfile"})]
    return wire


def _context_text(name: str, ref: ContextRef) -> str:
    if ref.kind is ContextKind.IMAGE:
        return f"docker-image://{ref.value}"
    return without_credentials(ref.origin) if ref.origin else f"local:{name}"


def _is_complete(request: BuildRequest) -> bool:
    """Whether all materials are named: what a client sent has no name."""
    return all(
        ref.kind in (ContextKind.EMPTY, ContextKind.IMAGE) or ref.origin
        for ref in request.contexts.values()
    )


def _materials(made: Made) -> list[Object]:
    found: list[Object] = []
    for source, image in sorted(made.images.items(), key=lambda item: item[0].reference):
        name = Reference.parse(source.reference).with_default_tag()
        found.append(
            {
                "uri": package_url(name, image.platform),
                "digest": {image.manifest.algorithm: image.manifest.hex},
            }
        )
    for ref in made.request.contexts.values():
        if ref.origin:
            found.append(_fetched(ref))
    for step in _additions(made.graph):
        for url in step.sources:
            if is_remote(url):
                wire: Object = {"uri": without_credentials(url)}
                algorithm, _, digits = step.checksum.partition(":")
                if digits:
                    wire["digest"] = {algorithm: digits}
                found.append(wire)
    unique = {repr(one): one for one in found}
    return list(unique.values())


def _additions(graph: Graph) -> Iterable[AddStep]:
    return (step for stage in graph.stages for step in stage.steps if isinstance(step, AddStep))


def _details(made: Made) -> tuple[Object, Object]:
    """Return the steps, and where in the Dockerfile they stand."""
    steps = definition(made.graph, made.request, made.images)
    config: Object = {
        "llbDefinition": [step.wire() for step in steps],
        "digestMapping": {step.digest: step.id for step in steps},
    }
    about: Object = {
        "source": {
            "locations": {
                step.id: {
                    "locations": [
                        {
                            "ranges": [
                                {"start": {"line": step.lines[0]}, "end": {"line": step.lines[1]}}
                            ]
                        }
                    ]
                }
                if step.lines
                else {}
                for step in steps
            },
            "infos": [
                {
                    "filename": made.request.dockerfile_name,
                    "language": "Dockerfile",
                    "data": base64.b64encode(made.request.dockerfile).decode(),
                }
            ],
        }
    }
    return config, about
