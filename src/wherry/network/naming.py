"""Names of what is on the host: they tell whose it is, and only what is ours is ever removed."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from wherry.kernel.links import NAME_BYTES
from wherry.model.errors import Invalid

DEFAULT_LINK = "wherry0"
OWN_PREFIXES = ("wh-", "wherry")
"""What names of links begin with that the engine chooses; users' own names may be any."""
_WORD = "wherry"
_FORBIDDEN = frozenset("/: \t\n\r\v\f%\0")


@dataclass(frozen=True, slots=True)
class Naming:
    """Names by engine: `engine_id` is the UUID of the data root."""

    engine_id: str

    @property
    def short(self) -> str:
        """The first eight digits of the engine's id."""
        return self.engine_id[:8]

    @property
    def table(self) -> str:
        """The nftables table."""
        return f"{_WORD}-{self.short}"

    @property
    def own_default(self) -> str:
        """The default bridge where `wherry0` belongs to another engine."""
        return f"{_WORD}-{self.short}"

    @property
    def comment(self) -> str:
        """What is written on rules in chains of others."""
        return f"{_WORD} {self.engine_id}"

    def alias(self, *words: str) -> str:
        """Return the text on a link (IFLA_IFALIAS, 255 bytes at most)."""
        return " ".join((_WORD, self.engine_id, *words))[:250]

    def owns(self, alias: str) -> bool:
        """Whether a link's text says that it is this engine's."""
        return alias.split(" ")[:2] == [_WORD, self.engine_id]


def network_link(network_id: str) -> str:
    """Return the name of a user-defined network's bridge."""
    return f"wh-{network_id[:12]}"


def endpoint_link(endpoint_id: str) -> str:
    """Return the name of the outer end of a container's link."""
    return f"wv{endpoint_id[:11]}"


def new_endpoint_id() -> str:
    """Return 64 random hex digits."""
    return secrets.token_hex(32)


def check_link_name(name: str, what: str) -> str:
    """Return a name that a link may have; raise Invalid (dev_valid_name of the kernel)."""
    if not name or name in (".", "..") or any(letter in _FORBIDDEN for letter in name):
        raise Invalid(f"invalid {what}: {name!r}", hint="it becomes the name of a network link")
    if len(name.encode()) > NAME_BYTES:
        raise Invalid(f"invalid {what}: {name} has more than {NAME_BYTES} bytes")
    return name


def bridge_mac(network_id: str) -> str:
    """Return a bridge's own address, which then does not follow its ports'."""
    digest = hashlib.sha256(network_id.encode()).digest()
    return "02:42:" + digest[:4].hex(":")


def endpoint_mac(ipv4: str, ipv6: str) -> str:
    """Return the address of a container's link: of its IPv4 address, as Docker did up to 27.

    So a neighbour's cache stays right when an address goes to the next container.
    """
    if ipv4:
        return "02:42:" + bytes(int(word) for word in ipv4.split(".")).hex(":")
    return "02:42:" + hashlib.sha256(ipv6.encode()).digest()[:4].hex(":")
