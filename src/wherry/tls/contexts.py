"""The TLS contexts of the house, clients' and servers': 1.2 at least, and files that are named when unusable.

Whoever may go without TLS imports this module where it is needed and not before: it brings `ssl`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

from wherry.model.errors import Invalid

_HTTP = ("http/1.1",)


class UnusableFiles(Invalid):
    """PEM files that cannot be read, or are not what they should be: `files`, and `reason`."""

    def __init__(self, files: str, reason: str) -> None:
        super().__init__(f"{files} cannot be used for TLS: {reason}")
        self.files = files
        self.reason = reason


class Telling(ssl.SSLObject):
    """For a server on asyncio, as a context's `sslobject_class`: whose certificate is refused is told so.

    asyncio (3.11) drops the connection of a failed handshake with the alert still unsent, but sends
    what there is to send when more is to be read. The client then closes, or the time for handshakes
    is over.
    """

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """As SSLObject's, with the failure raised by the second call."""
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            refused = isinstance(error, ssl.SSLCertVerificationError)
            if not refused and error.reason != "PEER_DID_NOT_RETURN_A_CERTIFICATE":
                raise
            self._failure = error
            raise ssl.SSLWantReadError from error


def client_context(
    *,
    authorities: Sequence[str] = (),
    system: bool = True,
    certificates: Sequence[tuple[str, str]] = (),
    verify: bool = True,
    protocols: Sequence[str] = (),
) -> ssl.SSLContext:
    """Return a context that trusts `authorities`, and those of the system beside them where `system`.

    `certificates` are shown to a server that asks: pairs of certificate and key, the key empty where
    it is in the same file. Without `verify` any server will do. Raises UnusableFiles.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        if system:
            context.load_default_certs()
        for path in authorities:
            _load(path, lambda path=path: context.load_verify_locations(path))
    for certificate, key in certificates:
        load_certificate(context, certificate, key)
    return context


def server_context(cert: str, key: str = "", client_authority: str = "") -> ssl.SSLContext:
    """Return the context of an HTTP server; by `client_authority` it wants certificates of its clients.

    Raises UnusableFiles.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(_HTTP))
    load_certificate(context, cert, key)
    if client_authority:
        context.verify_mode = ssl.CERT_REQUIRED
        _load(client_authority, lambda: context.load_verify_locations(client_authority))
    return context


def load_certificate(context: ssl.SSLContext, cert: str, key: str = "") -> None:
    """Give a context a certificate to show, in place of the one it had. Raises UnusableFiles."""
    _load(
        ", ".join(path for path in (cert, key) if path),
        lambda: context.load_cert_chain(cert, key or None, _no_password),
    )


def _no_password() -> str:
    # Without this OpenSSL asks at the terminal, if there is one.
    raise ValueError("the key is encrypted")


def _load(files: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = str(error) if isinstance(error, (ssl.SSLError, ValueError)) else error.strerror
        raise UnusableFiles(files, reason or str(error)) from None
