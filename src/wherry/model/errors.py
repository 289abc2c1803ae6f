"""What can go wrong, as a handful of kinds.

An error names its kind (the class), its subject (the culprit) and a hint (the way out).
One table maps a kind to an HTTP status (`api.status`), one to an exit code (`cli.exits`);
a test proves both complete over `KINDS`.
"""

from __future__ import annotations


class WherryError(Exception):
    """An error a user can act on: `message` names the culprit, `hint` the way out."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Invalid(WherryError):
    """The request itself is wrong: malformed, out of range, or contradictory."""


class Forbidden(WherryError):
    """Understood, and refused."""


class Unauthorized(Forbidden):
    """Refused for want of credentials that fit."""


class NotFound(WherryError):
    """The thing named does not exist. The message is Docker's: `No such container: web`."""

    def __init__(self, noun: str, name: str, *, hint: str = "") -> None:
        super().__init__(f"No such {noun}: {name}", hint=hint)
        self.noun = noun
        self.name = name


class Conflict(WherryError):
    """The request is fine, the present state of its subject is not."""


class Unsupported(WherryError):
    """Not in this version, or not on this machine; the message says which, the hint why."""


class Unavailable(WherryError):
    """A part that the request needs is not reachable now; trying again may help."""


class TooManyRequests(Unavailable):
    """Another asks us to come back later."""


class Full(WherryError):
    """No space, no ids, no descriptors left: what ran out is in the message."""


class StartFailed(WherryError):
    """A container's process could not be started.

    `exit_code` is what Docker answers: 127 for a command that was not found, 126 for one that
    cannot be executed, 128 otherwise. `step` is the plan's step that failed, `errno` its error.
    """

    def __init__(
        self, message: str, *, exit_code: int = 128, step: str = "", errno: int = 0, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.step = step
        self.errno = errno


class Internal(WherryError):
    """A defect of wherry's own: what was expected and what was found."""


KINDS: tuple[type[WherryError], ...] = (
    Invalid,
    Forbidden,
    NotFound,
    Conflict,
    Unsupported,
    Unavailable,
    Full,
    StartFailed,
    Internal,
)
