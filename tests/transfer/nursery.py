"""Forks a process for each pull that it is told to do, so that killing one costs no interpreter's start.

Reads lines `pull FOLDER NAME` or `push FOLDER NAME`, with failpoints as a fourth word or without; answers
with the process's id, and later with `end CODE`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.transfer.stores import Stores
from wherry.kernel import failpoints


def main() -> None:
    """Serve until standard input ends."""
    for line in sys.stdin:
        verb, folder, name, *points = line.split()
        pid = os.fork()
        if not pid:
            failpoints.configure(",".join(points))
            work(verb, folder, name)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print("end", os.waitstatus_to_exitcode(status), flush=True)


def work(verb: str, folder: str, name: str) -> None:
    """Do it and exit."""
    try:
        stores = Stores(Path(folder))
        (stores.pull if verb == "pull" else stores.push)(name)
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
