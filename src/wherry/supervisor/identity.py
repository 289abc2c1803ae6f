"""Who this engine is: an id made once per data root, and the name of its cgroups that follows from it."""

from __future__ import annotations

import os
import re

from wherry.model.errors import Invalid

_FILE = "engine-id"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def engine_id(data_root: str) -> str:
    """Return the engine's id, a UUID kept in the data root; made when there is none.

    Raises Invalid for a file with something else: the engine's cgroups are named by it, and what is
    found below that name is taken for its own.
    """
    path = os.path.join(data_root, _FILE)
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="ascii") as file:
        file.write(f"{_random_uuid()}\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    os.unlink(fresh)
    return _read(path)


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        found = file.read(64).strip()
    if not _UUID.fullmatch(found):
        raise Invalid(
            f"{path} does not hold a UUID: {found!r}", hint="remove it; a new one is made"
        )
    return found


def cgroup_parent(data_root: str) -> str:
    """Return the cgroup below which all of this engine's are, in every hierarchy: `wherry/1b9d6bcd`."""
    return f"wherry/{engine_id(data_root).partition('-')[0]}"


def _random_uuid() -> str:
    with open("/proc/sys/kernel/random/uuid", encoding="ascii") as file:
        return file.read().strip()
