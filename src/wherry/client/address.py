"""Where an engine listens: `unix:///path`, `tcp://host:port`, `ssh://user@host`, as DOCKER_HOST writes it."""

from __future__ import annotations

from wherry.model.errors import Invalid, Unsupported

DEFAULT_HOST = "unix:///run/wherry.sock"
_DEFAULT_PORT = 2375
_TLS_PORT = 2376


class Credentials:
    """Files for TLS, as paths; an empty `ca` means the system's authorities."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, *, ca: str = "", cert: str = "", key: str = "", verify: bool = True) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


class Address:
    """An engine's address. `path` is set for a unix socket, `host` and `port` for TCP and ssh.

    `credentials` make TCP a TLS connection; `command` is what ssh runs there, "" for the usual.
    """

    __slots__ = ("command", "credentials", "fault", "host", "path", "port", "ssh", "text", "user")

    def __init__(
        self,
        text: str,
        *,
        path: str = "",
        host: str = "",
        port: int = 0,
        user: str = "",
        ssh: bool = False,
    ) -> None:
        self.text = text
        self.path = path
        self.host = host
        self.port = port
        self.user = user
        self.ssh = ssh
        self.command = ""
        self.credentials: Credentials | None = None
        self.fault = ""
        """Why the last connection broke off, where something on the way knows."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.ssh:
            port = f":{self.port}" if self.port else ""
            return f"ssh://{self.user}{'@' if self.user else ''}{host}{port}"
        return f"tcp://{host}:{self.port}"


def parse_address(text: str, credentials: Credentials | None = None) -> Address:
    """Return the address that `text` writes. Raises Invalid, Unsupported for a scheme that is not here."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise Invalid(
            f"unable to parse engine host {text!r}", hint="unix:///path or tcp://host:port"
        )
    if scheme == "unix":
        if not rest:
            raise Invalid(
                f"unable to parse engine host {text!r}", hint="a socket's path is missing"
            )
        return Address(text, path=rest)
    if scheme in ("tcp", "http", "https"):
        return _parse_tcp(text, rest, credentials)
    if scheme == "ssh":
        return _parse_ssh(text, rest)
    if scheme in ("npipe", "fd"):
        raise Unsupported(f"{scheme}:// is not supported by this version: {text}")
    raise Invalid(f"unable to parse engine host {text!r}", hint=f"unknown scheme {scheme!r}")


def _parse_tcp(text: str, rest: str, credentials: Credentials | None) -> Address:
    host, port = _split(text, rest.partition("/")[0])
    if text.startswith("https:") and credentials is None:
        credentials = Credentials()
    default = _DEFAULT_PORT if credentials is None else _TLS_PORT
    address = Address(text, host=host or "127.0.0.1", port=port or default)
    address.credentials = credentials
    return address


def _parse_ssh(text: str, rest: str) -> Address:
    authority, slash, path = rest.partition("/")
    user, at, authority = authority.rpartition("@")
    if at and (not user or ":" in user):
        raise Invalid(
            f"invalid ssh connection helper: {text!r}", hint="ssh://user@host; no password in it"
        )
    host, port = _split(text, authority)
    # A leading dash would be an option of ssh: CVE-2017-1000117 was that in git.
    if not host or host.startswith("-") or user.startswith("-"):
        raise Invalid(f"unable to parse engine host {text!r}", hint="ssh://user@host")
    if slash and path:
        raise Invalid(f"unable to parse engine host {text!r}", hint="no path after an ssh host")
    return Address(text, host=host, port=port, user=user, ssh=True)


def _split(text: str, authority: str) -> tuple[str, int]:
    """Return host and port (0 where none is given). Raises Invalid."""
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise Invalid(f"unable to parse engine host {text!r}", hint="[address]:port")
        port_text = tail[1:]
    else:
        host, _, port_text = authority.partition(":")
    if port_text and not (port_text.isascii() and port_text.isdecimal()):
        raise Invalid(f"unable to parse engine host {text!r}", hint=f"port {port_text!r}")
    port = int(port_text) if port_text else 0
    if port > 65535:
        raise Invalid(f"unable to parse engine host {text!r}", hint=f"port {port_text!r}")
    return host, port
