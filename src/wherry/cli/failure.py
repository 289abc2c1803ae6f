"""The ways a command ends other than well, as the command line itself decides them."""

from __future__ import annotations


class Failure(Exception):
    """Say `text` on standard error, as it is, and exit with `code`."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class UsageError(Failure):
    """A flag or an argument is wrong; exits 125, as Docker's client does."""

    def __init__(self, text: str, code: int = 125) -> None:
        super().__init__(text, code)


class WantsHelp(Exception):
    """`--help` was among the flags."""
