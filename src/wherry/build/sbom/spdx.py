"""Packages as an SPDX 2.3 document. Pure: the same packages and time give the same bytes.

Source: SPDX Specification 2.3, clauses 6, 7, 11.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from wherry import __version__
from wherry.build.sbom.packages import Package
from wherry.build.statements import Attestation
from wherry.model.ids import Digest
from wherry.model.moments import render_rfc3339

PREDICATE = "https://spdx.dev/Document"
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*(?: (?:AND|OR|WITH) [A-Za-z0-9][A-Za-z0-9.+-]*)*")
_WRONG = re.compile(r"[^A-Za-z0-9.-]+")
_BILLION = 10**9


def bill(packages: Sequence[Package], name: str, epoch: int) -> Attestation:
    """Return the attestation; `epoch` (seconds) is the time that it says it was made at."""
    identifiers = [_identifier(number, one) for number, one in enumerate(packages)]
    urls = "\n".join(f"{one.url} {one.found_in}" for one in packages)
    document: dict[str, object] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://wherry.invalid/sbom/{Digest.of(f'{name} {urls}'.encode()).hex}",
        "creationInfo": {
            "creators": [f"Tool: wherry-{__version__}"],
            "created": render_rfc3339(epoch * _BILLION),
        },
        "packages": [
            _package(one, identifier) for one, identifier in zip(packages, identifiers, strict=True)
        ],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relatedSpdxElement": identifier,
                "relationshipType": "DESCRIBES",
            }
            for identifier in identifiers
        ],
    }
    return Attestation(PREDICATE, document, "sbom.spdx.json")


def _identifier(number: int, package: Package) -> str:
    words = _WRONG.sub("-", f"{package.kind}-{package.name}-{package.version}")[:120]
    return f"SPDXRef-Package-{number}-{words}"


def _package(package: Package, identifier: str) -> dict[str, object]:
    licence = package.licence if _LICENCE.fullmatch(package.licence) else "NOASSERTION"
    wire: dict[str, object] = {
        "name": f"{package.namespace}/{package.name}"
        if package.kind in ("npm", "golang") and package.namespace
        else package.name,
        "SPDXID": identifier,
        "versionInfo": package.version,
        "supplier": f"Person: {package.supplier}" if package.supplier else "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "sourceInfo": f"acquired from {package.found_in}",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.url,
            }
        ],
    }
    if package.homepage:
        wire["homepage"] = package.homepage
    if not package.version:
        del wire["versionInfo"]
    return wire
