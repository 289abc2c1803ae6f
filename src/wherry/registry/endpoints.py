"""Where a registry is reached and how it is trusted, and the settings that say so: facts, nothing performed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from wherry.model.containers import Pairs
from wherry.model.errors import Invalid, Unsupported

PORTS = {"http": 80, "https": 443}
_SOCKS_PORTS = {"socks5": 1080, "socks5h": 1080}
DEFAULT_FOLDERS = (Path("/etc/wherry/certs.d"), Path("/etc/docker/certs.d"))


@dataclass(frozen=True, slots=True)
class Trust:
    """How a TLS server is checked, and what we show it; paths of PEM files."""

    verify: bool = True
    authorities: tuple[str, ...] = ()
    """Beside those of the system."""
    certificates: tuple[tuple[str, str], ...] = ()
    """(certificate, key)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what connections, credentials and tokens belong to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Return the origin of an absolute http or https URL. Raises Invalid."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Invalid(f"invalid URL {url[:200]!r}: {error}") from None
        if parts.scheme not in PORTS or not parts.hostname:
            raise Invalid(f"refused URL {url[:200]!r}: neither http nor https")
        return cls(parts.scheme, parts.hostname, port or PORTS[parts.scheme])

    @classmethod
    def of_proxy(cls, url: str) -> Origin:
        """Return where a proxy is: one of HTTP, or of SOCKS 5. Raises Invalid."""
        scheme, colon, rest = url.partition(":")
        if scheme.lower() not in _SOCKS_PORTS:
            return cls.parse(url)
        found = cls.parse(f"http{colon}{rest}")
        explicit = urlsplit(url).port
        return cls(scheme.lower(), found.host, explicit or _SOCKS_PORTS[scheme.lower()])

    @property
    def is_socks(self) -> bool:
        """Whether it is a proxy of SOCKS 5."""
        return self.scheme in _SOCKS_PORTS

    @property
    def authority(self) -> str:
        """`host:port`, the port left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS.get(self.scheme) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def join_url(base: str, location: str) -> str:
    """Return what `location`, sent with the answer at `base`, means. Raises Invalid."""
    try:
        url = urljoin(base, location)
    except ValueError:
        raise Invalid(f"invalid URL {location[:200]!r}") from None
    Origin.parse(url)
    return url


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way to a registry. `path` is what stands before `/<repository>/manifests/…`."""

    origin: Origin
    path: str = "/v2"
    trust: Trust = field(default_factory=Trust)
    headers: Pairs = ()
    mirror: bool = False
    """Not the registry itself: gets no credentials of the registry's."""
    pull: bool = True
    resolve: bool = True
    """May be asked what a tag stands for."""
    push: bool = True
    query: str = ""
    """Sent with every request: containerd's `ns=docker.io`."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies to use; empty for none. Values as in HTTP_PROXY, HTTPS_PROXY, NO_PROXY."""

    http: str = ""
    https: str = ""
    none: str = ""

    def choose(self, origin: Origin) -> str:
        """Return the URL of the proxy for `origin`, empty for none. Raises Unsupported, Invalid."""
        proxy = self.https if origin.scheme == "https" else self.http
        if not proxy or is_loopback(origin.host) or self._excluded(origin):
            return ""
        if "://" not in proxy:
            proxy = f"http://{proxy}"
        try:
            scheme = urlsplit(proxy).scheme
        except ValueError as error:
            raise Invalid(f"invalid proxy {proxy.rpartition('@')[2]}: {error}") from None
        if scheme not in PORTS and scheme not in _SOCKS_PORTS:
            raise Unsupported(
                f"proxy {proxy.rpartition('@')[2]}: http, https and socks5 proxies are known"
            )
        return proxy

    def _excluded(self, origin: Origin) -> bool:
        """Whether NO_PROXY names the host (golang.org/x/net/http/httpproxy documents its grammar)."""
        address = _address(origin.host)
        for entry in self.none.replace(" ", ",").split(","):
            entry = entry.strip().lower()
            if not entry:
                continue
            if entry == "*":
                return True
            network = _network(entry)
            if network is not None:
                if address is not None and address in network:
                    return True
                continue
            name, colon, port = entry.rpartition(":")
            if not colon or not port.isdecimal():
                name, port = entry, ""
            if port and int(port) != origin.port:
                continue
            name = name.strip("[]").removeprefix("*")
            if origin.host == name.removeprefix(".") and not entry.startswith((".", "*.")):
                return True
            if origin.host.endswith("." + name.removeprefix(".")):
                return True
        return False


def proxy_credentials(proxy: str) -> str:
    """Return `user:password` of a proxy's URL, empty where it has none."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return ""
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What daemon.json says of registries."""

    mirrors: tuple[str, ...] = ()
    """Of Docker Hub, tried in this order before it."""
    insecure: tuple[str, ...] = ()
    """HOST, HOST:PORT or networks as 10.0.0.0/8."""
    folders: tuple[Path, ...] = DEFAULT_FOLDERS
    """Folders of HOST:PORT/hosts.toml, HOST:PORT/ca.crt, …; the first that has the host decides."""
    proxies: Proxies = field(default_factory=Proxies)


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine. A name that merely resolves to it does not count."""
    address = _address(host)
    return (
        address.is_loopback
        if address is not None
        else host == "localhost" or host.endswith(".localhost")
    )


def is_insecure(host: str, port: int | None, insecure: tuple[str, ...]) -> bool:
    """Whether `insecure` names the host, its port, or a network that it is an address of."""
    address = _address(host)
    for entry in insecure:
        network = _network(entry) if "/" in entry else None
        if network is not None:
            if address is not None and address in network:
                return True
            continue
        name, colon, number = entry.rpartition(":")
        if colon and number.isdecimal() and not name.endswith(":"):
            if name.strip("[]") == host and port == int(number):
                return True
        elif entry.strip("[]") == host:
            return True
    return False


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
