"""Records what the real `docker create` sends, or says, for every line of create-arguments.txt.

`python -m tests.cli.record_create` rewrites golden/create.jsonl; a test compares wherry with it, and
a sample of it with the `docker` client where there is one.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.cli.fake_engine import Answer, FakeEngine

HERE = Path(__file__).parent / "golden"
ARGUMENTS = HERE / "create-arguments.txt"
RECORDED = HERE / "create.jsonl"
ENVIRONMENT = {"HOME": "/root", "PATH": os.environ["PATH"]}
FILES = {
    "pairs.env": "A=1\n# c\nHOME\nB = x\n",
    "two.env": "A=file\nC=file\n",
    "labels": "L1=v\n#c\n\nL2\n",
    "seccomp.json": '{"defaultAction":"SCMP_ACT_ALLOW",\n "a": "<>&"}',
}


def lay_files(directory: Path) -> None:
    """Write the files that the arguments name."""
    for name, content in FILES.items():
        (directory / name).write_text(content)


def answer_creates(engine: FakeEngine) -> None:
    """Let every create succeed."""
    engine.route("POST", "/containers/create", Answer.of({"Id": "ab" * 32, "Warnings": []}, 201))


def delta(body: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The members of `body`, and of its HostConfig, that `base` has not; None-like for gone ones."""
    host, base_host = body["HostConfig"], base["HostConfig"]
    out = {key: body.get(key, "gone") for key in body | base if body.get(key) != base.get(key)}
    out["HostConfig"] = {
        key: host.get(key, "gone")
        for key in host | base_host
        if host.get(key) != base_host.get(key)
    }
    return out


def outcome(engine: FakeEngine, code: int, stderr: str, directory: Path) -> dict[str, Any]:
    """What is compared: the exit code, the first line said, the request."""
    creates = [r for r in engine.requests if r.path == "/containers/create"]
    said = stderr.split("\n", 1)[0] if code else ""
    return {
        "code": code,
        "error": said.removeprefix("docker: ").removeprefix("wherry: "),
        "query": creates[0].query if creates else None,
        "body": normal(creates[0].json, str(directory)) if creates else None,
    }


def normal(body: dict[str, Any], directory: str) -> dict[str, Any]:
    """The body with this run's directory named and with what Docker leaves unordered sorted."""
    body = json.loads(json.dumps(body).replace(directory, "{cwd}"))
    for holder, key in ((body, "Env"), (body["HostConfig"], "Binds")):
        if holder[key]:
            holder[key].sort()
    return body


def docker_outcome(arguments: list[str]) -> dict[str, Any]:
    """Run the real client in a fresh directory against a recording engine."""
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text).resolve()
        lay_files(directory)
        with FakeEngine(directory / "s") as engine:
            answer_creates(engine)
            done = subprocess.run(
                ["docker", "-H", engine.url, "create", *arguments],
                capture_output=True,
                text=True,
                timeout=30,
                stdin=subprocess.DEVNULL,
                cwd=directory,
                env=ENVIRONMENT,
            )
            return outcome(engine, done.returncode, done.stderr, directory)


def main() -> None:
    """Rewrite the recording: the plain body first, then what each line changes in it."""
    base = docker_outcome(["img"])["body"]
    with RECORDED.open("w") as out:
        out.write(json.dumps(base) + "\n")
        for line in ARGUMENTS.read_text().splitlines():
            arguments = shlex.split(line)
            record = {"arguments": arguments, **docker_outcome(arguments)}
            if record["body"] is not None:
                record["body"] = delta(record["body"], base)
            out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
