"""Mistakes in every parameter and filter are told as Docker tells them, or better."""

from __future__ import annotations

import json

import pytest

from tests.engine.mistakes import OURS, RECORD, Said, ask_all

DOCKER: Said = json.loads(RECORD.read_text())
OWN: Said = json.loads(OURS.read_text())


@pytest.fixture(scope="module")
def said(engine_host: str, busybox: str) -> Said:
    """What the engine under test says to every mistake."""
    return ask_all(engine_host.removeprefix("unix://"), busybox)


def test_all_is_answered_as_docker_does(said: Said) -> None:
    wrong = {
        asked: (answer, OWN.get(asked, DOCKER[asked]))
        for asked, answer in said.items()
        if answer != OWN.get(asked, DOCKER[asked])
    }
    assert not wrong, "said, expected:\n" + "\n".join(f"{a}: {b}" for a, b in wrong.items())


def test_no_mistake_is_the_engines_fault(said: Said) -> None:
    """Docker calls some of them 500, wherry never does."""
    blamed = {asked: answer for asked, answer in said.items() if answer[0] in (0, 500)}
    assert not blamed


def test_what_differs_is_known_to_differ() -> None:
    assert OWN.keys() <= DOCKER.keys()
    assert not [asked for asked in OWN if OWN[asked] == DOCKER[asked]]
