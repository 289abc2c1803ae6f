"""Command lines of the docker client, scene by scene, and what they print and exit with on an engine.

A scene is a file in `scenes/`: one shell command a line, run in a folder of its own with the image in `$I` and
a prefix for names in `$N`. Lines that begin with `-` prepare and are not recorded. What a scene made below
`$N` is removed at its end. `python -m tests.engine.scenes HOST IMAGE [SCENE…]` records a Docker's answers;
with `--ours` it keeps where a wherry's differ, each with a reason that is written into the record by hand.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.engine.plain import plain

HERE = Path(__file__).with_name("scenes")
RECORD = Path(__file__).with_name("recorded") / "scenes.json"
OURS = Path(__file__).with_name("recorded") / "scenes_ours.json"
SECONDS = 60.0
"""For one line; all of them end by themselves, far sooner."""

Said = list[list[str]]
"""Command, exit code, standard output, standard error; a scene's, in order."""

_VARYING = [
    # The names of the parts that a message went through.
    (re.compile(r"failed to create task for container: failed to create shim task: "), ""),
    (re.compile(r"OCI runtime create failed: runc create failed: "), ""),
    (re.compile(r"unable to start container process: (error during container init: )?"), ""),
    (re.compile(r"(, dstFd=)?/proc/(thread-)?self/fd/\d+"), ""),
    (re.compile(r"/var/(lib/docker|tmp/wherry-\w+/data)/"), "ROOT/"),
    (re.compile(r"mount src=[^:]*: "), ""),
    (re.compile(r"/wherry/[0-9a-f]{8}/"), "/wherry/ENGINE/"),
    # The client's own race: it says this or not.
    (re.compile(r'time="\S+" level=error msg="Can\'t (add file|close tar writer)[^\n]*'), ""),
]


def names() -> list[str]:
    """Return the scenes there are."""
    return sorted(path.stem for path in HERE.glob("*.txt"))


def lines(scene: str) -> Iterator[str]:
    """Yield a scene's commands."""
    for line in (HERE / f"{scene}.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            yield line


class Stage:
    """Plays scenes on one engine with one client."""

    def __init__(self, host: str, image: str, client: str) -> None:
        self.host = host
        self.image = image
        self.client = client

    def play(self, scene: str) -> Said:
        """Run a scene from its first line to its last; return what was recorded."""
        prefix = f"sc{secrets.token_hex(3)}"
        folder = Path(tempfile.mkdtemp(prefix="scene-", dir="/tmp"))
        said: Said = []
        try:
            for line in lines(scene):
                done = self._run(line.removeprefix("-").strip(), folder, prefix)
                if not line.startswith("-"):
                    shown = (self.plain(text, folder, prefix) for text in (done[1], done[2]))
                    said.append([line, str(done[0]), *shown])
        finally:
            self._run(_CLEAN, folder, prefix)
            shutil.rmtree(folder, ignore_errors=True)
        return said

    def _run(self, line: str, folder: Path, prefix: str) -> tuple[int, str, str]:
        home = folder / ".home"
        home.mkdir(exist_ok=True)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "WHERRY_"))}
        env |= {"DOCKER_HOST": self.host, "HOME": str(home), "I": self.image, "N": prefix,
                "TZ": "UTC", "LC_ALL": "C.UTF-8",
                # A buildx that is installed on the machine would take the client's builds over.
                "DOCKER_BUILDKIT": "0"}  # fmt: skip
        script = f'docker() {{ "{self.client}" "$@"; }}\n{_PRELUDE}\n{line}'
        try:
            done = subprocess.run(
                ["bash", "-c", script], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return -1, "", "waits"
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return done.returncode, out, err

    def plain(self, text: str, folder: Path, prefix: str) -> str:
        """Return the text without what may differ from one call, day or machine to the next."""
        text = text.replace(prefix.upper(), "N").replace(prefix, "N").replace(str(folder), "FOLDER")
        text = text.replace(self.image, "IMAGE").replace(self.image.partition(":")[0], "IMAGE")
        for pattern, word in _VARYING:
            text = pattern.sub(word, text)
        text = re.sub(r"[ \t]+", " ", plain(text))
        return "\n".join(line.strip() for line in text.splitlines() if line.strip())


_PRELUDE = """
# awaiting NAME CONDITION: ask for it, and go on when the engine has begun to answer; the answer is in `out`.
# What curl writes of itself is not buffered, unlike what it has got.
awaiting() {
  : >out; : >asked
  curl -svN -m 30 --unix-socket "${DOCKER_HOST#unix://}" -XPOST \\
    "http://engine/v1.51/containers/$1/wait?condition=$2" >out 2>asked &
  until grep -q '^< HTTP' asked; do sleep 0.02; done
}
# until_is WORD COMMAND…: go on when the command prints just that.
until_is() { until [ "$("${@:2}")" = "$1" ]; do sleep 0.05; done; }
# until_logged NAME NUMBER: go on when the engine has kept so many lines of the container's.
until_logged() { until [ "$(docker logs "$1" 2>&1 | wc -l)" = "$2" ]; do sleep 0.05; done; }
"""
_CLEAN = """
c=$(docker ps -aq --filter name=$N); [ -z "$c" ] || docker rm -fv $c
list() { docker images --format "{{.Repository}}:{{.Tag}}" --filter "reference=$1"; }
for i in $(list "$N*"; list "$N*/*/*"); do docker rmi -f $i; done
for v in $(docker volume ls -q --filter name=$N); do docker volume rm -f $v; done
for n in $(docker network ls -q --filter name=$N); do docker network rm $n; done
"""


def read(record: Path) -> dict[str, Said]:
    """Return what is recorded."""
    return json.loads(record.read_text()) if record.exists() else {}


def differences(said: Said, docker: Said, known: Said) -> Said:
    """Return the lines that differ from Docker's, with the reasons that are known for them."""
    reasons = {entry[0]: entry[4] for entry in known}
    return [
        [*now, reasons.get(now[0], "")]
        for now, then in zip(said, docker, strict=True)
        if now != then
    ]


def main(host: str, image: str, *wanted: str) -> None:
    """Record."""
    ours = "--ours" in wanted
    target = OURS if ours else RECORD
    kept = read(target)
    for scene in [name for name in wanted if not name.startswith("-")] or names():
        said = Stage(host, image, shutil.which("docker") or "docker").play(scene)
        kept[scene] = differences(said, read(RECORD)[scene], kept.get(scene, [])) if ours else said
    kept = {name: kept[name] for name in sorted(kept) if name in names() and kept[name]}
    target.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
