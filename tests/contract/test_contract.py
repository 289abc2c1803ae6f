"""Every operation of the OpenAPI file is asked for, and every answer has the shape that it gives.

`uncovered.txt` lists what is not: it may only name swarm's and plugins' operations.
"""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.contract.checked import Checked
from tests.contract.compatibility import OPERATIONS
from tests.registry.serving import registry

LIST = Path(__file__).with_name("uncovered.txt")
NOT_WHERRYS = {"Swarm", "Node", "Service", "Task", "Secret", "Config", "Plugin"}
IMAGE = os.environ.get("WHERRY_TEST_IMAGE", "busybox")


def _name() -> str:
    return f"contract-{secrets.token_hex(4)}"


def _run(call: Checked, *argv: str, **config: Any) -> str:
    name = _name()
    body = {"Image": IMAGE, "Cmd": list(argv), **config}
    made = call("POST", "/containers/create", body, name=name)
    call("POST", f"/containers/{name}/start")
    return str(made["Id"])


def _remove(call: Checked, container: str) -> None:
    call("DELETE", f"/containers/{container}", force="true", v="true")


def _tar(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def test_containers(checked: Checked) -> None:
    call = checked
    box = _run(call, "sleep", "600", Labels={"a": "b"}, HostConfig={"Memory": 64 << 20})
    try:
        call("GET", "/containers/json", all="true", size="true", limit="5")
        call("GET", f"/containers/{box}/json", size="true")
        call("GET", f"/containers/{box}/top", ps_args="-ef")
        call("GET", f"/containers/{box}/changes")
        call("GET", f"/containers/{box}/stats", stream="false")
        call("POST", f"/containers/{box}/update", {"Memory": 96 << 20, "MemorySwap": -1})
        call("POST", f"/containers/{box}/rename", name=_name())
        call("POST", f"/containers/{box}/pause")
        call("POST", f"/containers/{box}/unpause")
        call("POST", f"/containers/{box}/kill", signal="SIGWINCH")
        call("PUT", f"/containers/{box}/archive", _tar(x=b"1"), kind="application/x-tar", path="/")
        call("GET", f"/containers/{box}/archive", path="/x")
        call("HEAD", f"/containers/{box}/archive", path="/x")
        call("GET", f"/containers/{box}/export")
        call("POST", f"/containers/{box}/restart", t="0")
        call("POST", f"/containers/{box}/stop", t="0")
        call("POST", f"/containers/{box}/stop", t="0", expect=304)
        call("POST", f"/containers/{box}/start")
        call("POST", f"/containers/{box}/start", expect=304)
        image = call("POST", "/commit", {}, container=box, repo=_name(), tag="1", expect=201)
        call("DELETE", f"/images/{image['Id']}", force="true")
    finally:
        _remove(call, box)
    call("POST", "/containers/prune", filters='{"label":["nobody-has-this"]}')


def test_waits_and_logs(checked: Checked) -> None:
    box = _run(checked, "sh", "-c", "echo out; echo err >&2")
    try:
        checked("POST", f"/containers/{box}/wait", condition="not-running")
        assert b"out" in checked("GET", f"/containers/{box}/logs", stdout="true", stderr="true")
    finally:
        _remove(checked, box)


def test_streams_of_a_terminal(checked: Checked) -> None:
    box = _run(checked, "sh", Tty=True, OpenStdin=True)
    try:
        checked("POST", f"/containers/{box}/resize", h="40", w="100")
        stream = checked.api.upgrade(f"/containers/{box}/attach?stream=1&stdin=1&stdout=1")
        stream.close()
        checked.note("POST", f"/containers/{box}/attach", 101)
        made = checked("POST", f"/containers/{box}/exec", {"Cmd": ["sleep", "60"], "Tty": True})
        ident = made["Id"]
        checked("POST", f"/exec/{ident}/start", {"Detach": True, "Tty": True})
        checked("GET", f"/exec/{ident}/json")
        checked("POST", f"/exec/{ident}/resize", h="40", w="100")
    finally:
        _remove(checked, box)


def test_attach_by_websocket(checked: Checked) -> None:
    box = _run(checked, "sleep", "60", Tty=True, OpenStdin=True)
    try:
        with checked.api.connect() as connection:
            connection.sendall(
                f"GET /v1.51/containers/{box}/attach/ws?stream=1&stdout=1 HTTP/1.1\r\n"
                "Host: engine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://e\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: d2hlcnJ5d2hlcnJ5d2hlcg==\r\n\r\n".encode()
            )
            head = connection.recv(4096)
        checked.note("GET", f"/containers/{box}/attach/ws", int(head.split()[1]))
        assert head.split()[1] == b"101", head
    finally:
        _remove(checked, box)


def test_images(checked: Checked, tmp_path: Path) -> None:
    call = checked
    name = _name()
    shared: dict[str, Any] = {"shared-size": "true"}
    call("GET", "/images/json", all="true", digests="true", **shared)
    call("GET", "/images/json", manifests="true")
    call("GET", f"/images/{IMAGE}/json")
    call("GET", f"/images/{IMAGE}/history")
    call("POST", f"/images/{IMAGE}/tag", repo=name, tag="1")
    archive = call("GET", f"/images/{name}:1/get")
    call("GET", "/images/get", names=f"{name}:1")
    call("POST", "/images/load", archive, kind="application/x-tar", quiet="true")
    call("DELETE", f"/images/{name}:1")
    layer = _tar(file=b"hello")
    call("POST", "/images/create", layer, kind="application/x-tar", fromSrc="-", repo=name)
    call("DELETE", f"/images/{name}")
    call("POST", "/images/prune", filters='{"label":["nobody-has-this"]}')


def test_volumes(checked: Checked) -> None:
    call, name = checked, _name()
    call("POST", "/volumes/create", {"Name": name, "Labels": {"a": "b"}})
    call("GET", "/volumes", filters=f'{{"name":["{name}"]}}')
    call("GET", f"/volumes/{name}")
    call("PUT", f"/volumes/{name}", {"Spec": {}}, version="1", expect=(400, 404, 503))
    call("DELETE", f"/volumes/{name}", force="true")
    call("POST", "/volumes/prune", filters='{"label":["nobody-has-this"]}')


def test_networks(checked: Checked) -> None:
    call, name = checked, _name()
    made = call("POST", "/networks/create", {"Name": name, "Labels": {"a": "b"}})
    box = _run(call, "sleep", "600")
    try:
        call("GET", "/networks", filters=f'{{"name":["{name}"]}}')
        call("POST", f"/networks/{name}/connect", {"Container": box})
        call("GET", f"/networks/{made['Id']}", verbose="true")
        call("GET", f"/containers/{box}/json")
        call("GET", "/containers/json")
        call("POST", f"/networks/{name}/disconnect", {"Container": box, "Force": True})
    finally:
        _remove(call, box)
        call("DELETE", f"/networks/{name}")
    call("POST", "/networks/prune", filters='{"label":["nobody-has-this"]}')


def test_system(checked: Checked) -> None:
    call = checked
    call("GET", "/_ping")
    call("HEAD", "/_ping")
    call("GET", "/version")
    call("GET", "/info")
    call("GET", "/system/df")
    call("GET", "/events", since="1", until="2")
    call("GET", "/plugins")


def test_builds(checked: Checked) -> None:
    call, name = checked, _name()
    context = _tar(Dockerfile=f"FROM {IMAGE}\nRUN true\n".encode())
    out = call("POST", "/build", context, kind="application/x-tar", t=name)
    assert b"Successfully" in out, out
    call("DELETE", f"/images/{name}", force="true")
    call("POST", "/build/prune", all="true")


def test_registries_out_of_reach(checked: Checked) -> None:
    """Which status that is, is not what counts: the file knows 500, wherry says 503."""
    call = checked
    gone = "127.0.0.1:1/nothing"
    for method, path, query in (
        ("GET", f"/distribution/{gone}/json", ""),
        ("GET", "/images/search", "?term=127.0.0.1:1/x"),
    ):
        answer = call.api(method, f"/v1.51{path}{query}", version="", timeout=60)
        assert answer.status in (401, 404, 500, 503), answer
        assert answer.message


def test_registries(checked: Checked, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if os.environ.get("WHERRY_TEST_HOST"):
        pytest.skip("a registry on that engine's host is needed")
    call, engine = checked, request.getfixturevalue("engine")
    with registry(tmp_path, prefix=tuple(engine.command())) as served:
        place = f"127.0.0.1:{served.port}"
        name = f"{place}/contract"
        call("POST", f"/images/{IMAGE}/tag", repo=name, tag="1")
        call("POST", f"/images/{name}/push", tag="1", headers={"X-Registry-Auth": "e30="})
        call("GET", f"/distribution/{name}:1/json")
        call("DELETE", f"/images/{name}:1")
        call("POST", "/images/create", fromImage=name, tag="1")
        call("DELETE", f"/images/{name}:1")
        body = {"username": "a", "password": "b", "serveraddress": place}
        call("POST", "/auth", body, expect=(200, 401))


def test_errors_have_the_shape_too(checked: Checked) -> None:
    for method, path in (
        ("GET", "/containers/nobody/json"),
        ("POST", "/containers/nobody/start"),
        ("GET", "/containers/nobody/top"),
        ("GET", "/images/nobody/json"),
        ("GET", "/exec/nobody/json"),
        ("GET", "/volumes/nobody"),
        ("GET", "/networks/nobody"),
    ):
        checked(method, path, expect=404)
    checked("POST", "/images/nobody/tag", expect=404, repo="x")


def test_the_list_of_operations_is_the_files(checked: Checked) -> None:
    listed = {line.partition("\t")[0] for line in OPERATIONS.read_text().splitlines()}
    assert listed == checked.specification.operations.keys()


def test_nothing_was_wrong_and_all_was_asked(
    checked: Checked, request: pytest.FixtureRequest
) -> None:
    """Comes last: what the others have gathered."""
    assert not checked.complaints, "\n" + "\n".join(sorted(set(checked.complaints)))
    wanted = {
        name
        for name, operation in checked.specification.operations.items()
        if not NOT_WHERRYS & set(operation.tags)
    }
    allowed = {line for line in LIST.read_text().splitlines() if line and not line.startswith("#")}
    if len(request.session.items) >= 12:
        missing = wanted - checked.seen
        assert missing == allowed, f"not asked: {missing - allowed}; now asked: {allowed - missing}"
