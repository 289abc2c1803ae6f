"""From a registry's name to its endpoints: mirrors first, by daemon.json and by folders of hosts.

A folder has, for each HOST or HOST:PORT, `hosts.toml` as containerd reads it (containerd's
docs/hosts.md), or Docker's `*.crt` authorities and `*.cert` with `*.key` (docs.docker.com,
"Verify repository client with certificates").
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from wherry.model.containers import Pairs
from wherry.model.errors import Invalid
from wherry.model.ids import DEFAULT_DOMAIN
from wherry.registry.endpoints import (
    Endpoint,
    Origin,
    RegistrySettings,
    Trust,
    is_insecure,
    is_loopback,
)

_HUB = "registry-1.docker.io"
_LARGEST_FILE = 1 << 20
_CAPABILITIES = ("pull", "resolve", "push")


def find_endpoints(domain: str, settings: RegistrySettings) -> list[Endpoint]:
    """Return the ways to `domain` in the order to try them, the registry itself last.

    A registry that may be insecure is there twice, with and without TLS. Raises Invalid, naming the
    file, for a malformed configuration.
    """
    folder = _folder_of(domain, settings.folders)
    if folder is not None and (folder / "hosts.toml").is_file():
        return _from_toml(domain, folder, settings)
    trust = _folder_trust(folder) if folder is not None else Trust()
    found: list[Endpoint] = []
    if domain == DEFAULT_DOMAIN:
        for mirror in settings.mirrors:
            found += _mirror(mirror, settings)
    return found + _own(domain, trust, settings)


def _own(domain: str, trust: Trust, settings: RegistrySettings) -> list[Endpoint]:
    host = _HUB if domain == DEFAULT_DOMAIN else domain
    secure = Origin.parse(f"https://{host}")
    port = secure.port if ":" in host.rpartition("]")[2] else None
    plain = replace(secure, scheme="http", port=80 if port is None else port)
    if is_insecure(secure.host, port, settings.insecure):
        return [Endpoint(secure, trust=replace(trust, verify=False)), Endpoint(plain)]
    if is_loopback(secure.host):
        # As Docker, which takes 127.0.0.0/8 for insecure; without TLS first, since that is what
        # runs there, and loading TLS costs 3 MB.
        explicit = bool(trust.authorities or trust.certificates)
        ways = [
            Endpoint(plain),
            Endpoint(secure, trust=replace(trust, verify=bool(trust.authorities))),
        ]
        return ways[1:] if explicit else ways
    return [Endpoint(secure, trust=trust)]


def _mirror(url: str, settings: RegistrySettings) -> list[Endpoint]:
    origin = Origin.parse(url if "://" in url else f"https://{url}")
    name = origin.authority
    folder = _folder_of(name, settings.folders)
    trust = _folder_trust(folder) if folder is not None else Trust()
    if is_insecure(origin.host, origin.port, settings.insecure) or is_loopback(origin.host):
        trust = replace(trust, verify=bool(trust.authorities))
    path = "/" + url.partition("://")[2].partition("/")[2].strip("/")
    path = "/v2" if path == "/" else f"{path}/v2"
    return [Endpoint(origin, path, trust, mirror=True, push=False)]


_LONGEST = 253
"""Characters of a host's name (RFC 1035); a folder's has 255 bytes at most."""


def _folder_of(domain: str, folders: Sequence[Path]) -> Path | None:
    """Return the folder of the host; containerd writes a port as `_PORT_` too, and `_default` for any."""
    if "/" in domain or domain in ("", ".", "..") or len(domain) > _LONGEST:
        return None
    host, colon, port = domain.rpartition(":")
    names = [domain, f"{host}_{port}_"] if colon else [domain]
    for folder in folders:
        for name in [*names, "_default"]:
            if (folder / name).is_dir():
                return folder / name
    return None


def _folder_trust(folder: Path) -> Trust:
    names = sorted(os.listdir(folder))
    certificates: list[tuple[str, str]] = []
    for name in names:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            if key not in names:
                raise Invalid(
                    f"missing key {key} for client certificate {name} in {folder}",
                    hint="CA certificates have the extension .crt",
                )
            certificates.append((str(folder / name), str(folder / key)))
    authorities = tuple(str(folder / name) for name in names if name.endswith(".crt"))
    return Trust(True, authorities, tuple(certificates))


def _from_toml(domain: str, folder: Path, settings: RegistrySettings) -> list[Endpoint]:
    path = folder / "hosts.toml"
    import tomllib

    try:
        with path.open("rb") as file:
            document: dict[str, object] = tomllib.loads(file.read(_LARGEST_FILE).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}") from None
    hosts = document.get("host", {})
    if not isinstance(hosts, dict):
        raise Invalid(f"{path}: `host` is no table")
    found: list[Endpoint] = []
    for url, entry in cast(dict[str, object], hosts).items():
        if not isinstance(entry, dict):
            raise Invalid(f"{path}: host {url!r} is no table")
        table = cast(dict[str, object], entry)
        found.append(_toml_endpoint(url, table, folder, path, mirror_of=domain))
    server = document.get("server")
    if isinstance(server, str) and server:
        own = {key: value for key, value in document.items() if key not in ("host", "server")}
        found.append(_toml_endpoint(server, own, folder, path, mirror_of=""))
    else:
        found += _own(domain, Trust(), settings)
    return found


def _toml_endpoint(
    url: str, table: Mapping[str, object], folder: Path, path: Path, *, mirror_of: str
) -> Endpoint:
    if "://" not in url:
        url = f"{'http' if is_loopback(url.partition('/')[0].rpartition(':')[0]) else 'https'}://{url}"
    origin = Origin.parse(url)
    prefix = "/" + url.partition("://")[2].partition("/")[2].strip("/")
    if table.get("override_path") is not True and not prefix.endswith("/v2"):
        prefix = prefix.rstrip("/") + "/v2"
    prefix = "" if prefix == "/" else prefix
    capabilities = _strings(table.get("capabilities", list(_CAPABILITIES)), path, "capabilities")
    if unknown := set(capabilities) - set(_CAPABILITIES) - {"referrers"}:
        raise Invalid(f"{path}: unknown capability {sorted(unknown)[0]!r}")
    trust = Trust(
        verify=table.get("skip_verify") is not True,
        authorities=tuple(str(folder / text) for text in _strings(table.get("ca", []), path, "ca")),
        certificates=_clients(table.get("client", []), folder, path),
    )
    other = bool(mirror_of) and origin.host != mirror_of.partition(":")[0]
    return Endpoint(
        origin,
        prefix,
        trust,
        _headers(table.get("header", {}), path),
        mirror=bool(mirror_of),
        pull="pull" in capabilities,
        resolve="resolve" in capabilities,
        push="push" in capabilities,
        query=f"ns={mirror_of}" if other else "",
    )


def _strings(value: object, path: Path, name: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = cast(list[object], value) if isinstance(value, list) else [None]
    if not all(isinstance(item, str) for item in items):
        raise Invalid(f"{path}: {name} is neither a string nor a list of them")
    return cast(list[str], items)


def _clients(value: object, folder: Path, path: Path) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    items = cast(list[object], value) if isinstance(value, list) else [value]
    for item in items:
        parts = _strings(item, path, "client")
        if not 1 <= len(parts) <= 2:
            raise Invalid(f"{path}: client is neither a file nor a pair of files")
        # A key that is not named, or is "", is in the certificate's file.
        found.append((str(folder / parts[0]), str(folder / (parts[-1] or parts[0]))))
    return tuple(found)


def _headers(value: object, path: Path) -> Pairs:
    if not isinstance(value, dict):
        raise Invalid(f"{path}: header is no table")
    return tuple(
        (name, ", ".join(_strings(item, path, f"header {name}")))
        for name, item in cast(dict[str, object], value).items()
    )
