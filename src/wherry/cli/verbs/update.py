"""`wherry update`."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.hostconfig import update_body
from wherry.cli.session import Session
from wherry.cli.verbs.lifecycle import for_each
from wherry.client.engine import segment
from wherry.client.wire import many


def _update(session: Session, options: Options, arguments: list[str]) -> int:
    if not options.values:
        raise Failure("you must provide one or more flags when using this command")
    try:
        body = update_body(options)
    except Failure as failure:
        raise Failure(failure.text) from None
    warnings: list[str] = []

    def act(name: str) -> str:
        answer = session.engine.call("POST", f"/containers/{segment(name)}/update", None, body)
        warnings.extend(many(answer or {}, "Warnings"))
        return name

    code = for_each(session, arguments, act)
    for warning in warnings:
        session.line(warning)
    return code


UPDATE = Command(
    _update,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    (
        Flag("blkio-weight", "uint16", "Block IO weight, 10 to 1000, or 0 to disable"),
        Flag("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
        Flag("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
        Flag("cpu-rt-period", "int", "Limit the CPU real-time period in microseconds"),
        Flag("cpu-rt-runtime", "int", "Limit the CPU real-time runtime in microseconds"),
        Flag("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
        Flag("cpus", "decimal", "Number of CPUs"),
        Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
        Flag("cpuset-mems", "string", "Memory nodes in which to allow execution (0-3, 0,1)"),
        Flag("memory", "bytes", "Memory limit", short="m"),
        Flag("memory-reservation", "bytes", "Memory soft limit"),
        Flag("memory-swap", "swap", "Memory plus swap limit; -1 is unlimited", label="bytes"),
        Flag("kernel-memory", "bytes", "Kernel memory limit", hidden=True),
        Flag("pids-limit", "int", "Tune the pids limit (-1 is unlimited)"),
        Flag("restart", "string", "Restart policy to apply when a container exits"),
    ),
    least=1,
)
