"""What the engine asks the client while it builds: secrets, an ssh agent, and to fetch outputs."""

from __future__ import annotations

import _thread
import os
import select
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading

from wherry.cli.failure import Failure
from wherry.cli.files import reason
from wherry.cli.safetar import Unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from typing import Any

    from wherry.cli.session import Session
    from wherry.client.http import Response

    Object = dict[str, Any]

_LARGEST_SECRET = 500 << 10  # BuildKit's limit too: larger ones are most likely a mistake
_PIECE = 1 << 16


def parse_secret(text: str) -> tuple[str, str, str]:
    """Return (id, `env` or `file`, name) of `id=x,src=path` or `id=x,env=NAME`. Raises Failure."""
    from wherry.cli.csv import fields as split_csv

    fields: dict[str, str] = {}
    for item in split_csv(text):
        name, equals, value = item.partition("=")
        if not equals:
            raise Failure(f"invalid field '{item}' must be a key=value pair")
        fields[name.lower()] = value
    unknown = set(fields) - {"id", "src", "source", "env", "type"}
    if unknown:
        raise Failure(f"unexpected key '{min(unknown)}' in '{text}'")
    kind = fields.get("type", "")
    if kind not in ("", "file", "env"):
        raise Failure(f'unsupported secret type "{kind}"')
    source = fields.get("src") or fields.get("source") or ""
    name = fields.get("id") or ""
    if not name:
        raise Failure('secret missing "id" field')
    if fields.get("env") or kind == "env":
        return name, "env", fields.get("env") or source or name
    if source:
        return name, "file", source
    # As Docker: of an id alone the variable of that name, else the file.
    return (name, "env", name) if name in os.environ else (name, "file", name)


def parse_ssh(text: str) -> tuple[str, list[str]]:
    """Return (id, paths) of `default` or `id=socket|key[,key]`. Raises Failure."""
    name, _, paths = text.partition("=")
    found = [path for path in paths.split(",") if path]
    if not found and not os.environ.get("SSH_AUTH_SOCK"):
        raise Failure(
            f"invalid empty ssh agent socket: {name}: no agent runs here and no key was named"
        )
    return name or "default", found


class Answers:
    """Answers each question on a thread and a connection of its own."""

    def __init__(self, session: Session, secrets: list[str], ssh: list[str]) -> None:
        self._session = session
        self._secrets = {name: (kind, at) for name, kind, at in map(parse_secret, secrets)}
        self._ssh = dict(map(parse_ssh, ssh))
        self._agents: list[subprocess.Popen[bytes]] = []
        self._sockets: dict[str, str] = {}
        self._lock = threading.Lock()
        self._outputs: list[threading.Thread] = []
        self.destinations: list[tuple[str, str]] = []
        """(kind, path) of each output of the request, as it is asked for by its number."""
        self.problem: Failure | None = None
        for name, (kind, at) in self._secrets.items():
            if kind == "file" and not os.path.isfile(at):
                raise Failure(f"failed to stat {at}: no such file (secret {name})")

    @property
    def secret_ids(self) -> list[str]:
        """The ids that `--secret` named."""
        return list(self._secrets)

    @property
    def agent_ids(self) -> list[str]:
        """The ids that `--ssh` named."""
        return list(self._ssh)

    def give(self, question: Object) -> None:
        """Begin to answer."""
        identifier: str = question["ask"]
        if "secret" in question:
            _thread.start_new_thread(self._guarded, (self._secret, identifier, question["secret"]))
        elif "agent" in question:
            _thread.start_new_thread(self._guarded, (self._agent, identifier, question["agent"]))
        else:
            work = (self._output, identifier, question["output"])
            thread = threading.Thread(target=self._guarded, args=work, daemon=True)
            thread.start()
            self._outputs.append(thread)

    def close(self) -> None:
        """Wait for outputs, and end agents that were started for keys."""
        for thread in self._outputs:
            thread.join()
        for agent in self._agents:
            agent.terminate()
            agent.wait()
        if self.problem is not None:
            raise self.problem

    def _guarded(self, work: Any, *arguments: object) -> None:
        try:
            work(*arguments)
        except Failure as problem:
            self.problem = problem
        except Exception as problem:
            self.problem = Failure(str(problem))

    def _refuse(self, identifier: str) -> None:
        path = f"/wherry/build/answer/{identifier}"
        self._session.another_engine().open("POST", path, {"missing": "1"}, b"").read()

    def _secret(self, identifier: str, name: str) -> None:
        value: bytes | None = None
        kind, at = self._secrets.get(name, ("", ""))
        if kind == "env":
            value = os.environb.get(os.fsencode(at))
        elif kind == "file":
            try:
                with open(at, "rb") as file:
                    value = file.read(_LARGEST_SECRET + 1)
            except OSError as error:
                self._refuse(identifier)
                raise Failure(reason(error)) from None
        if value is None:
            return self._refuse(identifier)
        if len(value) > _LARGEST_SECRET:
            self._refuse(identifier)
            raise Failure(f"secret {name} is larger than {_LARGEST_SECRET >> 10} KiB")
        path = f"/wherry/build/answer/{identifier}"
        self._session.another_engine().open("POST", path, None, value).read()
        return None

    def _agent(self, identifier: str, name: str) -> None:
        if name not in self._ssh:
            return self._refuse(identifier)
        near = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            near.connect(self._agent_socket(name))
        except OSError as error:
            self._refuse(identifier)
            raise Failure(f"ssh agent {name}: {error.strerror or error}") from None
        raw, rest, _ = self._session.another_engine().hijack(f"/wherry/build/answer/{identifier}")
        far = socket.socket(fileno=raw.detach())
        if rest:
            near.sendall(rest)
        _carry(near, far)
        return None

    def _agent_socket(self, name: str) -> str:
        paths = self._ssh[name]
        with self._lock:
            if name not in self._sockets:
                if not paths:
                    self._sockets[name] = os.environ["SSH_AUTH_SOCK"]
                elif len(paths) == 1 and _is_socket(paths[0]):
                    self._sockets[name] = paths[0]
                else:
                    self._sockets[name] = self._start_agent(paths)
            return self._sockets[name]

    def _start_agent(self, keys: list[str]) -> str:
        path = os.path.join(tempfile.mkdtemp(prefix="wherry-keys-"), "agent.sock")
        agent = subprocess.Popen(
            ["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._agents.append(agent)
        assert agent.stdout is not None
        agent.stdout.readline()
        done = subprocess.run(
            ["ssh-add", *keys],
            env={**os.environ, "SSH_AUTH_SOCK": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            text = done.stderr.decode("utf-8", "replace").strip()
            raise Failure(f"cannot load {', '.join(keys)}: {text}")
        return path

    def _output(self, identifier: str, index: int) -> None:
        kind, path = self.destinations[index]
        engine = self._session.another_engine()
        response = engine.open("GET", f"/wherry/build/output/{identifier}")
        if kind == "local":
            _unpack(response, path)
        elif path == "-":
            sys.stdout.flush()
            for piece in response.pieces():
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            _store(response.pieces(), path)


def _is_socket(path: str) -> bool:
    import stat

    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""
    poll = select.poll()
    across = {one.fileno(): (one, other), other.fileno(): (other, one)}
    for descriptor in across:
        poll.register(descriptor, select.POLLIN)
    with one, other:
        while True:
            for descriptor, _ in poll.poll():
                source, sink = across[descriptor]
                try:
                    data = source.recv(_PIECE)
                    if not data:
                        return
                    sink.sendall(data)
                except OSError:
                    return


class _Reader:
    """A response's body as tarfile reads a file."""

    def __init__(self, response: Response) -> None:
        self._pieces = response.pieces()
        self._rest = b""

    def read(self, count: int = -1) -> bytes:
        """Return up to `count` bytes, b"" at the end."""
        while len(self._rest) < count or count < 0:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        if count < 0:
            count = len(self._rest)
        data, self._rest = self._rest[:count], self._rest[count:]
        return data


def _unpack(response: Response, path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
        source: BufferedIOBase = _Reader(response)  # type: ignore[assignment]
        with tarfile.open(fileobj=source, mode="r|") as archive:
            with Unpacker(archive, path, owners=os.geteuid() == 0) as unpacker:
                for member in archive:
                    unpacker.unpack(member, member.name)
                unpacker.finish()
        # To the very end: an answer that is left half read is one that the engine could not give.
        while source.read(_PIECE):
            pass
    except OSError as error:
        raise Failure(reason(error)) from None
    except tarfile.TarError as error:
        raise Failure(f"the output broke off: {error}") from None


def _store(pieces: Iterator[bytes], path: str) -> None:
    """Write a file beside `path` and name it so at the end: half an archive is never taken for one."""
    try:
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(prefix=".wherry-", dir=folder)
        try:
            with open(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                os.fchmod(descriptor, 0o644)
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise Failure(reason(error)) from None
