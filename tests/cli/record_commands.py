"""Records what the real `docker` prints and asks for, over an engine whose answers are fixed.

`python -m tests.cli.record_commands` rewrites golden/commands.jsonl; a test compares wherry with it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cli.fake_engine import Answer, FakeEngine, Request

RECORDED = Path(__file__).parent / "golden" / "commands.jsonl"
ENVIRONMENT = {"HOME": "/root", "PATH": os.environ["PATH"], "TZ": "UTC"}
HEX = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
HOUR = 3600


def _container(identifier: str, name: str, age: int, **more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "Id": identifier,
        "Names": [f"/{name}"],
        "Image": "repo/image:tag",
        "ImageID": f"sha256:{HEX}",
        "Command": 'sh -c "echo hello world; sleep 5"',
        "Created": int(time.time()) - age - 1,
        "Ports": [],
        "Labels": {"b": "2", "a": "<1>"},
        "State": "running",
        "Status": "Up 3 seconds",
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": {}}},
        "Mounts": [
            {"Type": "bind", "Source": "/a/long/path/of/a/mount", "Destination": "/x"},
            {"Type": "volume", "Name": OTHER, "Driver": "local", "Destination": "/y"},
        ],
    }
    return facts | more


def _ports() -> list[dict[str, Any]]:
    def port(private: int, kind: str = "tcp", ip: str = "", public: int = 0) -> dict[str, Any]:
        more: dict[str, Any] = {"IP": ip, "PublicPort": public} if ip else {}
        return {"PrivatePort": private, "Type": kind, **more}

    return [
        port(80, ip="0.0.0.0", public=8080),
        port(80, ip="::", public=8080),
        port(90),
        port(91),
        port(92, "udp"),
        port(100, ip="127.0.0.1", public=100),
        port(101, ip="127.0.0.1", public=101),
        port(103, ip="127.0.0.1", public=103),
    ]


def _containers(request: Request) -> Answer:
    if "nothing" in request.query.get("filters", ""):
        return Answer.of([])
    return Answer.of(
        [
            _container(HEX, "web", 3, Ports=_ports(), SizeRw=1234567, SizeRootFs=123456789),
            _container(OTHER, "db", 75, State="exited", Status="Exited (137) 2 hours ago"),
            _container("ab" * 32, "gone", 4 * HOUR, Image=f"sha256:{HEX}", Labels={}, Mounts=[]),
            _container("cd" * 32, "two", 50 * HOUR, Names=["/two", "/web/alias"], Image=HEX[:12]),
            _container("ef" * 32, "pin", 800 * HOUR, Image=f"a/b:c@sha256:{OTHER}", Command=""),
        ]
    )


def _image(identifier: str, tags: list[str], digests: list[str], size: int, age: int) -> Any:
    return {
        "Id": f"sha256:{identifier}",
        "ParentId": "",
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": int(time.time()) - age - 1,
        "Size": size,
        "SharedSize": -1,
        "Labels": None,
        "Containers": -1,
    }


def _images(_request: Request) -> Answer:
    digest = f"repo/image@sha256:{OTHER}"
    return Answer.of(
        [
            _image(HEX, ["repo/image:tag"], [digest], 4432109, 60),
            _image(OTHER, [], [], 999999, 119),
            _image("ab" * 32, ["h.io:5000/x/y:1"], [], 1, 15 * 24 * HOUR),
            _image("cd" * 32, [], [f"lone@sha256:{HEX}"], 123456789012, 3 * 365 * 24 * HOUR),
        ]
    )


def _history(_request: Request) -> Answer:
    def layer(identifier: str, by: str, size: int, age: int) -> dict[str, Any]:
        created = int(time.time()) - age - 1 if age else 0
        return {
            "Id": identifier,
            "Created": created,
            "CreatedBy": by,
            "Tags": None,
            "Size": size,
            "Comment": "c" if size else "",
        }

    return Answer.of(
        [
            layer(f"sha256:{HEX}", '/bin/sh -c #(nop)  CMD ["sh"] and a long tail of words', 0, 60),
            layer("<missing>", "/bin/sh\tx", 1500, 7 * HOUR),
            layer("<missing>", "", 28, 0),
        ]
    )


def _stats(name: str) -> dict[str, Any]:
    return {
        "id": HEX,
        "name": f"/{name}",
        "cpu_stats": {
            "cpu_usage": {"total_usage": 3_000_000_000},
            "system_cpu_usage": 20_000_000_000,
            "online_cpus": 2,
        },
        "precpu_stats": {
            "cpu_usage": {"total_usage": 2_000_000_000},
            "system_cpu_usage": 16_000_000_000,
        },
        "memory_stats": {
            "usage": 50_000_000,
            "limit": 1_000_000_000,
            "stats": {"total_inactive_file": 1_000_000},
        },
        "networks": {"eth0": {"rx_bytes": 1500, "tx_bytes": 2}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"op": "Read", "value": 4096},
                {"op": "Write", "value": 10**9},
            ]
        },
        "pids_stats": {"current": 3},
    }


INSPECTED: dict[str, Any] = {
    "Id": "x",
    "Name": "/x",
    "Path": "a<b>&c",
    "State": {"Status": "running", "Running": True, "Pid": 5, "ExitCode": 0},
    "Image": f"sha256:{HEX}",
    "Config": {"Tty": False, "OpenStdin": True, "Labels": {}, "Env": ["A=<b>"], "Cmd": []},
    "HostConfig": {"AutoRemove": False, "NetworkMode": "none"},
    "NetworkSettings": {
        "Ports": {
            "80/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": "8080"},
                {"HostIp": "::", "HostPort": "8080"},
            ],
            "90/udp": None,
        },
        "Networks": {},
    },
    "Size": 1.5,
    "Empty": {},
}
FRAMES = b"\1\0\0\0\0\0\0\3out\2\0\0\0\0\0\0\3err\1\0\0\0\0\0\0\1\n"


def lay_answers(engine: FakeEngine) -> None:
    """Give the engine one of everything."""
    created = Answer.of({"Id": "x", "Warnings": ["beware"]}, 201)
    stream = Answer(raw=FRAMES)
    frames = {"Content-Type": "application/vnd.docker.multiplexed-stream"}
    posts: dict[str, Answer | Any] = {
        "/containers/create": created,
        "/containers/x/attach": stream,
        "/containers/x/wait": Answer.of({"StatusCode": 3}),
        "/containers/x/update": Answer.of({"Warnings": ["careful"]}),
        "/containers/x/exec": Answer.of({"Id": "e"}, 201),
        "/exec/e/start": lambda r: stream if not r.json["Detach"] else Answer(),
        "/containers/prune": Answer.of({"ContainersDeleted": [HEX], "SpaceReclaimed": 1234}),
        "/images/prune": Answer.of(
            {
                "ImagesDeleted": [{"Untagged": "a:b"}, {"Deleted": f"sha256:{HEX}"}],
                "SpaceReclaimed": 5,
            }
        ),
        "/networks/prune": Answer.of({"NetworksDeleted": ["n"]}),
        "/volumes/create": Answer.of({"Name": "v"}, 201),
        "/volumes/prune": Answer.of({"VolumesDeleted": ["v"], "SpaceReclaimed": 7}),
        "/build/prune": Answer.of({"CachesDeleted": None, "SpaceReclaimed": 0}),
        "/commit": Answer.of({"Id": f"sha256:{HEX}"}, 201),
        "/images/a/tag": Answer(201),
        "/images/load": Answer(
            200,
            b'{"stream":"Loaded image: a:b\\n"}\n',
            {"Content-Type": "application/json"},
        ),
        "/images/create": Answer(
            200,
            b'{"status":"Pulling from a","id":"latest"}\n'
            b'{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"l"}\n'
            b'{"status":"Status: done"}\n',
            {"Content-Type": "application/json"},
        ),
    }
    for verb in ("start", "stop", "kill", "restart", "pause", "unpause", "rename", "resize"):
        posts[f"/containers/x/{verb}"] = Answer(204)
    gets: dict[str, Answer | Any] = {
        "/containers/json": _containers,
        "/images/json": _images,
        "/images/a/history": _history,
        "/images/a/json": Answer.of({"Id": f"sha256:{HEX}", "RepoTags": ["a:b"], "Config": None}),
        "/containers/x/json": Answer.of(INSPECTED),
        "/containers/x/logs": Answer(200, FRAMES, frames),
        "/containers/x/changes": Answer.of(
            [{"Path": "/a", "Kind": 0}, {"Path": "/b", "Kind": 1}, {"Path": "/c", "Kind": 2}]
        ),
        "/containers/x/top": Answer.of(
            {
                "Titles": ["UID", "PID", "CMD"],
                "Processes": [["root", "1", "sh -c 'a long command'"]],
            }
        ),
        "/containers/x/stats": Answer.of(_stats("x")),
        "/containers/x/export": Answer(200, b"tar", {"Content-Type": "application/x-tar"}),
        "/images/get": Answer(200, b"tar", {"Content-Type": "application/x-tar"}),
        "/exec/e/json": Answer.of({"ID": "e", "Running": False, "ExitCode": 7}),
        "/events": Answer(
            200,
            json.dumps(
                {
                    "Type": "container",
                    "Action": "start",
                    "Actor": {"ID": HEX, "Attributes": {"name": "x", "b": "<1>"}},
                    "scope": "local",
                    "time": 1700000000,
                    "timeNano": 1700000000000000001,
                }
            ).encode()
            + b"\n",
            {"Content-Type": "application/json"},
        ),
        "/volumes/x": Answer.of({"Name": "x", "Driver": "local"}),
        "/volumes": Answer.of(
            {
                "Volumes": [
                    {"Name": "a", "Driver": "local"},
                    {"Name": "c", "Driver": "csi", "ClusterVolume": {"Spec": {"Group": "g"}}},
                ]
            }
        ),
        "/networks": Answer.of(
            [{"Id": HEX, "Name": "none", "Driver": "null", "Scope": "local"}],
        ),
    }
    for path, answer in posts.items():
        engine.route("POST", path, answer)
    for path, answer in gets.items():
        engine.route("GET", path, answer)
    engine.route("DELETE", "/containers/x", Answer(204))
    engine.route(
        "DELETE", "/images/a", Answer.of([{"Untagged": "a:b"}, {"Deleted": f"sha256:{HEX}"}])
    )


COMMANDS = (Path(__file__).parent / "golden" / "commands.txt").read_text().splitlines()


def observed(engine: FakeEngine, code: int, stdout: str, stderr: str) -> dict[str, Any]:
    """What is compared: the exit code, both streams, and what was asked of the engine."""
    asked: list[Any] = []
    for r in engine.requests:
        # Docker's client looks a container up before exec and logs; the engine's 404 says the same.
        if (r.method, r.path) == ("GET", "/containers/x/json"):
            continue
        query = {k: re.sub(r"^\d{9,}(\.\d+)?$", "TIME", v) for k, v in r.query.items()}
        body: Any = None
        if r.headers.get("content-type") == "application/json" and r.body:
            body = r.json
        elif r.body:
            body = r.body.decode("latin-1")
        asked.append([r.method, r.path, query, body])
    return {"code": code, "stdout": _timeless(stdout), "stderr": _timeless(stderr), "asked": asked}


def _timeless(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC", "WHEN", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "WHEN", text)
    return text.replace("docker", "wherry").replace("Docker", "wherry")


def docker_observed(line: str) -> dict[str, Any]:
    """Run the real client's command against the fixed engine."""
    with tempfile.TemporaryDirectory() as text:
        with FakeEngine(Path(text) / "s") as engine:
            lay_answers(engine)
            done = subprocess.run(
                ["docker", "-H", engine.url, *shlex.split(line)],
                capture_output=True,
                text=True,
                timeout=30,
                input="in",
                env=ENVIRONMENT,
            )
            return observed(engine, done.returncode, done.stdout, done.stderr)


def main() -> None:
    """Rewrite the recording."""
    with RECORDED.open("w") as out:
        for line in COMMANDS:
            out.write(json.dumps({"line": line, **docker_observed(line)}) + "\n")


if __name__ == "__main__":
    main()
