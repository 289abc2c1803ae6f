"""A registry's refusals in the words that Docker has for a pull or a push of a name."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from wherry.model.errors import Unauthorized, Unavailable, WherryError
from wherry.model.ids import DEFAULT_DOMAIN, Reference
from wherry.registry.auth import NoCredentials
from wherry.registry.dialling import Unreachable
from wherry.registry.faults import Missing, Refused

_WAY_OUT = (
    "without a registry: `wherry image bootstrap busybox` or `wherry image bootstrap"
    " debian:bookworm-slim` makes a base image from the distribution's packages"
)
# buildx, which Docker Compose has within it, fetches BuildKit where an engine does not speak its API.
_BUILDKIT = "moby/buildkit"
_WITHOUT_BUILDKIT = (
    "this engine builds without BuildKit: set DOCKER_BUILDKIT=0 for docker build and docker compose, or"
    " use `wherry build`"
)


@contextmanager
def said(
    reference: Reference, *, pushing: bool = False, anonymous: bool = False
) -> Generator[None]:
    """Turn what a registry refuses inside the block into errors that name `reference`.

    `anonymous`: there were no credentials to show.
    """
    try:
        with _named(reference, pushing=pushing, anonymous=anonymous):
            yield
    except WherryError as error:
        # Whatever stood in the way, a proxy's 403 too: the way out is not to want it.
        if reference.familiar_repository == _BUILDKIT and not pushing:
            error.hint = _WITHOUT_BUILDKIT
        raise


@contextmanager
def _named(reference: Reference, *, pushing: bool, anonymous: bool) -> Generator[None]:
    name = reference.familiar
    try:
        yield
    except Refused as error:
        if error.code == "DENIED" or (error.status == 403 and not pushing):
            if pushing:
                raise Unauthorized(error.message) from error
            raise _denied(reference, error.message) from error
        if error.denied and anonymous and not pushing:
            raise _denied(reference, error.message) from error
        if error.missing and not error.denied and not pushing:
            if error.code == "NAME_UNKNOWN":
                repository = reference.familiar_repository
                raise Missing(f"repository {repository} not found: {error.message}") from error
            if error.code == "BLOB_UNKNOWN":
                raise Missing(f"part of {name} not found: {error.message}") from error
            raise Missing(f"manifest for {name} not found: {error.message}") from error
        raise error.as_kind() from error
    except Unreachable as error:
        if reference.domain != DEFAULT_DOMAIN:
            raise
        raise Unavailable(error.message, hint=_WAY_OUT) from error
    except NoCredentials as error:
        # Not a 401: Docker's client would ask for a password then, whoever runs it.
        raise Unavailable(
            error.message,
            hint=f"log in to {reference.domain} first: docker login {reference.domain}",
        ) from error
    except Unauthorized as error:
        if anonymous and not pushing:
            raise _denied(reference, error.message) from error
        raise


def _denied(reference: Reference, message: str) -> Missing:
    return Missing(
        f"pull access denied for {reference.familiar_repository}, repository does not exist"
        f" or may require 'docker login': {message}"
    )
