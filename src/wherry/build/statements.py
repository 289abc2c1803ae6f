"""What is attested of an image, and the in-toto statement that says it of certain subjects.

Source: in-toto Attestation Framework, Statement v0.1, which BuildKit writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from wherry.model.ids import Digest

_STATEMENT = "https://in-toto.io/Statement/v0.1"


@dataclass(frozen=True, slots=True)
class Attestation:
    """One predicate, of no subject yet."""

    predicate_type: str
    predicate: Mapping[str, object]
    file_name: str
    """What it is called where files are written out: `provenance.json`."""


def statement(
    attestation: Attestation, subjects: Iterable[tuple[str, Digest]], *, indent: int = 0
) -> bytes:
    """Return the statement's JSON."""
    wire = msgspec.json.encode(
        {
            "_type": _STATEMENT,
            "predicateType": attestation.predicate_type,
            "subject": [
                {"name": name, "digest": {digest.algorithm: digest.hex}}
                for name, digest in subjects
            ],
            "predicate": attestation.predicate,
        }
    )
    return msgspec.json.format(wire, indent=indent) if indent else wire
