"""docs/compatibility.md: every route and every command with its state, out of what the tests hold.

`python -m tests.contract.compatibility` writes it; `tests/gates/test_compatibility.py` sees that it is current.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from wherry.cli.verbs import completion

HERE = Path(__file__).parent
TESTS = HERE.parent
PAGE = TESTS.parent / "docs" / "compatibility.md"
OPERATIONS = HERE / "operations.txt"
UNCOVERED = HERE / "uncovered.txt"
# `docker --help` and the like of 28.2, outside swarm (config, node, secret, service, stack, swarm), plugins,
# trust and checkpoints.
DOCKER = """
attach build builder:prune builder:build commit cp create diff events exec export history images import
info inspect kill load login logout logs pause port ps pull push rename restart rm rmi run save search
start stats stop tag top unpause update version wait
container:attach container:commit container:cp container:create container:diff container:exec
container:export container:inspect container:kill container:logs container:ls container:pause
container:port container:prune container:rename container:restart container:rm container:run
container:start container:stats container:stop container:top container:unpause container:update
container:wait context:create context:export context:import context:inspect context:ls context:rm
context:show context:update context:use image:build image:history image:import image:inspect image:load
image:ls image:prune image:pull image:push image:rm image:save image:tag manifest:annotate
manifest:create manifest:inspect manifest:push manifest:rm network:connect network:create
network:disconnect network:inspect network:ls network:prune network:rm system:df system:events
system:info system:prune volume:create volume:inspect volume:ls volume:prune volume:rm volume:update
"""
_SHORT = {"container ls": ["ps"], "image ls": ["images"], "image rm": ["rmi"]}
_HEAD = """# Compatibility

What of Docker's API and command line is here. Made by `python -m tests.contract.compatibility` from what the
tests hold; a gate sees that it is current. Versions 1.24 to 1.51 of the API are spoken, each with its own
shapes: `tests/engine/test_versions.py` holds them against a recording of Docker 28.5.

## Routes

*checked*: a real answer is held against the schema of the OpenAPI file of API 1.51 by `tests/contract`.
*no swarm*: answers as a Docker Engine that is in no swarm and has no plugins.

| route | state |
|---|---|
"""
_CLIENTS = """
## Clients

Unmodified, told of the engine by `DOCKER_HOST` alone.

| client | what it does in the tests | where |
|---|---|---|
"""
_DRIVEN = (
    (
        "docker 20.10, 26.1, 28.2",
        "a life, terminals, streams, copies, builds, networks, volumes",
        "clients_docker",
    ),
    (
        "Docker Compose 2.26",
        "a project comes up, is worked in, changed, built, and goes",
        "clients_compose",
    ),
    (
        "docker-py 7",
        "containers, images, builds, registries, networks, volumes, prunes",
        "docker_py",
    ),
    (
        "testcontainers-python 4",
        "with its reaper: containers, ports, logs; what a killed run leaves",
        "clients_testcontainers",
    ),
    (
        "aiodocker",
        "a life, streams, archives, volumes, networks, images, events",
        "clients_aiodocker",
    ),
    (
        "a CI runner's way",
        "a job's network, services, helper, steps and what is cleared away",
        "clients_runner",
    ),
)
_MIDDLE = """
## Commands

*called*: a test calls it, under this name or its short one, on a real engine or on one that records; of the others
the flags, help and completion are held against Docker's. Swarm's commands, plugins, trust and checkpoints are left
out.

| `docker` … | in `wherry` | tests |
|---|---|---|
"""


def reasons() -> dict[str, str]:
    """Return the operations that no test sees succeed, each with why."""
    found: dict[str, str] = {}
    why = ""
    for line in UNCOVERED.read_text().splitlines():
        if line.startswith("#"):
            why = line.lstrip("# ")
        elif line:
            found[line] = why
    return found


def _routes() -> Iterator[str]:
    missing = reasons()
    for line in OPERATIONS.read_text().splitlines():
        name, _, mark = line.partition("\t")
        state = missing.get(name) or ("no swarm" if mark else "checked")
        yield f"| `{name}` | {state} |"


def _clients() -> Iterator[str]:
    for name, what, module in _DRIVEN:
        files = sorted(path.name for path in TESTS.glob(f"engine/test_*{module}*.py"))
        assert files, f"no test of {name}"
        yield f"| {name} | {what} | {', '.join(f'`{file}`' for file in files)} |"


def _commands() -> Iterator[str]:
    here = set(completion.paths())
    modules = [
        path.read_text() for path in sorted(TESTS.rglob("test_*.py")) if path.parent.name != "gates"
    ]
    for name in DOCKER.split():
        words = name.replace(":", " ")
        there = "yes" if words in here else "not yet"
        tested = "called" if _is_called(words.split(), modules) else "flags and help"
        yield f"| `{words}` | {there} | {tested if words in here else ''} |"


def _is_called(words: Sequence[str], modules: list[str]) -> bool:
    """Whether a test calls the command, by this name or as the short one that is the same code."""
    ways = [words, words[1:]] if words[0] in ("container", "image", "system") else [words]
    ways += [_SHORT[" ".join(words)]] if " ".join(words) in _SHORT else []
    for way in filter(None, ways):
        called = r"\w\(\s*" + r",\s*".join(f'"{word}"' for word in way) + r"[,)\s]"
        if any(re.search(called, text) for text in modules):
            return True
    return False


def render() -> str:
    """Return the page."""
    clients = _CLIENTS + "\n".join(_clients()) + "\n"
    return _HEAD + "\n".join(_routes()) + "\n" + clients + _MIDDLE + "\n".join(_commands()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
