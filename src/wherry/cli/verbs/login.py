"""`wherry login` and `wherry logout`: credentials asked of the user, tried at the registry, kept."""

from __future__ import annotations

import sys

from wherry.cli.credentials import HUB, Store, server_named
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Options
from wherry.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]


def _login(session: Session, options: Options, arguments: list[str]) -> int:
    server = server_named(arguments[0] if arguments else "")
    store = Store(session.configuration)
    username, password = options.text("username"), options.text("password")
    if options.on("password-stdin"):
        if options.given("password"):
            raise Failure(
                "conflicting options: cannot specify both --password and --password-stdin"
            )
        if not username:
            raise Failure("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().rstrip("\r\n")
    elif options.given("password"):
        session.error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    kept: Object = {} if username else store.get(server)
    if kept and not password:
        session.line("Authenticating with existing credentials...")
        try:
            return _try(session, store, server, kept)
        except Exception as error:
            session.error(f"Login did not succeed, error: {error}")
            username = kept.get("username", "")
    if not username or not password:
        username, password = _ask(session, server, username, password)
    credentials = {"username": username, "password": password, "serveraddress": server}
    return _try(session, store, server, credentials)


def _try(session: Session, store: Store, server: str, credentials: Object) -> int:
    answer: Object = session.engine.call("POST", "/auth", None, credentials) or {}
    token = answer.get("IdentityToken") or credentials.get("identitytoken") or ""
    path = store.keep(
        server, credentials.get("username", ""), credentials.get("password", ""), token
    )
    if path:
        session.error(
            f"\nWARNING! Your credentials are stored unencrypted in '{path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n"
        )
    session.line(answer.get("Status") or "Login Succeeded")
    return 0


def _ask(session: Session, server: str, username: str, password: str) -> tuple[str, str]:
    if not sys.stdin.isatty():
        raise Failure("Error: Cannot perform an interactive login from a non TTY device")
    from getpass import getpass

    if server == HUB and not username:
        session.line("Log in with your Docker ID or email address to push and pull images.")
    try:
        username = username or input("Username: ").strip()
        if not username:
            raise Failure("Error: Non-null Username Required")
        password = password or getpass("Password: ")
    except EOFError:
        raise Failure("Error: the input ended") from None
    if not password:
        raise Failure("Error: Password Required")
    return username, password


def _logout(session: Session, _options: Options, arguments: list[str]) -> int:
    server = server_named(arguments[0] if arguments else "")
    session.line(f"Removing login credentials for {server}")
    Store(session.configuration).forget(server)
    return 0


LOGIN = Command(
    _login,
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry",
    (
        Flag("password", "string", "Password or Personal Access Token (PAT)", short="p"),
        Flag("password-stdin", "bool", "Take the Password or PAT from stdin"),
        Flag("username", "string", "Username", short="u"),
    ),
    most=1,
    details="Without a server it is Docker Hub's.",
)
LOGOUT = Command(
    _logout,
    "[SERVER]",
    "Log out from a registry",
    most=1,
    details="Without a server it is Docker Hub's.",
)
