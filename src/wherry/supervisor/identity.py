"""Who this engine is: an id made once per data root, and the name of its cgroups that follows from it."""

from __future__ import annotations

import os

_FILE = "engine-id"


def engine_id(data_root: str) -> str:
    """Return the engine's id, a UUID kept in the data root; made when there is none."""
    path = os.path.join(data_root, _FILE)
    try:
        with open(path, encoding="ascii") as file:
            found = file.read().strip()
        if found:
            return found
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
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def cgroup_parent(data_root: str) -> str:
    """Return the cgroup below which all of this engine's are, in every hierarchy: `wherry/1b9d6bcd`."""
    return f"wherry/{engine_id(data_root).partition('-')[0]}"


def _random_uuid() -> str:
    with open("/proc/sys/kernel/random/uuid", encoding="ascii") as file:
        return file.read().strip()
