"""Which outputs a request has, what each can hold, and what of it the image store gets. Pure."""

from __future__ import annotations

from wherry.build.annotations import check_single, parse_annotations
from wherry.model.build import BuildRequest, OutputRef
from wherry.model.errors import Invalid, Unsupported

_FILES = ("local", "tar")
_HOLD_INDEX = ("oci", "registry")
_HINT = "--push, -o type=oci,dest=FILE or -o type=local,dest=FOLDER"


def platforms_of(request: BuildRequest) -> tuple[str, ...]:
    """Return the platforms asked for, each once; "" is the host's."""
    return tuple(dict.fromkeys(request.platforms)) or (request.platform,)


def enters_store(output: OutputRef) -> bool:
    """Whether an output is an image in the store, be it among other things."""
    return output.kind in ("image", "registry") or (
        output.kind == "docker" and not output.get("dest")
    )


def is_stored(request: BuildRequest) -> bool:
    """Whether what is built becomes an image of the store. As with Docker, not where it only goes elsewhere."""
    if len(platforms_of(request)) > 1:
        return False
    return not request.outputs or any(map(enters_store, request.outputs))


def is_pushed(output: OutputRef) -> bool:
    """Whether an output goes to a registry."""
    return output.kind == "registry" or output.get("push") in ("1", "true")


def is_written(output: OutputRef) -> bool:
    """Whether somebody has to bring an output where it is to be: it is not the store's alone."""
    if output.kind in ("image", "cacheonly"):
        return is_pushed(output)
    return not enters_store(output) or is_pushed(output)


def check_outputs(request: BuildRequest) -> None:
    """Raise Unsupported or Invalid where an output cannot hold what is asked for, before anything is built."""
    several = len(platforms_of(request)) > 1
    attested = bool(request.provenance or request.sbom)
    if not several and not attested:
        for output in request.outputs or (OutputRef("image"),):
            if output.kind not in (*_FILES, "cacheonly"):
                check_single(parse_annotations(request.annotations, output.attributes))
        return
    kinds = [output.kind for output in request.outputs]
    if any(o.kind == "docker" and o.get("dest") for o in request.outputs):
        raise Invalid(
            "docker exporter does not support exporting manifest lists, use the oci exporter instead",
            hint="-o type=oci,dest=FILE",
        )
    holds = (*_HOLD_INDEX, *_FILES, "cacheonly")
    if any(kind in holds for kind in kinds) or any(map(is_pushed, request.outputs)):
        return
    if several:
        raise Unsupported("the image store holds one platform of an image", hint=_HINT)
    raise Unsupported(
        "the image store holds no attestations (provenance, bill of materials)", hint=_HINT
    )
