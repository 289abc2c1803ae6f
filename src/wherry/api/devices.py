"""Block devices by path and by number, for `--device-read-bps` and its like."""

from __future__ import annotations

import os
import stat

from wherry.model.errors import Invalid


def number_of(path: str) -> tuple[int, int]:
    """Return major and minor of the device at `path` on the host. Raises Invalid."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise Invalid(f"stat {path}: {reason.lower()}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise Invalid(f"{path} is no block device")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


def path_of(major: int, minor: int) -> str:
    """Return a path of the block device with these numbers: /dev/NAME where sysfs knows its name."""
    try:
        with open(f"/sys/dev/block/{major}:{minor}/uevent") as lines:
            for line in lines:
                name, _, value = line.strip().partition("=")
                if name == "DEVNAME":
                    return f"/dev/{value}"
    except OSError:
        pass
    return f"/dev/block/{major}:{minor}"
