"""Credentials as config.json and helpers keep them: helpers that fail, and settings of any shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wherry.cli import credentials
from wherry.cli.configuration import Configuration
from wherry.cli.credentials import Store, all_headers
from wherry.cli.failure import Failure

HOST = "reg.example"
HELPERS = {
    "hangs": "#!/bin/sh\nexec sleep 60\n",
    "fails": "#!/bin/sh\necho it is locked; exit 1\n",
    "babbles": "#!/bin/sh\nhead -c 5000000 /dev/zero\n",
    "lists": '#!/bin/sh\necho "[1]"\n',
    "counts": '#!/bin/sh\necho \'{"Username": 5, "Secret": null}\'\n',
    "is-no-program": "words",
    "is-broken": "\x7fELF",
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in HELPERS.items():
        program = folder / f"docker-credential-{name}"
        program.write_text(text)
        program.chmod(0o644 if name == "is-no-program" else 0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(credentials, "_HELPER_SECONDS", 0.5)
    return Store(Configuration(str(tmp_path)))


def configured(store: Store, document: object) -> Configuration:
    configuration = store._configuration  # pyright: ignore[reportPrivateUsage]
    Path(configuration.path).write_text(json.dumps(document))
    return configuration


@pytest.mark.parametrize(
    ("helper", "words"),
    [
        ("hangs", "took longer than 0.5 seconds"),
        ("fails", "it is locked"),
        ("babbles", "no JSON object"),
        ("lists", "no JSON object"),
        ("counts", "no text"),
        ("is-no-program", "cannot be run|not on PATH"),
        ("is-broken", "cannot be run: Exec format error"),
        ("is-nowhere", "not on PATH"),
        ("../bin/fails", "no name of a credential helper"),
    ],
)
def test_a_helper_that_fails_is_named_and_stops_no_build(
    store: Store, helper: str, words: str
) -> None:
    configuration = configured(store, {"credHelpers": {HOST: helper}})
    with pytest.raises(Failure, match=words) as caught:
        store.get(HOST)
    assert helper in str(caught.value)
    assert all_headers(configuration) == {}


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ({"auth": "dTpwOng="}, {"username": "u", "password": "p:x"}),
        ({"auth": "bm9jb2xvbg=="}, {"username": "nocolon"}),
        ({"auth": 5}, {}),
        ({"auth": "%%"}, {}),
        ({"auth": "/w=="}, {}),
        ({"auth": "dTpw", "identitytoken": 7, "password": [1]}, {"username": "u", "password": "p"}),
        ({"username": "u", "password": "p"}, {"username": "u", "password": "p"}),
        ([], {}),
        (None, {}),
    ],
)
@pytest.mark.parametrize("name", [HOST, f"https://{HOST}/v2/", f"http://{HOST}"])
def test_entries_of_any_shape(store: Store, name: str, kept: object, found: dict[str, str]) -> None:
    configured(store, {"auths": {name: kept}})
    assert store.get(HOST) == (found | {"serveraddress": HOST} if found else {})
