"""Records every verb of the real `docker` with its flags, by walking its help.

`python -m tests.cli.record_verbs` rewrites golden/verbs.json; a test compares wherry's own tables with it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from tests.harness.clients import find_docker

RECORDED = Path(__file__).parent / "golden" / "verbs.json"
# What belongs to swarms and plugins, and what is looked at by nothing else.
SWARM_AND_PLUGINS = ("config", "node", "secret", "service", "stack", "swarm", "plugin")
_FLAG = re.compile(r"^ {2,6}(?:-(\w), )?--([\w-]+)(?: (\S+))?(?: {2,}.*)?$")
# Of plugins, whose names bear an asterisk, other machines have others.
_VERB = re.compile(r"^  ([a-z][a-z-]*) +\S")
_HEADING = re.compile(r"^(\S.* )?[Cc]ommands:$")


class Verb(TypedDict):
    """One verb: its usage without the program's name, its flags (short form, whether it takes a value)."""

    usage: str
    flags: dict[str, tuple[str, bool]]
    aliases: list[str]


def read_verb(text: str) -> Verb:
    """Return what the help of a verb says."""
    usage = re.search(r"^Usage:  docker ?(.*)$", text, re.MULTILINE)
    aliases = re.search(r"^Aliases:\n  (.*)$", text, re.MULTILINE)
    flags = (_FLAG.match(line) for line in text.splitlines())
    return Verb(
        usage=usage[1] if usage else "",
        flags={found[2]: (found[1] or "", bool(found[3])) for found in flags if found},
        aliases=[word.removeprefix("docker ") for word in aliases[1].split(", ")]
        if aliases
        else [],
    )


def read_words(text: str) -> list[str]:
    """Return the verbs below a group that its help lists."""
    inside, found = False, list[str]()
    for line in text.splitlines():
        if line and not line.startswith(" "):
            inside = bool(_HEADING.match(line))
        match = _VERB.match(line)
        if inside and match:
            found.append(match[1])
    return found


def walk(docker: str, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Verb]]:
    """Yield every verb below `words`, and what its help says: first of all the program itself, as ""."""
    # To no engine: then nothing is hidden for being unknown to it.
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DOCKER_HOST": "unix:///nonexistent"}
    # And without buildx, which would take over `build` where it is installed.
    env["DOCKER_BUILDKIT"] = "0"
    done = subprocess.run(
        [docker, *words, "--help"], capture_output=True, text=True, timeout=30, env=env, check=True
    )
    below = read_words(done.stdout)
    if not below or not words:
        yield " ".join(words), read_verb(done.stdout)
    for word in below:
        if words or word not in SWARM_AND_PLUGINS:
            yield from walk(docker, (*words, word))


def main() -> None:
    """Rewrite the recording."""
    docker = find_docker()
    assert docker, "there is no docker client here"
    RECORDED.write_text(json.dumps(dict(walk(docker)), indent=1) + "\n")


if __name__ == "__main__":
    main()
