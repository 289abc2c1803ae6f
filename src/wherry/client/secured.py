"""Ways to an engine that are no socket of this process: TLS and ssh, each behind a plain socket pair.

The rest of the client (half-closed streams, terminals, polling) then works as with a unix socket.
Imported only when such an address is used: `ssl` takes 15 ms to load.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
import time
from ssl import SSLContext

from wherry.client.address import Address, Credentials
from wherry.client.faults import Unreachable
from wherry.tls import contexts
from wherry.tls.pump import Pump, run

_SHAKE_SECONDS = 20.0


def client_context(credentials: Credentials) -> SSLContext:
    """Return the context of a client. Raises Unreachable naming the file that cannot be used."""
    shown = (credentials.cert, credentials.key)
    try:
        return contexts.client_context(
            authorities=(credentials.ca,) if credentials.ca else (),
            system=not credentials.ca,
            certificates=(shown,) if any(shown) else (),
            verify=credentials.verify,
        )
    except contexts.UnusableFiles as error:
        raise Unreachable(f"could not load the TLS files {error.files}: {error.reason}") from None


def secure(wire: socket.socket, address: Address) -> socket.socket:
    """Return a plain socket that carries what goes over TLS on `wire`. Raises Unreachable."""
    assert address.credentials is not None
    context = client_context(address.credentials)
    ours, theirs = socket.socketpair()
    pump = Pump(context, theirs, wire, server_side=False, hostname=address.host)
    try:
        _shake(pump, address)
    except BaseException:
        ours.close()
        pump.close()
        raise
    address.fault = ""

    def ended(reason: str) -> None:
        # With TLS 1.3 a server refuses the client's certificate after the handshake.
        address.fault = f"TLS: {reason}"

    threading.Thread(target=run, args=(pump, ended), name="tls", daemon=True).start()
    return ours


def _shake(pump: Pump, address: Address) -> None:
    deadline = time.monotonic() + _SHAKE_SECONDS
    while True:
        pump.step()
        if pump.done and pump.failure:
            raise Unreachable(
                f"Cannot connect to the engine at {address}: TLS: {pump.failure}",
                hint="see --tlscacert, --tlscert and --tlskey",
            )
        if pump.shaken and (pump.done or not pump.wire_events & select.EPOLLOUT):
            return
        poll = select.poll()
        poll.register(pump.wire, pump.wire_events)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Unreachable(f"Cannot connect to the engine at {address}: TLS handshake timeout")


def over_ssh(address: Address) -> socket.socket:
    """Return a socket to `dial-stdio` on the other machine. Raises Unreachable where there is no ssh."""
    ours, theirs = socket.socketpair()
    words = ["ssh", *(("-l", address.user) if address.user else ())]
    words += [*(("-p", str(address.port)) if address.port else ()), "-o", "ConnectTimeout=30", "-T"]
    # Either engine's client may be there; what it speaks is the same.
    command = address.command or (
        "if command -v wherry >/dev/null 2>&1; then exec wherry system dial-stdio; "
        "else exec docker system dial-stdio; fi"
    )
    try:
        with theirs:
            end = theirs.fileno()
            process = subprocess.Popen([*words, "--", address.host, command], stdin=end, stdout=end)
    except OSError as error:
        ours.close()
        raise Unreachable(f"cannot run ssh for {address}: {error.strerror}") from None
    # Waited for, so that no zombie stays while this process lives.
    threading.Thread(target=_reap, args=(process,), name="ssh", daemon=True).start()
    return ours


def _reap(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        process.wait()
