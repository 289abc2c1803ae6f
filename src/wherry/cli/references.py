"""Image names as the API's routes for pull, push, tag and commit want them."""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.model.errors import Invalid
from wherry.model.ids import Reference


def parse_reference(text: str) -> Reference:
    """Return the reference. Raises Failure with Docker's words."""
    try:
        return Reference.parse(text)
    except Invalid as error:
        message = error.message
        if "must be lowercase" not in message:
            message = "invalid reference format"
        raise Failure(message) from None


def pull_query(text: str) -> dict[str, str]:
    """Return `fromImage` and `tag` of `POST /images/create`; no tag means latest."""
    reference = parse_reference(text).with_default_tag()
    tag = str(reference.digest) if reference.digest else reference.tag
    return {"fromImage": reference.repository, "tag": tag}


def target_query(text: str) -> dict[str, str]:
    """Return `repo` and `tag` of a new name; no tag leaves it to the engine."""
    reference = parse_reference(text)
    if reference.digest:
        raise Failure(f"refusing to create a tag with a digest reference: {text}")
    return {"repo": reference.repository, "tag": reference.tag or "latest"}
