"""`wherry logs`."""

from __future__ import annotations

import sys

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.moments import query_time
from wherry.cli.session import Session
from wherry.cli.stream import write_stream
from wherry.client.engine import segment

_RAW_STREAM = "application/vnd.docker.raw-stream"
_FRAMES = "application/vnd.docker.multiplexed-stream"


def _logs(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"stdout": "1", "stderr": "1", "tail": options.text("tail")}
    for flag in ("since", "until"):
        if options.text(flag):
            query[flag] = query_time(options.text(flag), flag)
    for flag in ("follow", "timestamps", "details"):
        if options.on(flag):
            query[flag] = "1"
    name = segment(arguments[0])
    response = session.engine.open("GET", f"/containers/{name}/logs", query)
    media = response.headers.get("content-type", "")
    if media == _FRAMES:
        frames = True
    elif media == _RAW_STREAM:
        frames = False
    else:
        # Engines before 1.42 do not say which it is.
        facts = session.another_engine().get(f"/containers/{name}/json")
        frames = not facts["Config"]["Tty"]
    sys.stdout.flush()
    write_stream(response.pieces(), frames)
    return 0


LOGS = Command(
    _logs,
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    (
        Flag("details", "bool", "Show extra details provided to logs"),
        Flag("follow", "bool", "Follow log output", short="f"),
        Flag(
            "since",
            "string",
            'Show logs since timestamp ("2013-01-02T13:23:37Z") or relative ("42m")',
        ),
        Flag(
            "tail",
            "string",
            "Number of lines to show from the end of the logs",
            short="n",
            default="all",
        ),
        Flag("timestamps", "bool", "Show timestamps", short="t"),
        Flag(
            "until",
            "string",
            'Show logs before a timestamp ("2013-01-02T13:23:37Z") or relative ("42m")',
        ),
    ),
    least=1,
    most=1,
)
