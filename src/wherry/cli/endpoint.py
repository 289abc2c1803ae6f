"""Which engine a command talks to: flags, then the environment, then the context in use.

The order is that of Docker's client: --context, --host, WHERRY_HOST or DOCKER_HOST, DOCKER_CONTEXT, what
`context use` chose, and last the engine of this machine.
"""

from __future__ import annotations

import os

from wherry.cli.configuration import find_folder
from wherry.cli.failure import Failure
from wherry.client.address import DEFAULT_HOST, Address, Credentials, parse_address
from wherry.model.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.options import Options

_TLS_FLAGS = ("tls", "tlscacert", "tlscert", "tlskey", "tlsverify")


def find_address(options: Options) -> tuple[Address, bool]:
    """Return the engine's address, and whether anyone chose it. Raises Failure."""
    try:
        return _find_address(options)
    except WherryError as error:
        # No engine has said so.
        raise Failure(str(error)) from None


def _find_address(options: Options) -> tuple[Address, bool]:
    name = context_name(options)
    if name:
        from wherry.cli.contexts import ContextStore

        context = ContextStore(find_folder(options.text("config"))).get(name)
        return parse_address(_written(context.host), context.credentials()), True
    hosts: list[str] = options.all("host")
    text = (hosts[0] if hosts else "") or _environment()
    credentials = _credentials(options)
    if not text and credentials is not None:
        text = "tcp://localhost:2376"
    if not text:
        return parse_address(DEFAULT_HOST), False
    text = _written(text)
    return parse_address(text, credentials if _is_tcp(text) else None), True


def context_name(options: Options) -> str:
    """Return the name of the context to be used, empty for none. Raises Failure."""
    hosts: list[str] = options.all("host")
    if len(hosts) > 1:
        raise Failure("specify only one -H")
    named = options.text("context")
    if named and hosts:
        raise Failure("conflicting options: cannot specify both --host and --context")
    if not named and not hosts and not _environment():
        named = os.environ.get("WHERRY_CONTEXT", "") or os.environ.get("DOCKER_CONTEXT", "")
        if not named:
            named = _chosen(find_folder(options.text("config")))
    return "" if named == "default" else named


def _chosen(folder: str) -> str:
    # Nearly nobody has one: a stat instead of an import of what reads it.
    if not os.path.exists(f"{folder}/wherry.json"):
        return ""
    from wherry.cli.contexts import ContextStore

    return ContextStore(folder).chosen()


def _environment() -> str:
    return os.environ.get("WHERRY_HOST", "") or os.environ.get("DOCKER_HOST", "")


def _written(text: str) -> str:
    return f"unix://{text}" if text.startswith("/") else text


def _is_tcp(text: str) -> bool:
    return text.startswith(("tcp://", "http://", "https://"))


def _credentials(options: Options) -> Credentials | None:
    """Return the TLS material of flags and environment; None where TLS was not asked for."""
    environment = os.environ
    verify = (
        options.on("tlsverify")
        if options.given("tlsverify")
        else environment.get("DOCKER_TLS_VERIFY", "") != ""
    )
    plain = options.on("tls") if options.given("tls") else bool(environment.get("DOCKER_TLS"))
    if not verify and not plain:
        if any(options.given(name) for name in _TLS_FLAGS[1:4]):
            verify = True
        else:
            return None
    folder = environment.get("DOCKER_CERT_PATH") or find_folder(options.text("config"))
    files: dict[str, str] = {}
    for flag, name in (("tlscacert", "ca"), ("tlscert", "cert"), ("tlskey", "key")):
        path = options.text(flag) or os.path.join(folder, f"{name}.pem")
        found = options.given(flag) or os.path.exists(path)
        if name == "ca" and verify and not found:
            # Docker's too: who wants the server verified is not left to the system's authorities.
            raise Failure(
                "Failed to initialize: unable to resolve docker endpoint: "
                f"open {path}: no such file or directory"
            )
        files[name] = path if found else ""
    return Credentials(ca=files["ca"], cert=files["cert"], key=files["key"], verify=verify)
