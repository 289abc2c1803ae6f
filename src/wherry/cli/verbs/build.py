"""`wherry build`: what it does; its flags are in `build_command`."""

from __future__ import annotations

import os
import sys
from binascii import b2a_base64

from wherry.cli.building.contexts import (
    Standard,
    is_remote,
    named,
    read_ignore,
    remote,
    send_archive,
    send_folder,
)
from wherry.cli.building.references import (
    destination,
    leaves_engine,
    parse_annotation,
    parse_attestations,
    parse_cache,
    parse_named_context,
    parse_output,
)
from wherry.cli.building.show import Shown
from wherry.cli.failure import Failure
from wherry.cli.files import pairs_to_map, reason
from wherry.cli.flags import Options
from wherry.cli.session import Session
from wherry.client import wire
from wherry.model.urls import is_web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.building.answers import Answers

    Object = dict[str, Any]

_JSON = {"Content-Type": "application/json"}
CALLS = ("outline", "targets")
_LIMITS = {
    "memory": "memory",
    "memory-swap": "memory_swap",
    "cpu-shares": "cpu_shares",
    "cpu-period": "cpu_period",
    "cpu-quota": "cpu_quota",
    "cpus": "nano_cpus",
    "cpuset-cpus": "cpuset_cpus",
    "cpuset-mems": "cpuset_mems",
    "pids-limit": "pids_limit",
}


def run_build(session: Session, options: Options, arguments: list[str]) -> int:
    """Build, and show how it goes; return the exit code."""
    answers: Answers | None = None
    if any(options.all(name) for name in ("secret", "ssh", "output")):
        answers = _answers(session, options)
    call = "check" if options.on("check") else options.text("call")
    call, _, form = call.partition(",")
    if call not in ("build", "check", *CALLS):
        raise Failure(f"unsupported request frontend.{call}")
    body = _request(session, options)
    body["secrets"] = answers.secret_ids if answers else []
    body["ssh"] = answers.agent_ids if answers else []
    body["check_only"] = call == "check"
    if call in CALLS:
        body["call"] = call
    destinations = list(map(destination, body["outputs"]))
    shown = Shown(session, _progress(options), check=body["check_only"])
    shown.to_standard_output = any(path == "-" for _, path in destinations)
    try:
        with shown:
            shown.locally(
                "[internal] load build context",
                lambda: _bring(session, options, arguments[0], body),
            )
            data = wire.encode(body).encode("utf-8", "replace")
            for event in session.engine.events(
                "POST", "/wherry/build", None, data, _headers(session)
            ):
                if "ask" in event:
                    answers = answers or _answers(session, options)
                    answers.destinations = destinations
                    answers.give(event)
                else:
                    shown.take(event)
    finally:
        if answers is not None and shown.result is not None:
            answers.close()
    if call in CALLS and shown.result is not None:
        from wherry.cli.building.outline import render

        metadata = shown.result["metadata"]
        session.line(render(call, form.removeprefix("format="), metadata).rstrip("\n"))
        return 0
    return _finish(session, options, shown)


def _answers(session: Session, options: Options) -> Answers:
    # Not at the top: what fetches outputs and starts agents takes longer to import than a build that is
    # all cached takes altogether.
    from wherry.cli.building.answers import Answers

    return Answers(session, options.all("secret"), options.all("ssh"))


def _headers(session: Session) -> dict[str, str]:
    """The credentials of every registry that is logged in to: the engine takes what it needs."""
    if not os.path.exists(session.configuration.path):
        return _JSON
    from wherry.cli.credentials import all_headers

    return {**_JSON, **all_headers(session.configuration)}


def _progress(options: Options) -> str:
    if options.on("quiet"):
        return "quiet"
    return options.text("progress") or os.environ.get("BUILDKIT_PROGRESS", "") or "auto"


def _finish(session: Session, options: Options, shown: Shown) -> int:
    if shown.check:
        return shown.report_check()
    result = shown.result
    if result is None:
        return 1
    image: str = result.get("image_id") or ""
    if options.text("iidfile"):
        _write(options.text("iidfile"), (image or result.get("manifest") or "").encode())
    if options.text("metadata-file"):
        _write(options.text("metadata-file"), _metadata(result))
    # Nothing where an output wrote to standard output: it would be mixed with it.
    if options.on("quiet") and image and not shown.to_standard_output:
        session.line(image)
    return 0


def _metadata(result: Object) -> bytes:
    import json

    facts: Object = result.get("metadata") or {}
    return json.dumps(facts, indent=2, sort_keys=True).encode()


def _write(path: str, content: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise Failure(reason(error)) from None


# -- the request


def _request(session: Session, options: Options) -> Object:
    tags = list(map(_tag, options.all("tag")))
    outputs = [parse_output(text) for text in options.all("output")]
    if options.on("push"):
        outputs.append({"kind": "registry", "attributes": {}})
    if options.on("load"):
        outputs.append({"kind": "docker", "attributes": {}})
    if options.text("iidfile") and any(o["kind"] in ("local", "tar") for o in outputs):
        raise Failure("local and tar exporters are incompatible with image ID file")
    if sum(o["attributes"].get("dest") == "-" for o in outputs) > 1:
        raise Failure("only one output can go to standard output")
    for output in outputs:
        # What stays at the engine needs no path of the client's.
        if not leaves_engine(output):
            output["attributes"].pop("dest", None)
    platforms = [part for text in options.all("platform") for part in text.split(",") if part]
    args = _arguments(session, options)
    attested = parse_attestations(
        options.all("attest"), options.text("provenance"), options.text("sbom")
    )
    limits = {field: options.values[name] for name, field in _LIMITS.items() if options.given(name)}
    return {
        "args": args,
        "target": options.text("target"),
        "labels": pairs_to_map(options.all("label")),
        "annotations": dict(map(parse_annotation, options.all("annotation"))),
        "platform": platforms[0] if platforms else "",
        "platforms": platforms if len(platforms) > 1 else [],
        "tags": tags,
        "no_cache": options.on("no-cache"),
        "no_cache_filter": [
            name for text in options.all("no-cache-filter") for name in text.split(",") if name
        ],
        "cache_from": [parse_cache(text, "src") for text in options.all("cache-from")],
        "cache_to": [parse_cache(text, "dest") for text in options.all("cache-to")],
        "outputs": outputs,
        "network": options.text("network") or "default",
        "extra_hosts": list(options.all("add-host")),
        "shm_size": options.number("shm-size"),
        "limits": limits,
        "ulimits": options.all("ulimit"),
        "cgroup_parent": options.text("cgroup-parent"),
        "security_opts": options.all("security-opt"),
        "pull": options.on("pull"),
        "entitlements": [name for text in options.all("allow") for name in text.split(",") if name],
        "squash": options.on("squash"),
        "source_date_epoch": _epoch(args),
        **attested,
    }


def _tag(text: str) -> str:
    """Return a name in full. Raises Failure."""
    name, colon, tag = text.partition(":")
    plain = name.isascii() and name.islower() and name.isalnum() and len(name) < 64
    if plain and (tag.isascii() and tag.isalnum() and len(tag) < 64 if colon else True):
        # The usual `app` or `app:v1`; the grammar brings `re` and `dataclasses`, 20 ms.
        return f"docker.io/library/{name}:{tag or 'latest'}"
    from wherry.cli.references import parse_reference

    return str(parse_reference(text).with_default_tag())


def _arguments(session: Session, options: Options) -> dict[str, str]:
    """Return the build's arguments. The proxies of the configuration are among them, as with Docker."""
    given = [text.partition("=") for text in options.all("build-arg")]
    out = session.configuration.proxies(str(session.engine.address))
    for name, equals, value in given:
        out.pop(name, None)
        if equals:
            out[name] = value
        elif name in os.environ:
            out[name] = os.environ[name]
    return out


def _epoch(args: dict[str, str]) -> int | None:
    text = args.get("SOURCE_DATE_EPOCH") or os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise Failure(f"invalid SOURCE_DATE_EPOCH: {text}") from None


# -- contexts and the Dockerfile


def _bring(session: Session, options: Options, where: str, body: Object) -> None:
    """Send what the build needs of this machine, and put references to it into `body`."""
    name = options.text("file")
    # Before anything is sent.
    named_contexts = list(map(parse_named_context, options.all("build-context")))
    contexts: Object = {}
    content: bytes | None = None
    if name == "-":
        if where == "-":
            raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
        content = sys.stdin.buffer.read()
        body["dockerfile_name"] = "stdin"
    if where == "-":
        if os.isatty(0):
            raise Failure("no Dockerfile and no context: standard input is a terminal")
        standard = Standard()
        if standard.is_archive:
            contexts[""] = send_archive(session.engine, standard.pieces())
            body["dockerfile_name"] = name or "Dockerfile"
        else:
            if name:
                raise Failure(
                    "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"
                )
            content = standard.text()
            contexts[""] = {"kind": "empty"}
            body["dockerfile_name"] = "stdin"
    elif is_remote(where):
        contexts[""] = remote(where)
        if content is None:
            body["dockerfile_name"] = name or "Dockerfile"
    else:
        if content is None:
            content, path = _read_dockerfile(where, name)
            body["dockerfile_name"] = os.path.basename(path or name)
        else:
            path = ""
        contexts[""] = send_folder(session.engine, where, read_ignore(where, path))
    for key, value in named_contexts:
        contexts[key] = named(session.engine, value)
    body["contexts"] = contexts
    if content is not None:
        body["dockerfile"] = b2a_base64(content, newline=False).decode()


def _read_dockerfile(folder: str, name: str) -> tuple[bytes, str]:
    if is_web(name):
        from urllib.request import urlopen

        try:
            with urlopen(name, timeout=60) as answer:
                return answer.read(), ""
        except OSError as error:
            raise Failure(f"failed to fetch {name}: {error}") from None
    if not os.path.isdir(folder):
        problem = "not a directory" if os.path.lexists(folder) else "not found"
        raise Failure(f"unable to prepare context: path {folder!r} {problem}")
    paths = [name] if name else [f"{folder}/Dockerfile", f"{folder}/dockerfile"]
    for path in paths:
        try:
            with open(path, "rb") as file:
                return file.read(), path
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Failure(f"failed to read dockerfile: {reason(error)}") from None
    raise Failure(
        f"failed to read dockerfile: open {name or 'Dockerfile'}: no such file or directory"
    )
