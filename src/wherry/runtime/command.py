"""`wherry-runtime`: an OCI runtime on the command line, for engines that call runc.

Exit status 0 for success, 1 for an error (told on standard error, or as JSON in --log), the process's
own for run and exec. Source: OCI runtime-spec 1.2 and the runtime command line interface that engines share.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pwd
import signal
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, cast

from wherry import __version__
from wherry.kernel.linux import LINUX
from wherry.kernel.processes import run_from_read_only_view
from wherry.model.errors import Invalid, WherryError
from wherry.model.oci import DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS
from wherry.runtime import capabilities
from wherry.runtime.lifecycle import Runtime, Terminal, render, wait_for
from wherry.runtime.state import States

_ROOT = "/run/wherry-runtime"
_FORKING = ("create", "run", "exec")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wherry-runtime", description="Run containers from OCI bundles."
    )
    parser.add_argument("--version", "-v", action="version", version=_version())
    parser.add_argument("--root", default=_ROOT, help="where states are kept (default %(default)s)")
    parser.add_argument("--log", default="", help="write errors to this file")
    parser.add_argument("--log-format", default="text", choices=("text", "json"))
    parser.add_argument("--debug", action="store_true", help="accepted for engines that pass it")
    parser.add_argument(
        "--systemd-cgroup", action="store_true", help="cgroups paths are slice:prefix:name"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (
        ("create", "make a container"),
        ("run", "make, start and wait for a container"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--bundle", "-b", default=".")
        verb.add_argument("--console-socket", default="")
        verb.add_argument("--pid-file", default="")
        verb.add_argument("--no-pivot", action="store_true")
        verb.add_argument("--no-new-keyring", action="store_true")
        verb.add_argument("--preserve-fds", type=int, default=0)
        verb.add_argument("--detach", "-d", action="store_true")
        verb.add_argument("--keep", action="store_true")
        verb.add_argument("id")
    for name, text in (
        ("start", "start a created container"),
        ("state", "show a container's state as JSON"),
        ("pause", "freeze a container"),
        ("resume", "thaw a container"),
    ):
        verbs.add_parser(name, help=text).add_argument("id")
    verb = verbs.add_parser("ps", help="list a container's processes")
    verb.add_argument("--format", "-f", default="table", choices=("table", "json"))
    verb.add_argument("id")
    verb = verbs.add_parser("kill", help="send a signal")
    verb.add_argument("--all", "-a", action="store_true")
    verb.add_argument("id")
    verb.add_argument("signal", nargs="?", default="TERM")
    verb = verbs.add_parser("delete", help="remove a stopped container")
    verb.add_argument("--force", "-f", action="store_true")
    verb.add_argument("id")
    verb = verbs.add_parser("update", help="change limits")
    verb.add_argument("--resources", "-r", default="-", help="a file with linux.resources as JSON")
    verb.add_argument("id")
    verb = verbs.add_parser("exec", help="run a process in a container")
    verb.add_argument("--process", "-p", default="", help="a file with the process as JSON")
    verb.add_argument("--console-socket", default="")
    verb.add_argument("--pid-file", default="")
    verb.add_argument("--detach", "-d", action="store_true")
    verb.add_argument("--tty", "-t", action="store_true")
    verb.add_argument("--cwd", default="")
    verb.add_argument("--env", "-e", action="append", default=[])
    verb.add_argument("--user", "-u", default="")
    verb.add_argument("--preserve-fds", type=int, default=0)
    verb.add_argument("id")
    verb.add_argument("args", nargs=argparse.REMAINDER)
    verb = verbs.add_parser("list", help="list containers")
    verb.add_argument("--format", "-f", default="table", choices=("table", "json"))
    verb.add_argument("--quiet", "-q", action="store_true")
    verb = verbs.add_parser("spec", help="write a config.json to start from")
    verb.add_argument("--bundle", "-b", default=".")
    verb.add_argument("--rootless", action="store_true")
    verbs.add_parser("features", help="tell what this runtime can do, as JSON")
    return parser


def _version() -> str:
    return f"wherry-runtime version {__version__}\nspec: 1.2.0"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb in _FORKING:
            run_from_read_only_view()
        status = _perform(options, Runtime(LINUX, States(options.root)))
    except WherryError as error:
        _report(options, str(error))
        status = 1
    except OSError as error:
        _report(
            options, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        )
        status = 1
    sys.exit(status)


def _report(options: argparse.Namespace, message: str) -> None:
    print(f"wherry-runtime: {message}", file=sys.stderr)
    if not options.log:
        return
    with open(options.log, "a", encoding="utf-8") as file:
        if options.log_format == "json":
            now = datetime.datetime.now(datetime.UTC).isoformat()
            file.write(json.dumps({"level": "error", "msg": message, "time": now}) + "\n")
        else:
            file.write(f"level=error msg={json.dumps(message)}\n")


def _perform(options: argparse.Namespace, runtime: Runtime) -> int:
    states = States(options.root)
    match options.verb:
        case "create" | "run":
            return _create(options, runtime)
        case "start":
            runtime.start(options.id)
        case "state":
            print(json.dumps(render(states.read(options.id)), indent=2))
        case "kill":
            runtime.kill(options.id, _signal(options.signal), everyone=options.all)
        case "delete":
            runtime.delete(options.id, force=options.force)
        case "pause" | "resume":
            runtime.pause(options.id, frozen=options.verb == "pause")
        case "ps":
            pids = runtime.pids(options.id)
            print(
                json.dumps(pids)
                if options.format == "json"
                else "\n".join(map(str, ["PID", *pids]))
            )
        case "update":
            text = sys.stdin.read() if options.resources == "-" else _read(options.resources)
            runtime.update(options.id, json.loads(text))
        case "exec":
            return _execute(options, runtime, states)
        case "list":
            _list(options, states)
        case "spec":
            _write_spec(options)
        case _:
            print(json.dumps(_features(), indent=2))
    return 0


def _create(options: argparse.Namespace, runtime: Runtime) -> int:
    if options.preserve_fds:
        raise Invalid("--preserve-fds is not in this version: no descriptor goes into a container")
    terminal = Terminal(options.console_socket)
    own = options.verb == "run" and not options.detach
    state = runtime.create(options.id, options.bundle, terminal, options.pid_file, own=own)
    if options.verb == "create":
        return 0
    pidfd = os.pidfd_open(state.pid)
    runtime.start(options.id)
    if options.detach:
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: signal.pidfd_send_signal(pidfd, caught))
    status = wait_for(pidfd)
    if not options.keep:
        runtime.delete(options.id, force=True)
    return status


def _signal(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    except KeyError as error:
        raise Invalid(f"unknown signal {text!r}") from error


def _execute(options: argparse.Namespace, runtime: Runtime, states: States) -> int:
    if options.process:
        with open(options.process, encoding="utf-8") as file:
            process: dict[str, Any] = json.load(file)
    else:
        config = json.loads(_read(os.path.join(states.read(options.id).bundle, "config.json")))
        process = cast("dict[str, Any]", config["process"])
        process["args"] = [word for word in options.args if word != "--" or options.args[0] != "--"]
        process["terminal"] = options.tty
        process["env"] = [*(process.get("env") or ()), *options.env]
        process["cwd"] = options.cwd or process.get("cwd", "/")
        if options.user:
            uid, _, gid = options.user.partition(":")
            process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    return runtime.execute(
        options.id,
        process,
        Terminal(options.console_socket),
        options.pid_file,
        detach=options.detach,
    )


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _list(options: argparse.Namespace, states: States) -> None:
    found = [(state, render(state)) for state in states.all()]
    if options.format == "json":
        owner = pwd.getpwuid(os.getuid()).pw_name
        rows = [
            {**record, "created": state.created, "owner": owner, "rootfs": ""}
            for state, record in found
        ]
        print(json.dumps(rows))
    elif options.quiet:
        print("".join(f"{state.id}\n" for state, _ in found), end="")
    else:
        print(f"{'ID':<24} {'PID':<8} {'STATUS':<10} {'BUNDLE':<40} CREATED")
        for state, record in found:
            print(
                f"{state.id:<24} {record['pid']:<8} {record['status']:<10} "
                f"{state.bundle:<40} {state.created}"
            )


def _write_spec(options: argparse.Namespace) -> None:
    path = os.path.join(options.bundle, "config.json")
    if os.path.exists(path):
        raise Invalid(f"{path} exists", hint="remove it first")
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump(_example(), file, indent=4)
    os.chmod(file.name, 0o644)
    os.rename(file.name, path)


def _example() -> dict[str, Any]:
    """Return a configuration with Docker's defaults: a shell on a terminal in namespaces of its own."""
    usual = list(capabilities.names_of(capabilities.DEFAULT))
    flags = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {"bounding": usual, "effective": usual, "permitted": usual},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "wherry",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": [*flags, "mode=1777", "size=65536k"],
            },
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": flags},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*flags, "ro"]},
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": [*flags, "relatime", "ro"],
            },
        ],
        "linux": {
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "maskedPaths": list(DEFAULT_MASKED_PATHS),
            "readonlyPaths": list(DEFAULT_READONLY_PATHS),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def _features() -> dict[str, Any]:
    """Return what OCI runtime-spec 1.2, features.md, asks for."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": list(capabilities.names_of(capabilities.ALL)),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
            "seccomp": {"enabled": True},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
    }


if __name__ == "__main__":
    main()
