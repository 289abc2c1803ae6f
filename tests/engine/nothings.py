"""What kind of nothing an engine answers with: null, [], {}, "" or no field at all. Kinds only, no values.

`python -m tests.engine.nothings unix:///run/docker.sock busybox` records a Docker's, for `test_nothings`;
the image is one that was imported there as `conftest.busybox` does it.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engine.raw import Api

RECORD = Path(__file__).with_name("recorded") / "nothings.json"
VERSION = "v1.51"

Kinds = dict[str, str]
"""The path of a field, to the kinds of its values."""
# Names of Docker's own parts, or of this machine: what is below them is not compared.
_OPEN = ("Runtimes", "GraphDriver", "IndexConfigs", "RuncCommit", "DriverStatus")
_RANDOM = re.compile(r"[0-9a-f]{64}")


def kind(value: object) -> str:
    """Return the kind of one value; an empty one is a kind of its own."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string" if value else '""'
        case list():
            return "list" if value else "[]"
        case _:
            return "object" if value else "{}"


def kinds(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the kind of all that `value` holds."""
    yield path, kind(value)
    if isinstance(value, dict):
        for name, part in value.items():
            inner = f"{path}.{_RANDOM.sub('ID', name)}"
            if name in _OPEN:
                yield inner, kind(part)
            else:
                yield from kinds(part, inner)
    elif isinstance(value, list):
        for part in value:
            yield from kinds(part, f"{path}[]")


def reduce(value: Any) -> Kinds:
    """Return the kinds of all that `value` holds, those of a list's elements together."""
    found: dict[str, set[str]] = {}
    for path, one in kinds(value):
        found.setdefault(path, set()).add(one)
    return {path: " or ".join(sorted(some)) for path, some in sorted(found.items())}


def bodies(image: str, volume: str) -> dict[str, dict[str, Any]]:
    """Return bodies of create, by the name under which what came of them is recorded."""

    def host(**fields: Any) -> dict[str, Any]:
        return {"Image": image, "HostConfig": {"NetworkMode": "none", **fields}}

    def top(**fields: Any) -> dict[str, Any]:
        return {"Image": image, "HostConfig": {"NetworkMode": "none"}, **fields}

    mount = {"Type": "volume", "Source": volume, "Target": "/m"}
    return {
        "plain": host(),
        "no HostConfig": {"Image": image},
        "nulls": top(Cmd=None, Entrypoint=None, Env=None, Labels=None, ExposedPorts=None,
                     Volumes=None, OnBuild=None, Healthcheck=None, StopTimeout=None),
        "empty": top(Cmd=[], Entrypoint=[], Env=[], Labels={}, ExposedPorts={}, Volumes={},
                     OnBuild=[], Healthcheck={}, Shell=[]),
        "host nulls": host(Binds=None, PortBindings=None, CapAdd=None, CapDrop=None, Dns=None,
                           ExtraHosts=None, Devices=None, Ulimits=None, Tmpfs=None, Sysctls=None,
                           SecurityOpt=None, LogConfig=None, Mounts=None, GroupAdd=None),
        "host empty": host(Binds=[], PortBindings={}, CapAdd=[], CapDrop=[], Dns=[], DnsOptions=[],
                           DnsSearch=[], ExtraHosts=[], Devices=[], DeviceRequests=[],
                           DeviceCgroupRules=[], Ulimits=[], Tmpfs={}, Sysctls={}, SecurityOpt=[],
                           StorageOpt={}, Mounts=[], GroupAdd=[], Links=[], VolumesFrom=[],
                           Annotations={}, BlkioWeightDevice=[], MaskedPaths=[],
                           ReadonlyPaths=[]),
        "command": top(Cmd=["sh", "-c", "true"], Env=["A=b"], Labels={"a": "b"}, WorkingDir="/tmp",
                       User="1", Hostname="h", Domainname="d", Tty=True, OpenStdin=True,
                       StopSignal="INT", StopTimeout=3),
        "entry point": top(Entrypoint=["sh"], Cmd=["-c", "true"], ArgsEscaped=False),
        "cleared entry point": top(Entrypoint=[""], Cmd=["true"]),
        "health": top(Healthcheck={"Test": ["CMD", "true"], "Interval": 10**9}),
        "no health": top(Healthcheck={"Test": ["NONE"]}),
        "ports": {"Image": image, "ExposedPorts": {"80/tcp": {}},
                  "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}], "81/udp": None}}},
        "mounts": host(Mounts=[mount], Binds=["/etc:/e:ro"], Tmpfs={"/t": ""}),
        "mount options": host(Mounts=[mount | {"VolumeOptions": {"NoCopy": True, "Labels": {}}},
                                      {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {}},
                                      {"Type": "bind", "Source": "/etc", "Target": "/b",
                                       "BindOptions": {}}]),
        "volumes": top(Volumes={"/v": {}}),
        "limits": host(Memory=64 << 20, NanoCpus=10**9, PidsLimit=10, CpuShares=5,
                       OomKillDisable=False, MemorySwappiness=None, BlkioWeight=0),
        "no pids limit": host(PidsLimit=0),
        "security": host(CapAdd=["NET_ADMIN"], CapDrop=["ALL"], SecurityOpt=["no-new-privileges"],
                         ReadonlyRootfs=True, GroupAdd=["5"]),
        "privileged": host(Privileged=True),
        "names": host(Dns=["9.9.9.9"], DnsSearch=["a.b"], DnsOptions=["ndots:1"],
                      ExtraHosts=["a:1.2.3.4"]),
        "devices": host(Devices=[{"PathOnHost": "/dev/null", "PathInContainer": "/dev/n",
                                  "CgroupPermissions": "r"}],
                        Ulimits=[{"Name": "nofile", "Soft": 10, "Hard": 20}]),
        "restarts": host(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 2}),
        "logs": host(LogConfig={"Type": "", "Config": None}),
        "endpoint": {"Image": image, "HostConfig": {"NetworkMode": "bridge"},
                     "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}},
        "host network": {"Image": image, "HostConfig": {"NetworkMode": "host", "PidMode": "host"}},
    }  # fmt: skip


def read_all(socket: str, image: str) -> dict[str, Kinds]:
    """Ask the engine at `socket`; return what each answer's fields are."""
    api = Api(socket)
    name = f"nothings-{secrets.token_hex(4)}"
    found: dict[str, Kinds] = {}
    since = str(int(time.time()))

    def ask(method: str, path: str, body: object = None, **query: Any) -> Any:
        answer = api(method, path, body, version=VERSION, **query)
        assert answer.status < 400, f"{method} {path} {body}: {answer.status} {answer.body!r}"
        return answer.json() if answer.body else None

    def keep(what: str, value: Any) -> None:
        found[what] = reduce(value)

    def only(**filters: list[str]) -> str:
        return json.dumps(filters)

    made: list[str] = []
    try:
        keep("volume create", ask("POST", "/volumes/create", {"Name": name}))
        with_options = {"Name": f"{name}-o", "Labels": {"a": "b"}, "DriverOpts": {}}
        keep("volume create with", ask("POST", "/volumes/create", with_options))
        keep("volume", ask("GET", f"/volumes/{name}"))
        keep("volumes", ask("GET", "/volumes", filters=only(name=[name])))
        keep("no volumes", ask("GET", "/volumes", filters=only(name=["nobody-has-this"])))
        for what, body in bodies(image, name).items():
            box = f"{name}-{len(made)}"
            keep(f"create: {what}", ask("POST", "/containers/create", body, name=box))
            made.append(box)
            keep(f"inspect: {what}", ask("GET", f"/containers/{box}/json"))
        keep("list", ask("GET", "/containers/json", all=1, filters=only(name=[name])))
        keep("no list", ask("GET", "/containers/json", filters=only(name=["nobody-has-this"])))
        runs = f"{name}-runs"
        sleeps = {"Image": image, "Cmd": ["sleep", "600"]}
        ask("POST", "/containers/create", sleeps, name=runs)
        made.append(runs)
        ask("POST", f"/containers/{runs}/start")
        keep("running", ask("GET", f"/containers/{runs}/json", size=1))
        keep("running list", ask("GET", "/containers/json", size=1, filters=only(name=[runs])))
        keep("running bridge", _only_ours(ask("GET", "/networks/bridge")))
        keep("changes", ask("GET", f"/containers/{runs}/changes"))
        keep("top", ask("GET", f"/containers/{runs}/top"))
        run = ask("POST", f"/containers/{runs}/exec", {"Cmd": ["true"]})
        keep("exec", ask("GET", f"/exec/{run['Id']}/json"))
        keep("update", ask("POST", f"/containers/{runs}/update", {}))
        ask("POST", f"/containers/{runs}/kill")
        keep("wait", ask("POST", f"/containers/{runs}/wait"))
        keep("exited", ask("GET", f"/containers/{runs}/json"))
        ask("POST", "/networks/create", {"Name": name})
        keep("network", ask("GET", f"/networks/{name}"))
        keep("networks", ask("GET", "/networks", filters=only(name=[name])))
        keep("no networks", ask("GET", "/networks", filters=only(name=["nobody-has-this"])))
        keep("network host", ask("GET", "/networks/host") | {"Containers": {}})
        keep("image", ask("GET", f"/images/{image}/json"))
        keep("history", ask("GET", f"/images/{image}/history"))
        keep("images", ask("GET", "/images/json", filters=only(reference=[image])))
        keep("no images", ask("GET", "/images/json", filters=only(reference=["nobody-has-this"])))
        keep("info", ask("GET", "/info"))
        keep("version", ask("GET", "/version"))
        keep("plugins", ask("GET", "/plugins"))
        until = str(int(time.time()) + 1)
        lines = api("GET", "/events", version=VERSION, since=since, until=until,
                    filters=only(container=[runs]))  # fmt: skip
        for line in lines.body.splitlines():
            event = json.loads(line)
            keep(f"event: {event['Type']} {event['Action']}", event)
        none = only(label=["nobody-has-this"])
        for thing in ("containers", "images", "volumes", "networks"):
            keep(f"prune {thing}", ask("POST", f"/{thing}/prune", filters=none))
        for part in ("image", "container", "volume", "build-cache"):
            usage = ask("GET", "/system/df", type=part)
            keep(f"df {part}", {key: value and [] for key, value in usage.items()})
    finally:
        for box in made:
            api("DELETE", f"/containers/{box}", version=VERSION, v=1, force=1)
        api("DELETE", f"/networks/{name}", version=VERSION)
        for volume in (name, f"{name}-o"):
            api("DELETE", f"/volumes/{volume}", version=VERSION, force=1)
    return found


def _only_ours(network: Any) -> Any:
    """Return the network with one container in it, whoever else is."""
    return network | {"Containers": list(network["Containers"].values())[:1], "Options": {}}


if __name__ == "__main__":
    RECORD.write_text(
        json.dumps(read_all(sys.argv[1].removeprefix("unix://"), sys.argv[2]), indent=1) + "\n"
    )
