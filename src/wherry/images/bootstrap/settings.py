"""How this machine's apt reaches its mirrors: proxies, certificates, and how old a mirror may be.

mmdebstrap reads nothing of the machine's apt.conf(5), and fails where a proxy or a frozen mirror is
configured there.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field

_WANTED = re.compile(
    r"Acquire::(?:Check-Valid-Until|Check-Date|ForceIPv4|ForceIPv6|Retries"
    r"|(?:http|https)::(?:Proxy(?:::[^ ]+)?|Timeout|CaInfo|CaPath|SslCert|SslKey"
    r"|Verify-Peer|Verify-Host))"
)
_LINE = re.compile(r'([^ ]+) "(.*)";')
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Names of apt.conf(5) and their values."""

    values: tuple[tuple[str, str], ...] = ()
    proxies: dict[str, str] = field(default_factory=dict[str, str])
    """A proxy's URL by scheme, as urllib takes it."""

    def render(self) -> str:
        """Return them as a file of apt's."""
        return "".join(f'{name} "{value}";\n' for name, value in self.values)


def read_settings() -> Settings:
    """Return what apt is configured with here, nothing where there is no apt."""
    try:
        dump = subprocess.run(
            ["apt-config", "dump", "Acquire"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return Settings()
    return parse_settings(dump)


def parse_settings(dump: str) -> Settings:
    """Return the settings of `apt-config dump` that decide whether a mirror is reached."""
    values: list[tuple[str, str]] = []
    proxies: dict[str, str] = {}
    for line in dump.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or not match[2] or '"' in match[2] or not _WANTED.fullmatch(match[1]):
            continue
        values.append((match[1], match[2]))
        scheme = match[1].split("::")[1]
        if match[1] == f"Acquire::{scheme}::Proxy" and match[2] != "DIRECT":
            proxies[scheme] = match[2]
    return Settings(tuple(values), proxies)
