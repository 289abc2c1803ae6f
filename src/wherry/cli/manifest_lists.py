"""Manifest lists being made, kept where Docker's client keeps them, so that both know the same ones.

    FOLDER/manifests/REGISTRY_NAME-TAG/REGISTRY_NAME-TAG    a list, and in it an image: ENTRY as JSON

FOLDER is that of the client's configuration; in both names `/` is `_` and `:` is `-`. An entry is what
`manifest inspect -v` prints. Source: docker-manifest(1).
"""

from __future__ import annotations

import base64
import os

from wherry.cli.failure import Failure
from wherry.cli.gojson import dumps
from wherry.client import wire
from wherry.client.wire import many, one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.model.ids import Reference

    Object = dict[str, Any]

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
LISTS = (DOCKER_LIST, OCI_INDEX)
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")


class ManifestStore:
    """The lists below one configuration folder. A list is there while it has an entry."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "manifests")

    def entries(self, name: Reference) -> list[Object]:
        """Return the entries of the list `name`, empty where there is none. Raises Failure."""
        folder = self._list(name)
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        found = (self._read(os.path.join(folder, entry)) for entry in names)
        return [entry for entry in found if entry is not None]

    def entry(self, name: Reference, image: Reference) -> Object | None:
        """Return the entry of `image` in the list `name`, None where there is none."""
        return self._read(os.path.join(self._list(name), _file_name(image)))

    def save(self, name: Reference, image: Reference, entry: Object) -> None:
        """Keep an entry."""
        folder = self._list(name)
        os.makedirs(folder, 0o755, exist_ok=True)
        path = os.path.join(folder, _file_name(image))
        # No entry begins with a dot, and a list that is read meanwhile has the old one or the new.
        temporary = os.path.join(self._folder, f".{os.getpid()}")
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(dumps(entry, html=True))
        os.replace(temporary, path)

    def remove(self, name: Reference) -> bool:
        """Forget a list; return whether it was there."""
        folder = self._list(name)
        if not os.path.isdir(folder):
            return False
        import shutil

        shutil.rmtree(folder)
        return True

    def _list(self, name: Reference) -> str:
        return os.path.join(self._folder, _file_name(name))

    @staticmethod
    def _read(path: str) -> Object | None:
        try:
            with open(path, "rb") as file:
                found: Any = wire.decode(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Failure(f"cannot read {path}: {error}") from None
        if not isinstance(found, dict) or "Raw" not in found or "Descriptor" not in found:
            raise Failure(f"{path} is no image of a manifest list")
        return found  # pyright: ignore[reportUnknownVariableType]


def _file_name(reference: Reference) -> str:
    return str(reference).replace(":", "-").replace("/", "_")


def make_entry(
    name: str, media_type: str, digest: str, data: bytes, platform: Object | None
) -> Object:
    """Return an entry: an image's manifest as the registry has it, and what it is for."""
    descriptor: Object = {"mediaType": media_type, "digest": digest, "size": len(data)}
    if platform is not None:
        descriptor["platform"] = ordered_platform(platform)
    kind = "OCIManifest" if media_type == _OCI_MANIFEST else "SchemaV2Manifest"
    raw = base64.b64encode(data).decode()
    return {"Ref": name, "Descriptor": descriptor, "Raw": raw, kind: wire.decode(data)}


def manifest_of(entry: Object) -> Object:
    """Return the manifest of an entry, as JSON."""
    return entry.get("SchemaV2Manifest") or entry.get("OCIManifest") or {}


def data_of(entry: Object) -> bytes:
    """Return the manifest of an entry as the registry has it. Raises Failure."""
    try:
        return base64.b64decode(entry["Raw"])
    except ValueError:
        raise Failure(f"{entry.get('Ref', '')}: its manifest is not in base64") from None


def ordered_platform(platform: Object) -> Object:
    """Return the platform of a descriptor, in the order of the documentation, without empty fields."""
    return {key: platform[key] for key in _PLATFORM if platform.get(key)}


def render_list(entries: list[Object]) -> str:
    """Return the list of these entries, byte for byte as Docker's client makes it."""
    return render_index(DOCKER_LIST, [entry["Descriptor"] for entry in entries])


def render_index(media_type: str, descriptors: list[Object]) -> str:
    """Return a list of these descriptors."""
    manifests: list[Object] = []
    for descriptor in descriptors:
        one_entry = {key: descriptor[key] for key in ("mediaType", "size", "digest")}
        one_entry["platform"] = ordered_platform(one(descriptor, "platform"))
        manifests.append(one_entry)
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    return dumps(document, indent="   ")


def descriptors_of(index: Object) -> list[Object]:
    """Return the descriptors of a registry's list."""
    return many(index, "manifests")
