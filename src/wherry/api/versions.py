"""API versions: what is spoken, and how a request names one (`/v1.41/containers/json`)."""

from __future__ import annotations

from wherry.model.errors import Invalid

Version = tuple[int, int]
OLDEST: Version = (1, 24)
CURRENT: Version = (1, 51)
_LONGEST = 16
_DIGITS = frozenset("0123456789")


class TooOld(Invalid):
    """A version below OLDEST; Docker answers it as plain text, since such clients know no JSON errors."""


def render_version(version: Version) -> str:
    """Return `1.51`."""
    return f"{version[0]}.{version[1]}"


def split_version(path: str) -> tuple[str | None, str]:
    """Return the version prefix of `path` (None where there is none) and the rest."""
    if path[:2] == "/v" and path[2:3].isdigit():
        version, slash, rest = path[2:].partition("/")
        if slash and len(version) <= _LONGEST and _DIGITS.issuperset(version.replace(".", "")):
            return version, f"/{rest}"
    return None, path


def check_version(text: str) -> Version:
    """Return the version that `text` writes. Raises Invalid with Docker's words when it is not spoken."""
    major, _, minor = text.partition(".")
    minor = minor.partition(".")[0]
    version = (int(major or 0), int(minor or 0))
    if version > CURRENT:
        raise Invalid(
            f"client version {text} is too new."
            f" Maximum supported API version is {render_version(CURRENT)}"
        )
    if version < OLDEST:
        raise TooOld(
            f"client version {text} is too old. Minimum supported API version is"
            f" {render_version(OLDEST)}, please upgrade your client to a newer version"
        )
    return version
