"""Addresses as users write them where a file may be meant as well."""

from __future__ import annotations


def is_web(text: str) -> bool:
    """Whether `text` is a URL that is fetched by HTTP. A scheme in capitals is none, as for Docker."""
    return text.startswith(("http://", "https://"))
