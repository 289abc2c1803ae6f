"""`wherry registry`: a registry in this terminal (`serve`), or one that the engine keeps (`start`)."""

from __future__ import annotations

import os

from wherry.cli.daemon import find_program
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATHS = ("config", "root", "htpasswd", "rights", "tls-cert", "tls-key", "tls-client-ca", "share")

# The program's own table (wherry.registry.server.settings) has the same rows; a test compares them.
FLAGS = (
    Flag("listen", "string", "Address to serve on, HOST:PORT (127.0.0.1:5000)", many=True),
    Flag("root", "string", "Folder that holds everything (/var/lib/wherry-registry)"),
    Flag("config", "string", "TOML file with any of these as keys; flags win"),
    Flag("htpasswd", "string", "File of users and bcrypt hashes, as htpasswd -B writes it"),
    Flag("rights", "string", "File of what who may do: PATTERN WHO pull,push,delete"),
    Flag("basic", "bool", "Ask for passwords with each request, offer no tokens"),
    Flag("service", "string", "Name of this registry in its tokens (wherry-registry)"),
    Flag("public-url", "string", "Where clients reach it, behind a proxy"),
    Flag("tls-cert", "string", "Certificate, PEM, with its chain"),
    Flag("tls-key", "string", "Its key, PEM"),
    Flag("tls-client-ca", "string", "Clients must show a certificate that this signed"),
    Flag("metrics-listen", "string", "Address to serve /metrics on, and nothing else", many=True),
    Flag("read-only", "bool", "Refuse pushes and deletes"),
    Flag("no-delete", "bool", "Refuse deletes"),
    Flag("share", "string", "An engine's data root, whose blobs are linked, not copied"),
    Flag("upload-expiry", "string", "Forget uploads to which nothing came for so long (24h)"),
    Flag("gc-interval", "string", "Collect garbage this often; 0 never (1h)"),
    Flag("gc-grace", "string", "Never collect what is younger (1h)"),
    Flag("delete-untagged", "string", "Remove manifests without a tag after so long; 0 never"),
    Flag("max-blob", "string", "Bytes of the largest blob (1t)"),
    Flag("max-uploads", "string", "Unfinished uploads at a time (10000)"),
    Flag("log-level", "string", "debug, info, warning, error"),
)


def words(options: Options) -> list[str]:
    """Return the command line of the program that says what `options` say, its paths absolute."""
    out: list[str] = []
    for flag in FLAGS:
        if not options.given(flag.name):
            continue
        values: list[Any] = options.all(flag.name) if flag.many else [options.values[flag.name]]
        for value in values:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if flag.name in _PATHS:
                text = os.path.abspath(text)
            out.append(f"--{flag.name}={text}")
    return out


def _serve(_session: Session, options: Options, _arguments: list[str]) -> int:
    program = find_program("wherry-registry")
    os.execv(program, [program, *words(options)])


def _start(session: Session, options: Options, _arguments: list[str]) -> int:
    answer = session.engine.call(
        "POST", "/wherry/registry/start", body={"Arguments": words(options)}
    )
    _print(session, answer)
    return 0


def _stop(session: Session, _options: Options, _arguments: list[str]) -> int:
    session.engine.call("POST", "/wherry/registry/stop")
    return 0


def _status(session: Session, _options: Options, _arguments: list[str]) -> int:
    answer: dict[str, Any] = session.engine.get("/wherry/registry")
    _print(session, answer)
    return 0 if answer["Running"] else 1


def _print(session: Session, answer: dict[str, Any]) -> None:
    if not answer["Running"]:
        session.line("registry is not running")
        return
    for address in answer["Addresses"]:
        session.line(f"registry listening on {address}")
    session.line(f"root {answer['Root']}, pid {answer['Pid']}")


SERVE = Command(
    _serve,
    "[OPTIONS]",
    "Serve a registry in this terminal",
    FLAGS,
    most=0,
    details="It needs no engine, and nothing else. SIGHUP reads users, rights and certificate again.",
)
START = Command(
    _start,
    "[OPTIONS]",
    "Start the engine's own registry",
    FLAGS,
    most=0,
    details=(
        "The engine starts it again whenever it starts itself, until `wherry registry stop`. It keeps"
        "\nits images below the engine's data root, and shares layers with the engine."
    ),
)
STOP = Command(_stop, "", "Stop the engine's own registry", most=0)
STATUS = Command(_status, "", "Say whether the engine's own registry runs", most=0)
