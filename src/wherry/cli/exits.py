"""The exit code of each kind of error: 1, as Docker's client; `run` has Docker's 125, 126, 127."""

from __future__ import annotations

from wherry.model.errors import (
    Conflict,
    Forbidden,
    Full,
    Internal,
    Invalid,
    NotFound,
    StartFailed,
    Unavailable,
    Unsupported,
    WherryError,
)

EXIT_OF_KIND: dict[type[WherryError], int] = {
    Invalid: 1,
    Forbidden: 1,
    NotFound: 1,
    Conflict: 1,
    Unsupported: 1,
    Unavailable: 1,
    Full: 1,
    StartFailed: 126,
    Internal: 1,
}
NOT_RUN, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
INTERRUPTED = 130


def exit_code(error: WherryError) -> int:
    """Return the exit code for `error`, by the nearest kind it is."""
    if isinstance(error, StartFailed):
        return error.exit_code
    for kind in type(error).__mro__:
        if kind in EXIT_OF_KIND:
            return EXIT_OF_KIND[kind]
    return 1


def run_exit_code(message: str) -> int:
    """Return what `docker run` exits with when the engine refuses with `message`.

    The API has no field for it: Docker's client reads the message too.
    """
    missing = (
        "executable file not found",
        "no such file or directory",
        "system cannot find the file",
    )
    if any(words in message for words in missing):
        return NOT_FOUND
    if "permission denied" in message or "is a directory" in message:
        return NOT_EXECUTABLE
    return NOT_RUN
