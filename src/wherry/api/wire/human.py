"""Commands in the words that `docker ps` shows; Docker's server renders them, not its client."""

from __future__ import annotations

from collections.abc import Sequence


def render_command(argv: Sequence[str]) -> str:
    """Return a command on one line; words with spaces are quoted."""
    return " ".join(f"'{word}'" if " " in word else word for word in argv)
