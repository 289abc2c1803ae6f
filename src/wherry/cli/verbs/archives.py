"""Archives in and out: export, save, load, import."""

from __future__ import annotations

import os
import sys

from wherry.cli.failure import Failure
from wherry.cli.files import reason
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.progress import show
from wherry.cli.session import Session
from wherry.cli.stream import write_all
from wherry.client.engine import segment
from wherry.client.http import escape
from wherry.model.urls import is_web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.client.http import Response

_PIECE = 1 << 20
_TAR = {"Content-Type": "application/x-tar"}


def _deliver(response: Response, path: str) -> None:
    """Write the body to standard output, or to a file that appears whole or not at all."""
    if not path:
        sys.stdout.flush()
        for piece in response.pieces():
            write_all(1, piece)
        return
    part = f"{path}.{os.getpid()}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(reason(error)) from None
    try:
        for piece in response.pieces():
            write_all(descriptor, piece)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
    finally:
        os.close(descriptor)


def _check_output(path: str, what: str) -> None:
    if not path:
        if os.isatty(1):
            raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        return
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        raise Failure(
            f"failed to {what}: invalid output path: stat {folder}: no such file or directory"
        )
    if os.path.isdir(path):
        raise Failure(f"failed to {what}: cannot write to a directory")


def _export(session: Session, options: Options, arguments: list[str]) -> int:
    path = options.text("output")
    _check_output(path, "export container")
    _deliver(session.engine.open("GET", f"/containers/{segment(arguments[0])}/export"), path)
    return 0


def _save(session: Session, options: Options, arguments: list[str]) -> int:
    path = options.text("output")
    _check_output(path, "save image")
    route = "/images/get?" + "&".join(f"names={escape(name)}" for name in arguments)
    query = _platform_query(options)
    _deliver(session.engine.open("GET", route, query), path)
    return 0


def _platform_query(options: Options) -> dict[str, str]:
    if not options.text("platform"):
        return {}
    from wherry.cli.platforms import as_json

    return {"platform": as_json(options.text("platform"))}


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, _PIECE):
        yield piece


def _open_input(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(reason(error)) from None


def _load(session: Session, options: Options, _arguments: list[str]) -> int:
    path = options.text("input")
    if not path and os.isatty(0):
        raise Failure("requested load from stdin, but stdin is empty")
    descriptor = _open_input(path) if path else 0
    quiet = options.on("quiet") or not os.isatty(1)
    query = {"quiet": "1" if quiet else "0"} | _platform_query(options)
    show(session.engine.events("POST", "/images/load", query, _pieces(descriptor), _TAR))
    return 0


def _import(session: Session, options: Options, arguments: list[str]) -> int:
    source = arguments[0]
    query: dict[str, str] = {}
    if len(arguments) > 1:
        query["repo"] = arguments[1]
    if options.text("message"):
        query["message"] = options.text("message")
    if options.text("platform"):
        query["platform"] = options.text("platform").lower()
    path = "/images/create"
    changes: list[str] = options.all("change")
    if changes:
        path += "?" + "&".join(f"changes={escape(change)}" for change in changes)
    if is_web(source):
        messages = session.engine.events("POST", path, {"fromSrc": source, **query})
    else:
        descriptor = 0 if source == "-" else _open_input(source)
        body = _pieces(descriptor)
        messages = session.engine.events("POST", path, {"fromSrc": "-", **query}, body, _TAR)
    show(messages)
    return 0


_PLATFORM = "only the given platform variant (os[/arch[/variant]])"
EXPORT = Command(
    _export,
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    (Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),),
    least=1,
    most=1,
)
SAVE = Command(
    _save,
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    (
        Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),
        Flag("platform", "string", f"Save {_PLATFORM}"),
    ),
    least=1,
)
LOAD = Command(
    _load,
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    (
        Flag("input", "string", "Read from tar archive file, instead of STDIN", short="i"),
        Flag("platform", "string", f"Load {_PLATFORM}"),
        Flag("quiet", "bool", "Suppress the load output", short="q"),
    ),
    most=0,
)
IMPORT = Command(
    _import,
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    (
        Flag(
            "change",
            "string",
            "Apply Dockerfile instruction to the created image",
            short="c",
            many=True,
        ),
        Flag("message", "string", "Set commit message for imported image", short="m"),
        Flag("platform", "string", "Set platform if server is multi-platform capable"),
    ),
    least=1,
)
