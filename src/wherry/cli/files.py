"""Files of `NAME=value` lines: `--env-file` and `--label-file`."""

from __future__ import annotations

import os

from wherry.cli.failure import Failure


def reason(error: OSError) -> str:
    """Return an OSError in Go's words: `open /x: no such file or directory`."""
    text = (error.strerror or str(error)).lower()
    return f"open {error.filename}: {text}"


def read_pairs(path: str, *, from_environment: bool) -> list[str]:
    """Return the file's `NAME=value` lines; a lone NAME is looked up here or dropped.

    Raises Failure (125).
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as lines:
            return _pairs(path, lines.read().split("\n"), from_environment)
    except OSError as error:
        raise Failure(reason(error), 125) from None


def _pairs(path: str, lines: list[str], from_environment: bool) -> list[str]:
    out: list[str] = []
    for line in lines:
        line = line.rstrip("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name:
            raise Failure(f"invalid env file ({path}): no variable name on line '{line}'", 125)
        if any(c.isspace() for c in name):
            raise Failure(f"invalid env file ({path}): variable '{name}' contains whitespaces", 125)
        if equals:
            out.append(f"{name}={value}")
        elif from_environment and name in os.environ:
            out.append(f"{name}={os.environ[name]}")
    return out


def pairs_to_map(pairs: list[str]) -> dict[str, str]:
    """Return `name=value` texts as a dictionary; the last of a name wins, no `=` is empty."""
    out: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        out[name] = value
    return out
