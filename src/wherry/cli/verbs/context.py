"""`wherry context`: engines by name. Words, exit codes and files are those of Docker's client."""

from __future__ import annotations

import os
import sys

from wherry.cli.contexts import DEFAULT, Context, ContextStore, check_name
from wherry.cli.endpoint import context_name, find_address
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.listing import Listing
from wherry.cli.session import Session
from wherry.cli.template.values import Row
from wherry.client.address import DEFAULT_HOST, parse_address
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IN_MEMORY = "<IN MEMORY>"
_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
_LISTING = Listing(
    "*formatter.clientContextContext",
    "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    {
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "DockerEndpoint": "DOCKER ENDPOINT",
        "Error": "ERROR",
    },
    quiet="Name",
)
_HERE = "Current DOCKER_HOST based configuration"


def _store(session: Session) -> ContextStore:
    return ContextStore(session.configuration.folder)


def _current(session: Session) -> str:
    return context_name(session.options) or DEFAULT


def _default() -> Context:
    environment = os.environ.get("WHERRY_HOST", "") or os.environ.get("DOCKER_HOST", "")
    return Context(DEFAULT, environment or DEFAULT_HOST, _HERE)


def _endpoint(entries: list[str]) -> dict[str, str]:
    """Return the keys of `--docker host=…,ca=…`. Raises Failure."""
    found: dict[str, str] = {}
    for entry in entries:
        for part in entry.split(","):
            key, equals, value = part.partition("=")
            if not equals:
                raise Failure(
                    f'invalid argument "{entry}" for "--docker" flag: {part} must be formatted as '
                    "key=value"
                )
            if key not in _KEYS:
                raise Failure(f"{key}: unrecognized config key")
            found[key] = value
    return found


def _apply(
    store: ContextStore, context: Context, endpoint: dict[str, str]
) -> dict[str, bytes] | None:
    """Set what `endpoint` says; return the TLS files that replace the context's, None for no change."""
    tls: dict[str, bytes] | None = None
    if origin := endpoint.get("from"):
        if len(endpoint) > 1:
            raise Failure("cannot use a from with other options")
        source = store.get(origin) if origin != DEFAULT else Context(DEFAULT, "")
        context.host, context.skip_verify = source.host, source.skip_verify
        return _tls_of(source)
    if "host" in endpoint:
        context.host = endpoint["host"]
    try:
        parse_address(context.host)
    except WherryError as error:
        raise Failure(f"unable to parse docker host: {error}") from None
    if text := endpoint.get("skip-tls-verify"):
        if text.lower() not in ("true", "false", "1", "0"):
            raise Failure(f'skip-tls-verify: strconv.ParseBool: parsing "{text}": invalid syntax')
        context.skip_verify = text.lower() in ("true", "1")
    for key in ("ca", "cert", "key"):
        if path := endpoint.get(key):
            tls = tls if tls is not None else {}
            try:
                with open(os.path.expanduser(path), "rb") as file:
                    tls[f"{key}.pem"] = file.read()
            except OSError as error:
                raise Failure(f"open {path}: {(error.strerror or '').lower()}") from None
    return tls


def _tls_of(context: Context) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in context.tls_files():
        with open(os.path.join(context.folder, name), "rb") as file:
            found[name] = file.read()
    return found


def _create(session: Session, options: Options, arguments: list[str]) -> int:
    store, name = _store(session), arguments[0]
    check_name(name)
    if store.find(name) is not None:
        raise Failure(f'context "{name}" already exists')
    origin = options.text("from")
    endpoint = _endpoint(options.all("docker"))
    if origin and endpoint:
        raise Failure("cannot use --docker flag when --from is set")
    context = Context(name, str(find_address(session.options)[0]))
    tls: dict[str, bytes] | None = {}
    if origin and origin != DEFAULT:
        source = store.get(origin)
        context = Context(name, source.host, source.description, skip_verify=source.skip_verify)
        tls = _tls_of(source)
    elif endpoint:
        tls = _apply(store, context, endpoint)
    if options.given("description"):
        context.description = options.text("description")
    store.save(context, tls)
    session.line(name)
    session.error(f'Successfully created context "{name}"')
    return 0


def _update(session: Session, options: Options, arguments: list[str]) -> int:
    store, name = _store(session), arguments[0]
    check_name(name)
    context = store.get(name)
    if options.given("description"):
        context.description = options.text("description")
    endpoint = _endpoint(options.all("docker"))
    store.save(context, _apply(store, context, endpoint) if endpoint else None)
    session.line(name)
    session.error(f'Successfully updated context "{name}"')
    return 0


def _list(session: Session, options: Options, _arguments: list[str]) -> int:
    store, current = _store(session), _current(session)
    contexts = [_default(), *(store.get(name) for name in store.names())]
    contexts.sort(key=lambda context: context.name)
    rows = [_row(context, current) for context in contexts]
    if all(context.name != current for context in contexts):
        missing = Context(current, "")
        rows.append(_row(missing, current, f'context "{current}": context not found'))
    quiet, form = options.on("quiet"), options.text("format")
    session.write(_LISTING.render(rows, form, quiet=quiet, style=session.style()))
    _warn_of_the_environment(session, "a context")
    return 0


def _warn_of_the_environment(session: Session, name: str) -> None:
    """Say that a choice of context has no effect where the environment names a host."""
    if os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST"):
        variable = "WHERRY_HOST" if os.environ.get("WHERRY_HOST") else "DOCKER_HOST"
        session.error(
            f"Warning: {variable} environment variable overrides the active context. To use {name}, "
            f"either set the global --context flag, or unset {variable} environment variable."
        )


def _row(context: Context, current: str, error: str = "") -> Row:
    return Row(
        _LISTING.kind,
        {
            "Current": lambda: context.name == current,
            "Description": lambda: context.description,
            "DockerEndpoint": lambda: context.host,
            "Error": lambda: error,
            "Name": lambda: context.name,
        },
    )


def _shown(session: Session, name: str) -> dict[str, Any]:
    store = _store(session)
    context = store.get(name) if name != DEFAULT else _default()
    if name == DEFAULT:
        context.description = ""
    shown = context.to_json()
    files = context.tls_files()
    shown["TLSMaterial"] = {"docker": files} if files else {}
    meta, tls = store.places(name) if name != DEFAULT else (_IN_MEMORY, _IN_MEMORY)
    shown["Storage"] = {"MetadataPath": meta, "TLSPath": tls}
    return shown


def _inspect(session: Session, options: Options, arguments: list[str]) -> int:
    from wherry.cli.verbs.inspect import show_found

    names = arguments or [_current(session)]
    return show_found(
        session, names, lambda name: _shown(session, name), options.text("format"), html=True
    )


def _use(session: Session, _options: Options, arguments: list[str]) -> int:
    store, name = _store(session), arguments[0]
    if name != DEFAULT:
        store.get(name)
    store.choose(name)
    session.line(name)
    session.error(f'Current context is now "{name}"')
    _warn_of_the_environment(session, f'"{name}"')
    return 0


def _show(session: Session, _options: Options, _arguments: list[str]) -> int:
    session.line(_current(session))
    return 0


def _remove(session: Session, options: Options, arguments: list[str]) -> int:
    store, force = _store(session), options.on("force")
    problems: list[str] = []
    for name in arguments:
        if name == DEFAULT:
            problems.append('context "default" cannot be removed')
        elif store.find(name) is None:
            if not force:
                problems.append(f'context "{name}" does not exist')
        elif name == _current(session) and not force:
            problems.append(f'context "{name}" is in use, set -f flag to force remove')
        else:
            if name == store.chosen():
                store.choose(DEFAULT)
            store.remove(name)
            session.line(name)
    if problems:
        raise Failure("\n".join(problems))
    return 0


def _export(session: Session, _options: Options, arguments: list[str]) -> int:
    from wherry.cli.context_archive import pack

    name = arguments[0]
    target = arguments[1] if len(arguments) > 1 else f"{name}.dockercontext"
    context = _store(session).get(name)
    data = pack(context, _tls_of(context))
    if target == "-":
        if os.isatty(1):
            raise Failure("cowardly refusing to export to a terminal, specify a file path")
        session.write("")
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return 0
    try:
        with open(target, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(data)
    except FileExistsError:
        raise Failure(f"open {target}: file exists") from None
    session.error(f'Written file "{target}"')
    return 0


def _import(session: Session, _options: Options, arguments: list[str]) -> int:
    from wherry.cli.context_archive import unpack

    store, (name, source) = _store(session), arguments
    check_name(name)
    if store.find(name) is not None:
        raise Failure(f'context "{name}" already exists')
    try:
        if source == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(source, "rb") as file:
                data = file.read()
    except OSError as error:
        raise Failure(f"open {source}: {(error.strerror or '').lower()}") from None
    context, tls = unpack(name, data)
    store.save(context, tls)
    session.line(name)
    session.error(f'Successfully imported context "{name}"')
    return 0


_DESCRIPTION = Flag("description", "string", "Description of the context")
_DOCKER = Flag("docker", "string", "Set the engine's endpoint: host=…,ca=…,cert=…,key=…", many=True)
_FROM = Flag("from", "string", "Create context from a named context")
_FORMAT = Flag("format", "string", "Format output: 'table', 'json' or a Go template")
_QUIET = Flag("quiet", "bool", "Only show context names", short="q")
_FORCE = Flag("force", "bool", "Force the removal of a context in use", short="f")
_TEMPLATE = Flag("format", "string", "Format output: 'json' or a Go template", short="f")

CREATE = Command(
    _create,
    "[OPTIONS] CONTEXT",
    "Create a context",
    (_DESCRIPTION, _DOCKER, _FROM),
    least=1,
    most=1,
    details='Example: wherry context create box --docker "host=ssh://me@box"',
)
UPDATE = Command(
    _update,
    "[OPTIONS] CONTEXT",
    "Update a context",
    (_DESCRIPTION, _DOCKER),
    least=1,
    most=1,
)
LIST = Command(_list, "[OPTIONS]", "List contexts", (_FORMAT, _QUIET), most=0)
INSPECT = Command(
    _inspect,
    "[OPTIONS] [CONTEXT] [CONTEXT...]",
    "Display detailed information on one or more contexts",
    (_TEMPLATE,),
)
USE = Command(_use, "CONTEXT", "Set the current context", least=1, most=1)
SHOW = Command(_show, "", "Print the name of the current context", most=0)
REMOVE = Command(_remove, "CONTEXT [CONTEXT...]", "Remove one or more contexts", (_FORCE,), least=1)
EXPORT = Command(
    _export,
    "CONTEXT [FILE|-]",
    "Export a context to a tar archive FILE or a tar stream on STDOUT",
    least=1,
    most=2,
)
IMPORT = Command(
    _import, "CONTEXT FILE|-", "Import a context from a tar or zip file", least=2, most=2
)
