"""An exported context: a tar (or, for import, a zip) of meta.json and the TLS files.

What comes in is from elsewhere: its size is bounded, and no name in it becomes a path here.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

from wherry.cli.contexts import Context, read_meta
from wherry.cli.failure import Failure
from wherry.client.address import parse_address
from wherry.model.errors import WherryError

_LARGEST = 10 << 20
_TLS = {f"tls/docker/{name}.pem": f"{name}.pem" for name in ("ca", "cert", "key")}


def pack(context: Context, tls: dict[str, bytes]) -> bytes:
    """Return the tar of a context, as Docker's client writes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        meta = json.dumps(context.to_json(), separators=(",", ":")).encode()
        _add(archive, "meta.json", meta, 0o644)
        _add(archive, "tls", None, 0o700)
        if tls:
            _add(archive, "tls/docker", None, 0o700)
        for name, content in sorted(tls.items()):
            _add(archive, f"tls/docker/{name}", content, 0o600)
    return data.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes | None, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if content is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def unpack(name: str, data: bytes) -> tuple[Context, dict[str, bytes]]:
    """Return the context, under its new name, and its TLS files. Raises Failure."""
    if len(data) > _LARGEST:
        raise Failure(f"the file is larger than {_LARGEST >> 20} MB: this is no context")
    try:
        files = _zipped(data) if data.startswith(b"PK") else _tarred(data)
        context = read_meta(name, json.loads(files["meta.json"]))
        parse_address(context.host)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
    ) as error:
        raise Failure(f"this is no exported context: {type(error).__name__}: {error}") from None
    except WherryError as error:
        raise Failure(f"unable to parse docker host: {error}") from None
    return context, {_TLS[path]: content for path, content in files.items() if path in _TLS}


def _tarred(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    # Docker's client leaves out the last block's padding.
    padded = io.BytesIO(data + bytes(-len(data) % 512))
    with tarfile.open(fileobj=padded, mode="r:") as archive:
        for entry in archive:
            if entry.isreg() and (entry.name == "meta.json" or entry.name in _TLS):
                file = archive.extractfile(entry)
                found[entry.name] = file.read() if file is not None else b""
    return found


def _zipped(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.filename != "meta.json" and entry.filename not in _TLS:
                continue
            if entry.file_size > _LARGEST:
                raise ValueError(f"{entry.filename} is too large")
            with archive.open(entry) as file:
                found[entry.filename] = file.read(_LARGEST)
    return found
