"""The registry that the daemon keeps: started, remembered, kept alive, ended with the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.engine import Engine
from tests.registry.serving import Client
from wherry.cli.flags import Options
from wherry.cli.verbs.registry import FLAGS, words
from wherry.daemon.embedded import EmbeddedRegistry, _echo  # pyright: ignore[reportPrivateUsage]
from wherry.model.errors import Conflict, Invalid, Unavailable
from wherry.registry.server.settings import OPTIONS, Kind
from wherry.storage.content import ContentStore

ANY = ("--listen=127.0.0.1:0",)


def client_of(address: str) -> Client:
    return Client(int(address.rpartition(":")[2]))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_start_and_stop(tmp_path: Path) -> None:
    async def test() -> None:
        registry = EmbeddedRegistry(tmp_path)
        assert not registry.status().running
        assert not await registry.stop()
        with pytest.raises(Invalid, match="--bad"):
            await registry.start(("--bad",))
        status = await registry.start(ANY)
        assert status.running and status.root == str(tmp_path / "registry")
        assert await registry.start(ANY) == status
        with pytest.raises(Conflict):
            await registry.start(("--read-only",))
        loop = asyncio.get_running_loop()
        client = client_of(status.addresses[0])
        digest = ContentStore(tmp_path).put(b"the engine's layer")
        path = f"/v2/a/blobs/uploads/?mount={digest}"
        # What the engine has need not be sent.
        assert (await loop.run_in_executor(None, client, "POST", path)).status == 201
        assert (tmp_path / f"registry/blobs/sha256/{digest.hex}").stat().st_nlink == 2
        # The next daemon starts it again, with what it was asked for.
        await registry.close()
        assert gone(status.pid)
        registry = EmbeddedRegistry(tmp_path)
        await registry.open()
        assert registry.status().running
        assert await registry.stop()
        assert not registry.status().running
        registry = EmbeddedRegistry(tmp_path)
        await registry.open()
        assert not registry.status().running
        await registry.close()

    asyncio.run(test())


def test_it_is_started_again_when_it_dies(tmp_path: Path) -> None:
    async def test() -> None:
        registry = EmbeddedRegistry(tmp_path)
        first = await registry.start(ANY)
        os.kill(first.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while not registry.status().running or registry.status().pid == first.pid:
                await asyncio.sleep(0.02)
        await registry.stop()

    asyncio.run(test())


def test_what_cannot_start_is_not_remembered(tmp_path: Path) -> None:
    async def test() -> None:
        registry = EmbeddedRegistry(tmp_path)
        with pytest.raises(Unavailable, match="cannot listen on 192.0.2.1:5000"):
            await registry.start(("--listen=192.0.2.1:5000",))
        with pytest.raises(Unavailable, match="the users. file"):
            await registry.start((*ANY, f"--htpasswd={tmp_path}/missing"))
        assert not registry.status().running
        assert not await registry.stop()

    asyncio.run(test())


def test_what_cannot_be_remembered_is_not_started(tmp_path: Path) -> None:
    async def test() -> None:
        registry = EmbeddedRegistry(tmp_path)
        (tmp_path / "registry.json").mkdir()
        with pytest.raises(OSError):
            await registry.start(ANY)
        assert not registry.status().running
        (tmp_path / "registry.json").rmdir()
        assert (await registry.start(ANY)).running
        await registry.close()

    asyncio.run(test())


def test_a_line_of_any_length_does_not_end_the_reading(caplog: pytest.LogCaptureFixture) -> None:
    """Unread, what the registry says would fill its pipe, and it would wait there for ever."""

    async def test() -> None:
        stream = asyncio.StreamReader(limit=64)
        stream.feed_data(b"x" * 1000 + b"\nafter it\n")
        stream.feed_eof()
        await _echo(stream)

    with caplog.at_level("INFO"):
        asyncio.run(test())
    assert "registry: after it" in caplog.text


def test_with_an_engine(new_engine: Callable[..., Engine], tmp_path: Path) -> None:
    """By the command line; the registry ends with a daemon that is killed, and comes back with the next."""
    import subprocess
    import sys

    engine = new_engine()

    def wherry(*arguments: str, check: bool = True) -> str:
        program = str(Path(sys.executable).with_name("wherry"))
        done = subprocess.run(
            [program, "-H", engine.host, "registry", *arguments],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    assert wherry("status", check=False) == "registry is not running\n"
    said = wherry("start", *ANY)
    assert said.startswith("registry listening on http://127.0.0.1:")
    assert engine.network is not None
    with engine.network.inside():
        assert client_of(said.split("\n")[0])("GET", "/v2/").status == 200
    pid = int(wherry("status").rpartition(" ")[2])
    assert engine.process is not None
    engine.process.kill()
    engine.process.wait()
    wait_for(lambda: gone(pid))
    engine.start()
    again = wherry("status")
    with engine.network.inside():
        assert client_of(again.split("\n")[0])("GET", "/v2/").status == 200
    wherry("stop")
    assert wherry("status", check=False) == "registry is not running\n"


def test_the_command_line_has_the_programs_flags() -> None:
    rows = {
        option.name: option.kind is Kind.SWITCH for option in OPTIONS if option.name != "until-eof"
    }
    assert {flag.name: flag.kind == "bool" for flag in FLAGS if flag.name != "config"} == rows
    options = Options(FLAGS)
    options.values |= {"listen": ["a:1", "b:2"], "root": "x", "read-only": True}
    assert words(options) == [
        "--listen=a:1", "--listen=b:2", f"--root={os.path.abspath('x')}", "--read-only=true",
    ]  # fmt: skip
