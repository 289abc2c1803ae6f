"""Every verb and flag of Docker's client is there, under the same names, outside swarm and plugins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.record_verbs import RECORDED, read_verb, read_words, walk
from tests.harness.clients import Client
from wherry.cli import start, tree
from wherry.cli.flags import Command
from wherry.cli.verbs import completion

VERBS: dict[str, Any] = json.loads(RECORDED.read_text())
# What Docker's client has and wherry has not, and why.
LEFT_OUT = {
    "trust": "Docker Content Trust: its service is being switched off, and Docker takes it out",
    "checkpoint": "an experimental daemon's alone, by CRIU; Docker refuses it as wherry does",
}
# Verbs of wherry's own.
OWN_VERBS = {
    "image bootstrap": "base images without a registry",
    "builder du": "what the build cache uses; with Docker it is buildx's",
    "completion": "Docker's client keeps it out of its help",
    "network repair": "rules and links anew that somebody took away",
    "manifest referrers": "signatures and bills of materials of an image",
    "registry serve": "the engine's own registry",
    "registry start": "the engine's own registry",
    "registry status": "the engine's own registry",
    "registry stop": "the engine's own registry",
    "system dial-stdio": "Docker's client keeps it out of its help",
}
_BUILDX = "with Docker it is buildx's"
_BUILD = (
    *(
        "allow",
        "annotation",
        "attest",
        "build-context",
        "cache-to",
        "call",
        "check",
        "cpus",
        "load",
    ),
    *("metadata-file", "no-cache-filter", "output", "pids-limit", "progress", "provenance"),
    *("push", "sbom", "secret", "ssh"),
)
# Flags of wherry's own, by the verb's longest name.
OWN_FLAGS = {
    "": {"no-start": "Docker's client cannot start an engine"},
    "image build": dict.fromkeys(_BUILD, _BUILDX),
    "builder build": dict.fromkeys(_BUILD, _BUILDX),
    "builder prune": dict.fromkeys(
        ("max-used-space", "min-free-space", "reserved-space", "verbose"), _BUILDX
    ),
    "inspect": {"plan": "the steps by which a container is started"},
}
# Flags of Docker's that wherry takes and does not show, for they do nothing.
NOT_SHOWN = (
    *("disable-content-trust", "kernel-memory", "isolation", "compress", "force-rm", "rm"),
    *("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "checkpoint", "checkpoint-dir"),
)


def command_at(path: str) -> Command | None:
    """wherry's command of that name, None where there is none."""
    words = path.split(" ")
    if words[0] in tree.GROUPS:
        entry = tree.entry_of(words[0], words[1]) if len(words) == 2 else None
    else:
        entry = tree.top_entry(words[0]) if len(words) == 1 else None
    return tree.load(entry) if entry else None


def _longest(path: str) -> str:
    return next(iter(tree.aliases(path)), path)


def _is_left_out(path: str) -> bool:
    return path.partition(" ")[0] in LEFT_OUT


def _flags_of(path: str) -> dict[str, Any]:
    command = command_at(path)
    flags = start.GLOBAL_FLAGS if path == "" else command.flags if command else ()
    return {flag.name: flag for flag in flags}


@pytest.mark.parametrize("path", [path for path in VERBS if not _is_left_out(path)])
def test_a_verb_takes_the_flags_that_dockers_takes(path: str) -> None:
    assert path == "" or command_at(path) is not None
    theirs = {name: tuple(kind) for name, kind in VERBS[path]["flags"].items() if name != "help"}
    flags = _flags_of(path)
    assert {
        name: (flag.short, flag.takes_value) for name, flag in flags.items() if name in theirs
    } == theirs
    own = {name for name, flag in flags.items() if name not in theirs and not flag.hidden}
    assert own == set(OWN_FLAGS.get(_longest(path), {}))
    for alias in VERBS[path]["aliases"]:
        assert command_at(alias) is command_at(path), alias


def test_verbs_of_wherrys_own_are_known() -> None:
    assert {path for path in completion.paths() if path not in VERBS} == {
        *OWN_VERBS,
        # Short names of grouped verbs, which Docker's help does not list below their group's.
        *(path for path in completion.paths() if _longest(path) in VERBS and path not in VERBS),
    }
    assert not [path for path in OWN_VERBS if path in VERBS]
    assert {path.partition(" ")[0] for path in VERBS if command_at(path) is None} - {""} == set(
        LEFT_OUT
    )


def test_what_is_left_out_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in LEFT_OUT:
        assert start.run([verb]) == 1
        assert f"'{verb}' is not in this version of wherry" in capsys.readouterr().err


def test_flags_are_hidden_for_a_reason() -> None:
    for path, verb in VERBS.items():
        if _is_left_out(path) or path == "":
            continue
        hidden = {f.name for f in _flags_of(path).values() if f.hidden and f.name in verb["flags"]}
        # No engine of wherry's is in a swarm, and to such Docker's client hides its flags too.
        assert path.startswith("volume ") or hidden <= set(NOT_SHOWN), path


def test_help_is_read() -> None:
    group = "Usage:  docker x COMMAND\n\nCommands:\n  ls   List\n\nRun 'docker x'\n"
    assert read_words(group) == ["ls"]
    verb = read_verb("Usage:  docker ls [X]\n\nOptions:\n  -a, --all   All\n      --f g   A f\n")
    assert verb["usage"] == "ls [X]"
    assert verb["flags"] == {"all": ("a", False), "f": ("", True)}


def test_the_recording_is_what_the_real_client_says(docker: Client) -> None:
    if docker.version[:2] != (28, 2):
        pytest.skip("another version than was recorded")
    assert json.loads(json.dumps(dict(walk(docker.command[0])))) == VERBS
