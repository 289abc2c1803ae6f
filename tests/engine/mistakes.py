"""Wrong and odd values of every query parameter and filter, and what an engine says to them.

`python -m tests.engine.mistakes unix:///run/docker.sock busybox` records a Docker's, for `test_mistakes`;
with `--ours` after it, what of a wherry's answers is other than that.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engine.plain import plain
from tests.engine.raw import Api

RECORD = Path(__file__).with_name("recorded") / "mistakes.json"
OURS = RECORD.with_name("mistakes_ours.json")
"""What wherry says otherwise, and means to."""
Said = dict[str, list[Any]]
"""A request as `GET /path?query body`, to its status and message."""

# NAME is a container that runs, DEAD one that was never started, BUSYBOX an image.
_QUERIES = """
GET /containers/json limit=x limit=-1 all=maybe size=2
GET /containers/NAME/json size=x
GET /containers/nobody/json
POST /containers/create name=/a/b name=-x name=a platform=bad/bad/bad/bad
POST /containers/NAME/start detachKeys=ctrl-%C3%A9
POST /containers/nobody/start
POST /containers/nobody/stop t=1
POST /containers/NAME/stop t=x signal=NONSENSE
POST /containers/NAME/restart t=x signal=NONSENSE
POST /containers/nobody/restart
POST /containers/NAME/kill signal=NONSENSE signal=0 signal=99 signal=-1
POST /containers/DEAD/kill signal=TERM
POST /containers/nobody/kill
POST /containers/NAME/rename name= name=a/b name=NAME name=DEAD name=%20
POST /containers/DEAD/pause
POST /containers/DEAD/unpause
POST /containers/NAME/unpause
POST /containers/nobody/pause
GET /containers/NAME/top ps_args=-q ps_args=--nonsense ps_args=-o%20user
GET /containers/DEAD/top
GET /containers/nobody/top
GET /containers/nobody/changes
GET /containers/nobody/logs stdout=1
GET /containers/NAME/logs stdout=0 stdout=1&since=x stdout=1&until=x stdout=1&tail=x stdout=1&since=-1
GET /containers/nobody/stats stream=0
GET /containers/NAME/stats stream=1&one-shot=1
POST /containers/NAME/resize h=x&w=1 h=1&w=x h=1 h=-1&w=1 h=99999&w=1
POST /containers/DEAD/resize h=1&w=1
POST /containers/nobody/resize h=1&w=1
POST /containers/nobody/attach stream=1
POST /containers/NAME/attach detachKeys=bad-keys
POST /containers/NAME/wait condition=bad
POST /containers/nobody/wait
DELETE /containers/NAME link=1 v=1
DELETE /containers/nobody force=1
GET /containers/NAME/archive path= path=/no/such path=/etc/passwd/x
HEAD /containers/NAME/archive path= path=/no/such
PUT /containers/NAME/archive path= path=/no/such path=/etc/passwd
GET /containers/nobody/archive path=/
GET /containers/nobody/export
POST /containers/prune filters=x filters={"nonsense":["1"]} filters={"until":["x"]}
GET /images/json all=maybe shared-size=2
GET /images/nobody/json platform=x
GET /images/BUSYBOX/json platform=x
GET /images/nobody/history
GET /images/nobody/get
GET /images/get names=nobody
POST /images/nobody/tag repo=a
POST /images/BUSYBOX/tag repo=UPPER repo= repo=a&tag=%20 repo=a@b
DELETE /images/nobody force=1
DELETE /images/UPPER
POST /images/prune filters={"nonsense":["1"]} filters={"dangling":["x"]} filters={"until":["x"]}
POST /images/create fromSrc=- fromSrc=-&repo=UPPER fromSrc=-&changes=NONSENSE fromSrc=-&platform=a/b/c/d
POST /commit container=nobody container=NAME&repo=UPPER container=NAME&changes=NONSENSE
GET /volumes filters=x filters={"nonsense":["1"]} filters={"dangling":["x"]}
GET /volumes/nobody
DELETE /volumes/nobody force=0
POST /volumes/prune filters={"nonsense":["1"]}
GET /networks filters=x filters={"nonsense":["1"]} filters={"scope":["x"]} filters={"type":["x"]}
GET /networks filters={"dangling":["x"]}
GET /networks/nobody verbose=x scope=x
GET /networks/bridge verbose=x scope=x scope=swarm
DELETE /networks/nobody
DELETE /networks/bridge
POST /networks/prune filters={"nonsense":["1"]} filters={"until":["x"]}
GET /system/df type=x
GET /events since=x until=x since=2&until=1 filters={"nonsense":["1"]}&until=1 filters=x&until=1
GET /exec/nobody/json
POST /exec/nobody/start
POST /exec/nobody/resize h=1&w=1
GET /plugins filters={"nonsense":["1"]}
GET /plugins/nobody/json
GET /nodes
GET /services
GET /tasks
GET /secrets
GET /configs
GET /swarm
POST /swarm/leave
GET /nonsense
PUT /containers/json
"""
_FILTERS = (
    *('{"nonsense":["1"]}', '{"status":["x"]}', '{"exited":["x"]}', '{"health":["x"]}', "x", "[]"),
    *('{"before":["nobody"]}', '{"since":["nobody"]}', '{"network":["nobody"]}', '{"name":["["]}'),
    *('{"publish":["x"]}', '{"expose":["99999"]}', '{"is-task":["x"]}', '{"isolation":["x"]}'),
    *('{"volume":["nobody"]}', '{"ancestor":["nobody"]}', '{"label":["a=b"]}', '{"id":["("]}'),
    *('{"name":"x"}', '{"name":[1]}', '{"name":{"x":false}}', "{", "null", '{"status":["EXITED"]}'),
)
_IMAGE_FILTERS = (
    *('{"nonsense":["1"]}', '{"dangling":["x"]}', '{"before":["nobody"]}', '{"since":["nobody"]}'),
    *('{"until":["x"]}', '{"reference":["["]}', '{"label":["a=b"]}', "x", '{"dangling":["1","0"]}'),
)
_BODIES: tuple[tuple[str, object], ...] = (
    ("POST /containers/NAME/exec", {}),
    ("POST /containers/NAME/exec", {"Cmd": []}),
    ("POST /containers/NAME/exec", {"Cmd": ["true"], "DetachKeys": "bad-keys"}),
    ("POST /containers/NAME/exec", {"Cmd": ["true"], "ConsoleSize": [1]}),
    ("POST /containers/NAME/exec", {"Cmd": ["true"], "Env": ["=x"]}),
    ("POST /containers/DEAD/exec", {"Cmd": ["true"]}),
    ("POST /containers/nobody/exec", {"Cmd": ["true"]}),
    ("POST /containers/NAME/update", {"Memory": 1}),
    ("POST /containers/NAME/update", {"NanoCpus": -1}),
    ("POST /containers/NAME/update", {"CpusetCpus": "x"}),
    ("POST /containers/NAME/update", {"RestartPolicy": {"Name": "x"}}),
    ("POST /containers/NAME/update", {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}),
    ("POST /containers/nobody/update", {}),
    ("POST /volumes/create", {"Name": "a/b"}),
    ("POST /volumes/create", {"Name": "x"}),
    ("POST /volumes/create", {"Driver": "nonsense"}),
    ("POST /volumes/create", {"DriverOpts": {"nonsense": "1"}}),
    ("POST /volumes/create", {"DriverOpts": {"type": "tmpfs"}}),
    ("POST /networks/create", {}),
    ("POST /networks/create", {"Name": "bridge"}),
    ("POST /networks/create", {"Name": "mistakes", "Driver": "nonsense"}),
    ("POST /networks/create", {"Name": "mistakes", "IPAM": {"Config": [{"Subnet": "x"}]}}),
    ("POST /networks/create", {"Name": "mistakes", "IPAM": {"Config": [{"Gateway": "10.9.0.1"}]}}),
    ("POST /networks/create", {"Name": "mistakes", "IPAM": {"Driver": "nonsense"}}),
    ("POST /networks/nobody/connect", {"Container": "NAME"}),
    ("POST /networks/bridge/connect", {"Container": "nobody"}),
    ("POST /networks/bridge/connect", {}),
    ("POST /networks/none/connect", {"Container": "NAME"}),
    ("POST /networks/host/connect", {"Container": "NAME"}),
    ("POST /networks/bridge/disconnect", {"Container": "NAME"}),
    ("POST /networks/nobody/disconnect", {"Container": "NAME"}),
    ("POST /containers/create", {}),
    ("POST /containers/create", {"Image": "nobody"}),
    ("POST /containers/create", {"Image": "UPPER"}),
)
_CREATE: tuple[dict[str, object], ...] = (
    {"Memory": 1}, {"Memory": -5}, {"MemorySwap": 5}, {"Memory": 64 << 20, "MemorySwap": 1 << 20},
    {"MemoryReservation": 1}, {"Memory": 64 << 20, "MemoryReservation": 128 << 20},
    {"MemorySwappiness": 101}, {"NanoCpus": -1}, {"NanoCpus": 10**15}, {"CpuPeriod": 1},
    {"CpuQuota": 1}, {"NanoCpus": 10**9, "CpuPeriod": 5000}, {"CpusetCpus": "99"},
    {"CpusetCpus": "x"}, {"BlkioWeight": 1}, {"ShmSize": -1}, {"OomScoreAdj": 5000},
    {"RestartPolicy": {"Name": "x"}}, {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 3}},
    {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}},
    {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}},
    {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
    {"Binds": ["x"]}, {"Binds": ["/a:b"]}, {"Binds": ["/a:/b:nonsense"]}, {"Binds": [":"]},
    {"Binds": ["/etc:/x", "/etc:/x"]}, {"Binds": ["a/b:/x"]}, {"Binds": ["/etc:/"]},
    {"Mounts": [{}]}, {"Mounts": [{"Type": "nonsense", "Target": "/x"}]},
    {"Mounts": [{"Type": "bind", "Target": "/x"}]},
    {"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]},
    {"Mounts": [{"Type": "bind", "Source": "x", "Target": "/x"}]},
    {"Mounts": [{"Type": "volume", "Target": "x"}]},
    {"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/x"}]},
    {"Mounts": [{"Type": "volume", "Target": "/x", "BindOptions": {}}]},
    {"Tmpfs": {"x": ""}}, {"Tmpfs": {"/x": "nonsense"}}, {"VolumesFrom": ["nobody"]},
    {"NetworkMode": "container:nobody"}, {"NetworkMode": "container:"},
    {"PidMode": "nonsense"}, {"IpcMode": "nonsense"}, {"UTSMode": "nonsense"},
    {"UsernsMode": "nonsense"}, {"CgroupnsMode": "nonsense"}, {"PidMode": "container:nobody"},
    {"IpcMode": "container:nobody"}, {"CapAdd": ["NONSENSE"]}, {"CapDrop": ["NONSENSE"]},
    {"SecurityOpt": ["nonsense"]}, {"SecurityOpt": ["nonsense=1"]},
    {"LogConfig": {"Type": "nonsense"}},
    {"LogConfig": {"Type": "json-file", "Config": {"nonsense": "1"}}},
    {"LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}},
    {"Ulimits": [{"Name": "nonsense", "Soft": 1, "Hard": 1}]},
    {"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]},
    {"Runtime": "nonsense"}, {"PortBindings": {"x/y": [{}]}},
    {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}, {"PortBindings": {"99999/tcp": [{}]}},
    {"PortBindings": {"80/tcp": [{"HostIp": "x"}]}},
    {"Sysctls": {"nonsense": "1"}}, {"ExtraHosts": ["x"]}, {"GroupAdd": ["x"]},
    {"Isolation": "nonsense"}, {"CgroupParent": "x"}, {"DeviceCgroupRules": ["x"]},
    {"Devices": [{"PathOnHost": "/no/such"}]}, {"StorageOpt": {"x": "1"}},
    {"Links": ["nobody"]}, {"DnsSearch": ["a b"]}, {"DnsOptions": ["x"]},
)  # fmt: skip
_CONFIG: tuple[dict[str, object], ...] = (
    {"WorkingDir": "x"}, {"StopSignal": "NONSENSE"}, {"Env": ["=x"]}, {"Env": [""]},
    {"Hostname": "-bad_" + "x" * 70}, {"User": "no such user"}, {"MacAddress": "x"},
    {"Healthcheck": {"Test": ["CMD"], "Interval": 5}}, {"Healthcheck": {"Test": ["X"]}},
    {"Healthcheck": {"Retries": -1}}, {"Healthcheck": {"Timeout": -1}},
    {"Cmd": []}, {"Cmd": "x"}, {"Entrypoint": [""]}, {"Volumes": {"x": {}}}, {"Volumes": {"": {}}},
    {"StopTimeout": -1}, {"Labels": {"": "x"}},
)  # fmt: skip


def _requests() -> Iterator[tuple[str, object]]:
    for line in _QUERIES.strip().splitlines():
        method, path, *queries = line.split(" ")
        for query in queries or [""]:
            yield f"{method} {path}" + (f"?{query}" if query else ""), None
    for value in _FILTERS:
        yield f"GET /containers/json?filters={value}", None
    for value in _IMAGE_FILTERS:
        yield f"GET /images/json?filters={value}", None
    yield from _BODIES
    for host in _CREATE:
        yield "POST /containers/create", {"HostConfig": {"NetworkMode": "none", **host}}
    for config in _CONFIG:
        yield "POST /containers/create", {**config, "HostConfig": {"NetworkMode": "none"}}


class Mistakes:
    """Asks what is wrong, of a container that runs and one that never did."""

    def __init__(self, socket: str, image: str, seconds: float) -> None:
        """What has no answer after `seconds` is said to wait."""
        self.api = Api(socket)
        self.image = image
        self.seconds = seconds
        self.alive = f"mistakes-{secrets.token_hex(4)}"
        self.dead = f"{self.alive}-dead"

    def __enter__(self) -> Mistakes:
        for name in (self.alive, self.dead):
            body = {
                "Image": self.image, "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"},
            }  # fmt: skip
            made = self._ask("POST", f"/containers/create?name={name}", body)
            assert made.status == 201, made
        assert self._ask("POST", f"/containers/{self.alive}/start").status == 204
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.alive, self.dead):
            self._ask("DELETE", f"/containers/{name}?force=1&v=1")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        path = path.replace('"', "%22").replace("{", "%7B").replace("}", "%7D").replace(" ", "%20")
        return self.api(method, f"/v1.51{path}", body, version="", timeout=self.seconds)

    def all(self) -> Said:
        """Ask everything; return what was said."""
        return {
            f"{asked} {json.dumps(body, sort_keys=True)}" if body is not None else asked: list(
                self._one(asked, body)
            )
            for asked, body in _requests()
        }

    def _one(self, asked: str, body: object) -> tuple[int, str]:
        line = asked.replace("NAME", self.alive).replace("DEAD", self.dead)
        line = line.replace("BUSYBOX", self.image)
        if asked == "POST /containers/create" and isinstance(body, dict) and "HostConfig" in body:
            body = {"Image": self.image, "Cmd": ["true"], **body}
        if isinstance(body, dict):
            body = {k: self.alive if v == "NAME" else v for k, v in body.items()}
        method, _, path = line.partition(" ")
        try:
            answer = self._ask(method, path, body)
        except TimeoutError:
            return 0, "waits"
        made = answer.json() if answer.status == 201 and answer.body else {}
        if "create" in path and answer.status == 201:
            self._clean(path, made)
        if answer.status < 400 or not answer.body:
            return answer.status, ""
        text = str(answer.json()["message"]) if answer.body[:1] == b"{" else answer.body.decode()
        text = text.replace(self.dead, "DEAD").replace(self.alive, "NAME")
        return answer.status, plain(text.replace(self.image, "BUSYBOX")).strip()

    def _clean(self, path: str, made: dict[str, Any]) -> None:
        kind = path.split("/")[1]
        name = made.get("Id") or made.get("Name")
        self._ask("DELETE", f"/{kind}/{name}" + ("?v=1&force=1" if kind == "containers" else ""))


def ask_all(socket: str, image: str, seconds: float = 30) -> Said:
    """Return what the engine at `socket` says to every mistake."""
    with Mistakes(socket, image, seconds) as mistakes:
        return mistakes.all()


if __name__ == "__main__":
    ours = len(sys.argv) > 3
    # Docker looks for a plugin of the name of any driver, for 15 s.
    said = ask_all(sys.argv[1].removeprefix("unix://"), sys.argv[2], 30 if ours else 3)
    if ours:
        docker: Said = json.loads(RECORD.read_text())
        said = {asked: answer for asked, answer in said.items() if answer != docker[asked]}
    (OURS if ours else RECORD).write_text(json.dumps(said, indent=1) + "\n")
