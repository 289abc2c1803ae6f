"""A dashboard's traffic: polls, streams and terminals beside each other, by TCP with TLS, without versions.

And dockerode, the client that dashboards in node are made with, where node is on the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.boxes import SLEEP
from tests.engine.tars import busybox_tar
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.clients import Client, find_docker
from tests.harness.engine import Engine

aiohttp = pytest.importorskip("aiohttp")

IMAGE = "bb:1"
PORT = 2376
_DOCKERODE = Path(__file__).parents[2] / ".venv/dockerode/node_modules"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def remote(nothing_left: None, certificates: Certificates, client_home: Path) -> Iterator[Engine]:
    """An engine behind TLS, on a host of its own, with an image."""
    cert, key = certificates.server
    options = (
        *("-H", f"tcp://127.0.0.1:{PORT}", "--tlsverify", "--tlscacert", certificates.ca),
        *("--tlscert", cert, "--tlskey", key),
    )
    with Engine(*options) as engine:
        command = find_docker()
        assert command
        docker = Client([command], engine.host, client_home)
        docker.raw("import", "-c", "CMD sh", "-", IMAGE, stdin=busybox_tar())
        yield engine


@pytest.mark.parametrize("way", ["socket", "tls"])
def test_dockerode(
    remote: Engine, certificates: Certificates, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (_DOCKERODE / "dockerode").exists() or not shutil.which("node"):
        pytest.skip("node is not here, or set-up found no dockerode")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    environment["DOCKER_HOST"] = remote.host
    if way == "tls":
        environment |= {
            "DOCKER_HOST": f"tcp://127.0.0.1:{PORT}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(certificates.folder),
        }
    script = Path(__file__).with_name("dockerode.js")
    words = ("node", str(script), str(_DOCKERODE), IMAGE, f"dash{secrets.token_hex(4)}")
    done = subprocess.run(
        remote.command(*words),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "done\n", done.stdout + done.stderr


class Dashboard:
    """One browser's session: its calls, on as few connections as aiohttp finds to do."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.base = f"https://127.0.0.1:{PORT}"

    async def get(self, path: str, **query: Any) -> Any:
        async with self.session.get(self.base + path, params=query) as answer:
            assert answer.status == 200, (path, answer.status, await answer.text())
            return await answer.json(content_type=None)

    async def post(self, path: str, body: Any = None, **query: Any) -> Any:
        async with self.session.post(self.base + path, json=body, params=query) as answer:
            text = await answer.text()
            assert answer.status < 300, (path, answer.status, text)
            return json.loads(text) if text else None

    async def lines(self, path: str, **query: Any) -> AsyncIterator[bytes]:
        async with self.session.get(self.base + path, params=query) as answer:
            assert answer.status == 200
            async for line in answer.content:
                yield line


async def _watch(session: Dashboard, kinds: list[str], heard: asyncio.Event, word: str) -> None:
    filters = json.dumps({"label": [f"dash={word}"]})
    async for line in session.lines("/events", filters=filters):
        kinds.append(json.loads(line)["Action"])
        if kinds[-1] == "destroy":
            heard.set()
            return


async def _poll(session: Dashboard, until: asyncio.Event) -> int:
    """What a dashboard asks for every few seconds, as fast as it is answered."""
    rounds = 0
    while not until.is_set():
        boxes, images, volumes, networks, info, _, _ = await asyncio.gather(
            session.get("/containers/json", all=1, size=0),
            session.get("/images/json", all=0),
            session.get("/volumes"),
            session.get("/networks"),
            session.get("/info"),
            session.get("/version"),
            session.get("/system/df"),
        )
        assert images and {one["Name"] for one in networks} >= {"bridge", "host", "none"}
        assert volumes["Warnings"] is None or volumes["Warnings"] == []
        assert info["ContainersRunning"] <= len(boxes)
        for one in boxes:
            async with session.session.get(f"{session.base}/containers/{one['Id']}/json") as answer:
                assert answer.status in (200, 404)
            async with session.session.get(
                f"{session.base}/containers/{one['Id']}/logs?stdout=1&tail=5"
            ):
                pass  # left unread: the connection is closed, or used again
        rounds += 1
    return rounds


async def _work(session: Dashboard, word: str, number: int) -> None:
    """Make a container, read its statistics and log, open a terminal in it, and take it away."""
    config = {
        "Image": IMAGE, "Cmd": ["sh", "-c", "echo begun; read x; echo got $x; exec sleep 600"],
        "OpenStdin": True, "Tty": True, "Labels": {"dash": word}, "HostConfig": {"NetworkMode": "none"},
    }  # fmt: skip
    made = await session.post("/containers/create", config, name=f"{word}-{number}")
    path = f"/containers/{made['Id']}"
    await session.post(f"{path}/start")
    # The console: by web socket, unversioned, as a browser speaks it.
    url = f"wss://127.0.0.1:{PORT}{path}/attach/ws?logs=1&stream=1&stdin=1&stdout=1"
    async with session.session.ws_connect(url, origin="https://dashboard.example") as console:
        await console.send_str("typed\r")
        said = b""
        while b"got typed" not in said:
            message = await console.receive(timeout=20)
            assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
            said += message.data if isinstance(message.data, bytes) else message.data.encode()
        assert b"begun" in said
        await console.ping()
    logs = [line async for line in session.lines(f"{path}/logs", stdout=1, stderr=1, timestamps=1)]
    assert b"begun" in b"".join(logs)
    stats = await session.get(f"{path}/stats", stream="false", **{"one-shot": "true"})
    assert stats["pids_stats"]["current"] >= 1
    async for line in session.lines(f"{path}/stats"):
        assert json.loads(line)["id"] == made["Id"]
        break  # a page that is left
    run = await session.post(
        f"{path}/exec", {"Cmd": ["echo", "hi"], "AttachStdout": True, "Tty": True}
    )
    async with session.session.post(
        f"{session.base}/exec/{run['Id']}/start", json={"Detach": False, "Tty": True}
    ) as answer:
        assert (await answer.content.read()).strip() == b"hi"
    assert (await session.get(f"/exec/{run['Id']}/json"))["ExitCode"] == 0
    async with session.session.delete(session.base + path, params={"force": 1, "v": 1}) as answer:
        assert answer.status == 204


def test_a_dashboard(remote: Engine, certificates: Certificates, docker_for: Any) -> None:
    """Six users' sessions work while two poll and one listens, all over TLS."""
    word = f"dash{secrets.token_hex(4)}"
    context = ssl.create_default_context(cafile=certificates.ca)
    folder = Path(certificates.folder)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    docker = docker_for(remote)
    docker("run", "-d", "--name", f"{word}-kept", "--network", "none", IMAGE, *SLEEP)

    async def main() -> None:
        connector = aiohttp.TCPConnector(ssl=context, limit=40)
        async with asyncio.timeout(60), aiohttp.ClientSession(connector=connector) as inner:
            session, over, heard = Dashboard(inner), asyncio.Event(), asyncio.Event()
            kinds: list[str] = []
            async with inner.get(f"{session.base}/_ping") as answer:
                assert answer.headers["Api-Version"] and await answer.text() == "OK"
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_watch(session, kinds, heard, word))
                polls = [group.create_task(_poll(session, over)) for _ in range(2)]
                await asyncio.gather(*(_work(session, word, number) for number in range(6)))
                await asyncio.wait_for(heard.wait(), 30)
                over.set()
                watching.cancel()
            assert all(one.result() >= 1 for one in polls)
            assert {"create", "attach", "start"} <= set(kinds)
            assert any(one.startswith("exec_start: echo hi") for one in kinds)

    assert remote.network is not None
    with remote.network.inside():
        asyncio.run(main())
    docker("rm", "-f", f"{word}-kept")
    assert "Traceback" not in remote.log.read_text(errors="replace")
