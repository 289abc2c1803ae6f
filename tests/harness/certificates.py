"""A certificate authority of the test's own, with a server's and a client's certificate, by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """`folder` is what DOCKER_CERT_PATH takes: ca.pem, cert.pem, key.pem (the client's)."""

    folder: Path

    @property
    def ca(self) -> str:
        """The authority's certificate."""
        return str(self.folder / "ca.pem")

    @property
    def server(self) -> tuple[str, str]:
        """The server's certificate, for localhost and 127.0.0.1, and its key."""
        return str(self.folder / "server.pem"), str(self.folder / "server-key.pem")

    @property
    def client(self) -> tuple[str, str]:
        """The client's certificate and its key."""
        return str(self.folder / "cert.pem"), str(self.folder / "key.pem")


def make_certificates(folder: Path) -> Certificates:
    """Make all of them below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*words: str) -> None:
        done = subprocess.run(
            ["openssl", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *("req", "-x509", *curve, "-days", "2", "-subj", "/CN=wherry test authority"),
        *("-keyout", "ca-key.pem", "-out", "ca.pem"),
    )
    for name, key, use, extra in (
        ("server", "server-key", "serverAuth", "subjectAltName=DNS:localhost,IP:127.0.0.1\n"),
        ("cert", "key", "clientAuth", ""),
    ):
        (folder / "extensions").write_text(f"extendedKeyUsage={use}\n{extra}")
        openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", f"{key}.pem", "-out", "request")
        openssl(
            *("x509", "-req", "-in", "request", "-days", "2", "-CA", "ca.pem", "-CAkey"),
            *("ca-key.pem", "-CAcreateserial", "-extfile", "extensions", "-out", f"{name}.pem"),
        )
    return Certificates(folder)
