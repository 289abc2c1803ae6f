"""Credentials of registries as Docker's command line keeps them, and shares with it.

The client's config.json has them itself (`auths`, base64 and no more), or names programs that keep
them (`credHelpers` by registry, `credsStore` for the rest).
Source: docs.docker.com, "docker login", "Credential stores"; docker-credential-helpers' protocol.
"""

from __future__ import annotations

from wherry.cli.failure import Failure
from wherry.client import wire
from wherry.model.ids import DEFAULT_DOMAIN, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.configuration import Configuration

    Object = dict[str, Any]

HUB = "https://index.docker.io/v1/"
_NONE_KEPT = "credentials not found"
_HELPER_SECONDS = 60
# What a helper answers for a user name where the secret is an identity token.
_TOKEN_USER = "<token>"


def server_of(reference: Reference) -> str:
    """Return the name under which the credentials for an image's registry are kept."""
    return HUB if reference.domain == DEFAULT_DOMAIN else reference.domain


def server_named(text: str) -> str:
    """Return the same for what was given to login: a host, perhaps as a URL."""
    if not text:
        return HUB
    host = text.partition("://")[2] or text
    host = host.rstrip("/")
    if host in ("docker.io", "index.docker.io", "index.docker.io/v1", "registry-1.docker.io"):
        return HUB
    return host.partition("/")[0]


def header_for(configuration: Configuration, server: str) -> dict[str, str]:
    """Return X-Registry-Auth with what is kept for `server`; an empty object where nothing is."""
    from base64 import urlsafe_b64encode

    text = wire.encode(Store(configuration).get(server))
    return {"X-Registry-Auth": urlsafe_b64encode(text.encode()).decode()}


def all_headers(configuration: Configuration) -> dict[str, str]:
    """Return X-Registry-Config with what is kept for every registry; nothing where nothing is."""
    found = Store(configuration).all()
    if not found:
        return {}
    from base64 import urlsafe_b64encode

    return {"X-Registry-Config": urlsafe_b64encode(wire.encode(found).encode()).decode()}


class Store:
    """The configuration file and the helpers that it names."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def helper(self, server: str) -> str:
        """Return the name of the program that keeps `server`'s credentials, or ""."""
        helpers: Object = self._configuration.table("credHelpers")
        name = helpers.get(server) or self._configuration.text("credsStore")
        return name if isinstance(name, str) else ""

    def get(self, server: str) -> Object:
        """Return an AuthConfig for `server`, empty where there is nothing."""
        helper = self.helper(server)
        if helper:
            return _from_helper(helper, server)
        auths: Object = self._configuration.table("auths")
        kept = auths.get(server)
        if kept is None:
            kept = next((auths[key] for key in auths if server_named(key) == server), None)
        return _decoded(kept, server) if isinstance(kept, dict) else {}  # pyright: ignore

    def all(self) -> Object:
        """Return an AuthConfig for every registry that is logged in to."""
        found: Object = {}
        for server in {
            **self._configuration.table("auths"),
            **self._configuration.table("credHelpers"),
        }:
            try:
                found[server] = self.get(server_named(server))
            except Failure:
                # A helper that fails keeps nobody from building without it.
                continue
        return {server: entry for server, entry in found.items() if entry}

    def plain(self) -> Object:
        """Return the same as `auths` of a config.json that names no helper."""
        from base64 import b64encode

        found: Object = {}
        for server, entry in self.all().items():
            text = f"{entry.get('username', '')}:{entry.get('password', '')}"
            found[server] = {"auth": b64encode(text.encode()).decode()}
            if entry.get("identitytoken"):
                found[server]["identitytoken"] = entry["identitytoken"]
        return found

    def keep(self, server: str, username: str, password: str, token: str) -> str:
        """Keep credentials; return the path of the file where they lie open, or "" with a helper."""
        helper = self.helper(server)
        secret = token or password
        if helper:
            user = _TOKEN_USER if token else username
            entry = {"ServerURL": server, "Username": user, "Secret": secret}
            _run(helper, "store", wire.encode(entry))
            self._configuration.table("auths")[server] = {}
            self._configuration.write()
            return ""
        from base64 import b64encode

        entry: Object = {"auth": b64encode(f"{username}:{password}".encode()).decode()}
        if token:
            entry = {"auth": b64encode(f"{username}:".encode()).decode(), "identitytoken": token}
        self._configuration.table("auths")[server] = entry
        self._configuration.write()
        return self._configuration.path

    def forget(self, server: str) -> bool:
        """Remove credentials; return whether there were any."""
        auths: Object = self._configuration.table("auths")
        helper = self.helper(server)
        there = any(server_named(key) == server for key in auths)
        if helper:
            there = bool(_from_helper(helper, server)) or there
            _run(helper, "erase", server)
        for key in [key for key in auths if server_named(key) == server]:
            del auths[key]
        if there:
            self._configuration.write()
        return there


def _decoded(kept: Object, server: str) -> Object:
    from base64 import b64decode

    def said(name: str) -> str:
        value = kept.get(name)
        return value if isinstance(value, str) else ""

    try:
        text = b64decode(said("auth")).decode()
    except ValueError:
        text = ""
    username, _, password = text.partition(":")
    found = {
        "username": said("username") or username,
        "password": said("password") or password.rstrip("\0"),
        "identitytoken": said("identitytoken"),
        "registrytoken": said("registrytoken"),
    }
    found = {name: value for name, value in found.items() if value}
    return {**found, "serveraddress": server} if found else {}


def _from_helper(helper: str, server: str) -> Object:
    answer = _run(helper, "get", server, missing_is_fine=True)
    if not answer:
        return {}
    try:
        entry: Object = wire.decode(answer.encode())
        username, secret = entry.get("Username", ""), entry.get("Secret", "")
    except (ValueError, AttributeError):
        raise Failure(f"docker-credential-{helper} get: the answer is no JSON object") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise Failure(f"docker-credential-{helper} get: Username or Secret is no text")
    if username == _TOKEN_USER:
        return {"identitytoken": secret, "serveraddress": server}
    return {"username": username, "password": secret, "serveraddress": server}


def _run(helper: str, verb: str, text: str, *, missing_is_fine: bool = False) -> str:
    import subprocess

    if "/" in helper:
        raise Failure(f"{helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb],
            input=text.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise Failure(f"{program} is not on PATH, and the configuration names it") from None
    except OSError as error:
        raise Failure(f"{program} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{program} {verb} took longer than {_HELPER_SECONDS} seconds") from None
    out = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        if missing_is_fine and _NONE_KEPT in out:
            return ""
        problem = out or done.stderr.decode(errors="replace").strip()
        raise Failure(f"{program} {verb}: {problem or f'ended with {done.returncode}'}")
    return out
