"""What was built, as bytes: archives of Docker's and of OCI's form, or the roots' files as tar.

A folder (`-o dir`, `type=oci,tar=false`) is a tar too: whoever asked unpacks it where it is to be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from wherry.build.annotations import parse_annotations
from wherry.build.arguments import platform_text
from wherry.build.bundle import Bundle, assemble, blobs_of, replace_annotations
from wherry.build.files import Export, Exported
from wherry.build.forms import Forms, LayerForms, parse_compression
from wherry.build.statements import statement
from wherry.images.archive.oci import CONTAINERD_NAME, REF_NAME
from wherry.images.archive.save import Chosen
from wherry.images.intake import Intake, Intakes
from wherry.images.manifests import Descriptor, descriptor_json, encode_index
from wherry.kernel.hashing import sha256
from wherry.model.build import BuildRequest, OutputRef
from wherry.model.errors import Invalid
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image
from wherry.storage.content import ContentStore
from wherry.storage.layers import Entry, Kind, TarWriter, pack

_ARCHIVES: Final = ("docker", "oci")
_TREES: Final = ("local", "tar")
_COMPRESSIONS: Final = {"": "", "uncompressed": "", "gzip": "gzip", "zstd": "zstd"}
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_PIECE: Final = 1 << 20
_MOST_SUBJECTS: Final = 20_000
"""Files that a statement of a folder names."""


class Saver(Protocol):
    """Writes images' archives: `images.archive.save`."""

    def save(
        self,
        chosen: Sequence[Chosen],
        out: Callable[[bytes], object],
        *,
        form: str,
        compression: str,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Packing:
    """What bundles are made with."""

    intakes: Intakes
    forms: Forms

    def bundle(self, export: Export, intake: Intake) -> Bundle:
        """Return an output's bundle, its layers held by `intake`. Blocks. Raises Invalid, Full."""
        request, output = export.request, export.output
        attributes = dict(output.attributes)
        forms = LayerForms(intake, self.forms, parse_compression(attributes))
        return assemble(
            export.images,
            forms.form,
            names=names(request, output),
            annotations=parse_annotations(request.annotations, output.attributes),
            oci_types=attributes.get("oci-mediatypes", "true") in ("", "1", "true"),
        )


class Outputs:
    """Writes outputs. Everything blocks."""

    def __init__(self, saver: Saver, packing: Packing, content: ContentStore) -> None:
        self._saver = saver
        self._packing = packing
        self._content = content

    def write(self, export: Export, out: Callable[[bytes], object]) -> Exported:
        """Write one output's bytes to `out`.

        Raises Invalid for a kind that is none of bytes, for what it cannot hold, and for names and
        attributes that are malformed.
        """
        request, output, images = export.request, export.output, export.images
        if output.kind in _TREES:
            _write_trees(export, out)
            return Exported()
        if output.kind not in _ARCHIVES:
            raise Invalid(
                f"an output of kind {output.kind!r} is not a file", hint="local, tar, docker or oci"
            )
        if output.kind == "oci":
            with self._packing.intakes() as intake:
                bundle = self._packing.bundle(export, intake)
                root = self._write_layout(bundle, names(request, output), out)
            return exported(root)
        compression = output.get("compression")
        if compression not in _COMPRESSIONS:
            raise Invalid(
                f"cannot write an archive with compression {compression!r}",
                hint="uncompressed, gzip or zstd",
            )
        if len(images) > 1 or images[0].attestations:
            raise Invalid(
                "docker exporter does not support exporting manifest lists, use the oci exporter"
                " instead",
                hint="-o type=oci,dest=FILE",
            )
        one = images[0]
        chosen = Chosen(one.image, one.layers, names(request, output), one.config)
        self._saver.save([chosen], out, form="docker", compression=_COMPRESSIONS[compression])
        return image_exported(one.image)

    def _write_layout(
        self, bundle: Bundle, references: Sequence[Reference], out: Callable[[bytes], object]
    ) -> Descriptor:
        """Write an OCI layout; return what its index names."""
        root = bundle.root
        about = root.annotations or {}
        entries = [
            replace_annotations(
                root, about | {CONTAINERD_NAME: str(name), REF_NAME: name.tag or str(name.digest)}
            )
            for name in references
        ]
        tar = TarWriter(out)
        tar.add_directory("blobs")
        small = {one.descriptor.digest: one.data for one in blobs_of(bundle)}
        sizes = {layer.digest: layer.size for layer in bundle.layers}
        for algorithm in sorted({"sha256", *(text.partition(":")[0] for text in small | sizes)}):
            tar.add_directory(f"blobs/{algorithm}")
        for text in sorted(small | dict.fromkeys(sizes, b"")):
            digest = Digest.parse(text)
            name = f"blobs/{digest.algorithm}/{digest.hex}"
            if text in small:
                tar.add_file(name, small[text])
                continue
            with self._content.open(digest) as file:
                tar.add(Entry(name.encode(), Kind.FILE, 0o644, size=sizes[text]), file)
        tar.add_file("index.json", encode_index(entries or [root]))
        tar.add_file("oci-layout", _LAYOUT)
        tar.finish()
        return root


def names(request: BuildRequest, output: OutputRef) -> tuple[Reference, ...]:
    """Return what an output is called: its own `name`, else the build's tags. Raises Invalid."""
    given = output.get("name")
    texts = [text.strip() for text in given.split(",") if text.strip()] if given else request.tags
    return tuple(Reference.parse(text).with_default_tag() for text in texts)


def exported(root: Descriptor) -> Exported:
    """Return what is told of a bundle that was written."""
    wire = descriptor_json(root)
    if root.platform is not None:
        platform = root.platform
        wire["platform"] = {"architecture": platform.architecture, "os": platform.os} | (
            {"variant": platform.variant} if platform.variant else {}
        )
    return Exported(root.digest, wire)


def image_exported(image: Image) -> Exported:
    """Return what is told of an image that is one in the store, or would be."""
    return Exported(str(image.manifest))


# -- folders --------------------------------------------------------------------------------------


def _write_trees(export: Export, out: Callable[[bytes], object]) -> None:
    """Write roots as one tar: each in a folder of its platform where there are several, or it is asked."""
    output, images = export.output, export.images
    asked = output.get("platform-split")
    split = asked in ("1", "true") if asked else len(images) > 1
    if not split and len(images) > 1:
        raise Invalid(
            f"cannot overwrite files of {platform_text(images[0].image.platform)} with those of"
            f" {platform_text(images[1].image.platform)} when split option is disabled",
            hint="leave platform-split=false out",
        )
    tar = TarWriter(out)
    epoch = export.request.source_date_epoch
    for one in images:
        folder = platform_text(one.image.platform).replace("/", "_") if split else ""
        # An OverlayFS mount shows no whiteouts; names that begin as theirs do are files like others.
        with one.root.open() as fd:
            pack(
                fd,
                out,
                prefix=folder.encode(),
                clamp_mtime=epoch,
                whole_seconds=True,
                finish=False,
            )
            if one.attestations:
                subjects = list(_subjects(fd))
                for made in one.attestations:
                    name = output.get("attestation-prefix") + made.file_name
                    path = f"{folder}/{name}" if folder else name
                    content = statement(made, subjects, indent=2)
                    tar.add_file(path, content, mode=0o600, mtime_ns=(epoch or 0) * 10**9)
                tar.flush()
    tar.finish()


def _subjects(root: int) -> Iterator[tuple[str, Digest]]:
    """Yield the regular files of a tree with their digests, in the order of their names."""
    count = 0
    for folder, directories, files, fd in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        directories.sort()
        for name in sorted(files):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                continue
            count += 1
            if count > _MOST_SUBJECTS:
                return
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            with open(opened, "rb") as file:
                digest = sha256()
                while piece := file.read(_PIECE):
                    digest.update(piece)
            path = os.path.normpath(os.path.join(folder, name))
            text = os.fsencode(path).decode("utf-8", "replace")
            yield text, Digest("sha256", digest.hexdigest())
