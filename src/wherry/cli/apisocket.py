"""`run --use-api-socket`: the engine's socket and this client's credentials inside the container."""

from __future__ import annotations

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.session import Session

    Object = dict[str, Any]

_SOCKET = "/var/run/docker.sock"
_FOLDER = "/run/secrets/docker"
_VARIABLE = "DOCKER_CONFIG"


def give_socket(session: Session, body: Object) -> dict[str, Any]:
    """Mount the engine's socket into the container to be; return the `auths` that it is to have too.

    Raises Failure where the engine is not at a socket of this machine.
    """
    address = session.engine.address
    if not address.path:
        raise Failure(
            "flag --use-api-socket can only be used with unix sockets: "
            f"docker endpoint {address} incompatible"
        )
    mount: Object = {
        "Type": "bind",
        "Source": address.path,
        "Target": _SOCKET,
        "BindOptions": {},
    }
    body["HostConfig"]["Mounts"] = [*(body["HostConfig"].get("Mounts") or []), mount]
    given: list[str] = body["Env"] or []
    if any(entry.partition("=")[0] == _VARIABLE for entry in given):
        return {}
    from wherry.cli.credentials import Store

    auths = Store(session.configuration).plain()
    if auths:
        body["Env"] = [*given, f"{_VARIABLE}={_FOLDER}"]
    return auths


def send_credentials(session: Session, container: str, auths: dict[str, Any]) -> None:
    """Put the credentials where DOCKER_CONFIG of the container says that they are."""
    import io
    import tarfile
    from json import dumps

    data = dumps({"auths": auths}, indent="\t").encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(f"{_FOLDER}/config.json")
        entry.size, entry.mode = len(data), 0o600
        tar.addfile(entry, io.BytesIO(data))
    path = f"/containers/{container}/archive"
    query = {"path": "/", "noOverwriteDirNonDir": "true"}
    session.engine.open("PUT", path, query, out.getvalue()).read()
