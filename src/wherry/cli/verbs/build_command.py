"""`wherry build`: its flags. What builds is imported when something is built: it takes 30 ms to load."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _build(session: Session, options: Options, arguments: list[str]) -> int:
    from wherry.cli.verbs.build import run_build

    return run_build(session, options, arguments)


def _many(name: str, kind: str, text: str, **more: Any) -> Flag:
    return Flag(name, kind, text, many=True, label=more.pop("label", "stringArray"), **more)


BUILD = Command(
    _build,
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    (
        _many("add-host", "host", 'Add a custom host-to-IP mapping (format: "host:ip")'),
        _many("allow", "string", 'Allow extra privileges ("network.host", "security.insecure")'),
        _many("annotation", "string", "Add annotation to the image"),
        _many("attest", "string", 'Attestation parameters (format: "type=sbom")'),
        _many("build-arg", "string", "Set build-time variables"),
        _many("build-context", "string", "Additional build contexts (e.g., name=path)"),
        Flag("builder", "string", "Taken and not used: there is one builder", hidden=True),
        _many("cache-from", "string", 'Cache sources ("user/app:cache", "type=local,src=dir")'),
        _many("cache-to", "string", 'Cache destinations ("user/app:cache", "type=local,dest=dir")'),
        Flag(
            "call",
            "string",
            'What to do with the build ("build", "check", "outline", "targets")',
            default="build",
        ),
        Flag("cgroup-parent", "string", 'Set the parent cgroup for the "RUN" instructions'),
        Flag("check", "bool", 'Shorthand for "--call=check"'),
        Flag("compress", "bool", "Taken and not used", hidden=True),
        Flag("cpu-period", "int", "Limit the CPU CFS period of RUN (microseconds)"),
        Flag("cpu-quota", "int", "Limit the CPU CFS quota of RUN (microseconds)"),
        Flag("cpu-shares", "int", "CPU shares of RUN (relative weight)", short="c"),
        Flag("cpus", "decimal", "Number of CPUs of RUN"),
        Flag("cpuset-cpus", "string", "CPUs in which RUN may execute (0-3, 0,1)"),
        Flag("cpuset-mems", "string", "MEMs in which RUN may execute (0-3, 0,1)"),
        Flag("disable-content-trust", "bool", "Taken and not used", default=True, hidden=True),
        Flag("file", "string", 'Name of the Dockerfile (default: "PATH/Dockerfile")', short="f"),
        Flag("force-rm", "bool", "Taken and not used: no container is kept", hidden=True),
        Flag("iidfile", "string", "Write the image ID to a file"),
        Flag("isolation", "string", "Taken and not used", hidden=True),
        _many("label", "label", "Set metadata for an image"),
        Flag("load", "bool", 'Shorthand for "--output=type=docker"'),
        Flag("memory", "bytes", "Memory limit of RUN", short="m"),
        Flag(
            "memory-swap", "swap", "Memory plus swap limit of RUN; -1 is unlimited", label="bytes"
        ),
        Flag("metadata-file", "string", "Write build result metadata to a file"),
        Flag("network", "string", 'Networking of the "RUN" instructions', default="default"),
        Flag("no-cache", "bool", "Do not use cache when building the image"),
        _many("no-cache-filter", "string", "Do not cache specified stages"),
        _many("output", "string", 'Output destination ("type=local,dest=path")', short="o"),
        Flag("pids-limit", "int", "Processes that RUN may have at once"),
        _many("platform", "string", "Set target platform for build"),
        Flag(
            "progress",
            "string",
            'Type of progress output ("auto", "none", "plain", "quiet", "rawjson", "tty")',
            default="",
        ),
        Flag("provenance", "string", 'Shorthand for "--attest=type=provenance"'),
        Flag("pull", "bool", "Always attempt to pull all referenced images"),
        Flag("push", "bool", 'Shorthand for "--output=type=registry"'),
        Flag("quiet", "bool", "Suppress the build output and print image ID", short="q"),
        Flag("rm", "bool", "Taken and not used: no container is kept", default=True, hidden=True),
        Flag("sbom", "string", 'Shorthand for "--attest=type=sbom"'),
        _many("secret", "string", 'Secret of the build ("id=mysecret[,src=/local/secret]")'),
        _many("security-opt", "string", "Security options of RUN", label="strings"),
        Flag("shm-size", "bytes", "Shared memory size for build containers"),
        Flag("squash", "bool", "Squash newly built layers into a single new layer"),
        _many("ssh", "string", 'SSH agent or keys of the build ("default|<id>[=<socket>|<key>]")'),
        _many("tag", "string", 'Name and optionally a tag (format: "name:tag")', short="t"),
        Flag("target", "string", "Set the target build stage to build"),
        _many("ulimit", "ulimit", "Ulimit options", label="ulimit"),
    ),
    least=1,
    most=1,
)
