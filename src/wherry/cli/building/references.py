"""`--output`, `--cache-from`, `--cache-to`, `--attest`, `--build-context`, `--annotation` as data."""

from __future__ import annotations

import os

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_OUTPUTS = ("local", "tar", "oci", "docker", "image", "registry", "cacheonly")
_TO_FILE = ("tar", "oci", "docker")


def csv_pairs(text: str, what: str) -> dict[str, str]:
    """Return the `name=value` fields of one flag. Raises Failure."""
    from wherry.cli.csv import fields

    try:
        items = fields(text)
    except ValueError as error:
        raise Failure(f"invalid {what} {text!r}: {error}") from None
    out: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise Failure(f"invalid value {item}")
        out[name.strip().lower()] = value
    return out


def parse_output(text: str) -> Object:
    """Return {kind, attributes} of one `--output`. A name alone is a folder, `-` is tar to standard output."""
    if "=" not in text:
        if text == "-":
            return {"kind": "tar", "attributes": {"dest": "-"}}
        return {"kind": "local", "attributes": {"dest": text}}
    attributes = csv_pairs(text, "output")
    kind = attributes.pop("type", "")
    if not kind:
        raise Failure("type is required for output")
    if kind not in _OUTPUTS:
        raise Failure(f"unknown output type {kind!r}: one of {', '.join(_OUTPUTS)}")
    if "dst" in attributes:
        attributes["dest"] = attributes.pop("dst")
    if kind == "local" and not attributes.get("dest"):
        raise Failure("dest is required for local output")
    if kind in ("tar", "oci") and not attributes.get("dest"):
        attributes["dest"] = "-"
    if "tar" in attributes and kind not in ("oci", "docker"):
        raise Failure(f"the output {kind} takes no tar={attributes['tar']}")
    if destination({"kind": kind, "attributes": attributes}) == ("local", "-"):
        raise Failure("dest is required for a folder")
    if attributes.get("dest") == "-" and os.isatty(1):
        raise Failure("dest file is required for an archive. refusing to write to console")
    return {"kind": kind, "attributes": attributes}


def leaves_engine(output: Object) -> bool:
    """Whether the client fetches this output."""
    return output["kind"] == "local" or (
        output["kind"] in _TO_FILE and bool(output["attributes"].get("dest"))
    )


def destination(output: Object) -> tuple[str, str]:
    """Return how the client takes an output (`local`: unpacked into a folder) and where to."""
    attributes = output["attributes"]
    unpacked = attributes.get("tar", "").lower() in ("0", "false")
    return "local" if unpacked else output["kind"], attributes.get("dest", "")


def parse_cache(text: str, folder: str) -> Object:
    """Return {kind, attributes}; `folder` is the attribute that names a local one: src or dest."""
    if "=" not in text:
        return {"kind": "registry", "attributes": {"ref": text}}
    attributes = csv_pairs(text, "cache")
    kind = attributes.pop("type", "registry")
    if kind not in ("registry", "local", "inline"):
        raise Failure(f"unknown cache type {kind!r}: one of registry, local, inline")
    if kind == "local":
        if not attributes.get(folder):
            raise Failure(f"local cache requires {folder}")
        attributes[folder] = os.path.abspath(attributes[folder])
    if kind == "registry" and not attributes.get("ref"):
        raise Failure("registry cache requires ref")
    return {"kind": kind, "attributes": attributes}


def parse_attestations(attest: list[str], provenance: str, sbom: str) -> Object:
    """Return the request's fields that say what is to be attested. Raises Failure."""
    out: Object = {"provenance": "", "sbom": False}
    wanted = [("", text) for text in attest]
    wanted += [("provenance", provenance)] if provenance else []
    wanted += [("sbom", sbom)] if sbom else []
    for kind, text in wanted:
        fields: dict[str, str] = {}
        if "=" in text:
            fields = csv_pairs(text, "attestation")
        elif text and kind:
            fields = {"disabled": "false" if _truth(text) else "true"}
        kind = fields.get("type", kind)
        on = not _truth(fields.get("disabled", "false"))
        if kind == "provenance":
            out["provenance"] = fields.get("mode", "min") if on else ""
            if out["provenance"] not in ("", "min", "max"):
                raise Failure(f'invalid mode "{out["provenance"]}": min or max')
            out["provenance_version"] = fields.get("version", "")
            if out["provenance_version"] not in ("", "v0.2", "v1"):
                raise Failure(f"invalid SLSA version {fields['version']!r}: v0.2 or v1")
            out["builder_id"] = fields.get("builder-id", "")
        elif kind == "sbom":
            if fields.get("generator"):
                raise Failure(
                    "the bill of materials is made by wherry itself: it takes no generator"
                )
            out["sbom"] = on
        elif kind:
            raise Failure(f"unknown attestation type {kind!r}: provenance or sbom")
        else:
            raise Failure(f"attestation type not specified: {text!r}")
    return out


def _truth(text: str) -> bool:
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise Failure(f"invalid value {text!r}: true or false")


def parse_annotation(text: str) -> tuple[str, str]:
    """Return (name, value). Whose it is (`index:`) stays in front of the name."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Failure(f"invalid annotation {text!r}, expected key=value")
    return name, value


def parse_named_context(text: str) -> tuple[str, str]:
    """Return (name, where) of one `--build-context`."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise Failure(f"invalid context value: {text}, expected key=value")
    return name.lower(), value
