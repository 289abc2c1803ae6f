"""Standard error that never fails: what a process has to say may be written to a disk that is full."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Saying:
    """Stands where a text stream does, for print and traceback."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def never_fail() -> None:
    """Make `sys.stderr` such a stream: ENOSPC in a print is not to end who cannot be done without."""
    stream: Any = _Saying()
    sys.stderr = stream
