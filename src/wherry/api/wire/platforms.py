"""The JSON platform of `GET /images/{name}/json?platform={"os":"linux","architecture":"arm64"}`."""

from __future__ import annotations

from typing import cast

import msgspec

from wherry.model.errors import Invalid
from wherry.model.images import Image, Platform, WrongPlatform


def parse_json_platform(text: str) -> Platform:
    """Return the platform that `text` writes as JSON. Raises Invalid with Docker's words."""
    try:
        raw = cast(object, msgspec.json.decode(text.encode()))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"failed to parse platform: {error}") from None
    if not isinstance(raw, dict):
        raise Invalid("failed to parse platform: it is no object")
    fields = cast(dict[str, object], raw)
    parts = [str(fields.get(name) or "") for name in ("os", "architecture", "variant")]
    if not (parts[0] and parts[1]):
        raise Invalid("both OS and Architecture must be provided")
    return Platform(*parts)


def check_made_for(image: Image, ref: str, wanted: Platform) -> None:
    """Raise WrongPlatform where `image`, asked for as `ref`, is made for another platform."""
    if not image.platform.serves(wanted):
        raise WrongPlatform(ref, image.platform, wanted)
