"""The cases by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable

from bench.cases.answers import Answers
from bench.cases.archives import Archives
from bench.cases.case import Case, Settings
from bench.cases.fleet import Fleet, Memory
from bench.cases.lifecycle import ApiCycle, CliRun, Exec, Stop
from bench.cases.logs import LogsRead, LogsWrite
from bench.cases.names import Names
from bench.cases.networks import NETWORK_CASES
from bench.cases.registry import PullPush
from bench.cases.streams import Cat

CASES: dict[str, Callable[[Settings], Case]] = {
    "memory": Memory,
    "answers": Answers,
    "api-cycle": ApiCycle,
    "cli-run": CliRun,
    "exec": Exec,
    "stop": Stop,
    "fleet": Fleet,
    "logs-write": LogsWrite,
    "logs-read": LogsRead,
    "cat": Cat,
    "archives": Archives,
    "dns": Names,
    **NETWORK_CASES,
    "pull-push": PullPush,
}
