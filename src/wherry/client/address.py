"""Where an engine listens: `unix:///path`, `tcp://host:port`, as DOCKER_HOST writes it."""

from __future__ import annotations

from wherry.model.errors import Invalid, Unsupported

DEFAULT_HOST = "unix:///run/wherry.sock"
_DEFAULT_PORT = 2375


class Address:
    """An engine's address. `path` is set for a unix socket, `host` and `port` for TCP."""

    __slots__ = ("host", "path", "port", "text")

    def __init__(self, text: str, *, path: str = "", host: str = "", port: int = 0) -> None:
        self.text = text
        self.path = path
        self.host = host
        self.port = port

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that `text` writes. Raises Invalid, or Unsupported for ssh and TLS."""
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
    if scheme in ("tcp", "http"):
        return _parse_tcp(text, rest)
    if scheme in ("ssh", "https", "npipe", "fd"):
        raise Unsupported(f"{scheme}:// is not supported by this version: {text}")
    raise Invalid(f"unable to parse engine host {text!r}", hint=f"unknown scheme {scheme!r}")


def _parse_tcp(text: str, rest: str) -> Address:
    authority = rest.partition("/")[0]
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise Invalid(f"unable to parse engine host {text!r}", hint="[address]:port")
        port_text = tail[1:]
    else:
        host, _, port_text = authority.partition(":")
    if port_text and not (port_text.isascii() and port_text.isdecimal()):
        raise Invalid(f"unable to parse engine host {text!r}", hint=f"port {port_text!r}")
    port = int(port_text) if port_text else _DEFAULT_PORT
    if port > 65535:
        raise Invalid(f"unable to parse engine host {text!r}", hint=f"port {port_text!r}")
    return Address(text, host=host or "127.0.0.1", port=port)
