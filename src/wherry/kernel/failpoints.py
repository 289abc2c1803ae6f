"""Named places where a test makes the process fail: `failpoint("content.before-rename")`.

WHERRY_FAILPOINTS lists `name=action` pairs separated by commas. Actions: `kill` (SIGKILL to
itself, as a crash), `kill:3` (the third time that the place is passed), `exit` (leave at once with
status 70), `error:ENOSPC` (OSError with that errno). With nothing listed a failpoint costs one look at
an empty table.
"""

from __future__ import annotations

import errno
import os
import re
import signal

from wherry.model.errors import Invalid

_EXIT_STATUS = 70
_active: dict[str, str] = {}


def failpoint(name: str) -> None:
    """Do what is configured for `name`: nothing, fail, or end the process."""
    if not _active:
        return
    action = _active.get(name)
    if action is None:
        return
    if action.startswith("kill:") and action != "kill:1":
        _active[name] = f"kill:{int(action.removeprefix('kill:')) - 1}"
        return
    if action.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "exit":
        os._exit(_EXIT_STATUS)
    code = getattr(errno, action.removeprefix("error:"))
    raise OSError(code, f"{os.strerror(code)} (failpoint {name})")


def configure(text: str) -> None:
    """Replace the active failpoints by those that `text` lists; raise Invalid for a bad action."""
    wanted: dict[str, str] = {}
    for item in filter(None, text.split(",")):
        name, _, action = item.partition("=")
        code = action.removeprefix("error:")
        known = action in ("kill", "exit") or (code != action and hasattr(errno, code))
        known = known or re.fullmatch(r"kill:[1-9][0-9]{0,8}", action) is not None
        if not name or not known:
            raise Invalid(f"invalid failpoint: {item!r}", hint="name=kill|kill:N|exit|error:ERRNO")
        wanted[name] = action
    _active.clear()
    _active.update(wanted)


configure(os.environ.get("WHERRY_FAILPOINTS", ""))
