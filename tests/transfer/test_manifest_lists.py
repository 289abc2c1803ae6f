"""Manifest lists made by both clients: the same words, the same files, the same list in the registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.registry import (
    OCI_MANIFEST,
    DockerRegistry,
    fetch_digest,
    index_of,
    make_image,
    put_manifest,
    upload,
)

AMD = make_image([{"a": b"1"}])
ARM = make_image([{"b": b"2"}], architecture="arm64", variant="v8")
S390 = make_image([{"c": b"3"}], architecture="s390x", media_type=OCI_MANIFEST)
ELSEWHERE = "127.0.0.2:5000/x/list:1"
# HOST is the registry. One after the other: each finds what those before it left.
LINES = f"""
inspect HOST/x/a:1
inspect -v HOST/x/a:1
inspect HOST/x/c:1
inspect HOST/x/a:list
inspect -v HOST/x/a:list
inspect HOST/x/nosuch:1
create HOST/x/all:1 HOST/x/a:1 HOST/x/b:1
create HOST/x/all:1 HOST/x/a:1
create -a HOST/x/all:1 HOST/x/c:1
create HOST/x/l:1 HOST/x/a:list
create HOST/x/l:1 HOST/x/nosuch:1
create HOST/x/l:1
create UPPER x
annotate HOST/x/all:1 HOST/x/b:1 --os linux --arch arm --variant v7 --os-features x,y --os-version 10
annotate HOST/x/all:1 HOST/x/b:1 --os-features x --os-features z
annotate HOST/x/all:1 HOST/x/b:1 --arch nope
annotate HOST/x/all:1 HOST/x/nosuch:1 --arch arm
annotate nosuch HOST/x/a:1 --arch arm
inspect HOST/x/all:1
inspect -v HOST/x/all:1
inspect HOST/x/all:1 HOST/x/b:1
inspect HOST/x/all:1 nosuch
push HOST/x/all:1
push -p HOST/x/all:1
inspect HOST/x/all:1
push HOST/x/all:1
create HOST/x/a:own HOST/x/a:1
push HOST/x/a:own
create {ELSEWHERE} HOST/x/a:1
push {ELSEWHERE}
rm {ELSEWHERE} HOST/x/nosuch
create HOST/x/q HOST/x/a@{AMD.digest}
rm HOST/x/q nosuch
""".strip().splitlines()


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry where the shared engine and the clients of the test are."""
    assert engine.network is not None
    with engine.network.inside(), DockerRegistry(tmp_path / "registry") as registry:
        for name, image in (("a", AMD), ("b", ARM), ("c", S390)):
            upload(registry.base, f"x/{name}", image, "1")
        put_manifest(registry.base, "x/a", index_of((AMD, "amd64", "")), "list")
        yield registry


def _plain(text: str) -> str:
    return text.replace("docker: 'docker ", "wherry: 'wherry ")


def _done(client: Client, home: Path, line: str, host: str) -> tuple[int, str, str, dict[str, str]]:
    verb, *words = line.replace("HOST", host).split()
    # Docker's client asks by TLS alone unless it is told otherwise, the engine knows loopback.
    free = () if verb in ("annotate", "rm") else ("--insecure",)
    done = client("manifest", verb, *free, *words, check=False)
    files = {str(p.relative_to(home)): p.read_text() for p in home.rglob("*") if p.is_file()}
    return done.returncode, done.stdout, _plain(done.stderr), files


def test_lists_are_made_as_dockers_client_makes_them(
    docker: Client, wherry: Client, engine: Engine, registry: DockerRegistry, tmp_path: Path
) -> None:
    if docker.version < (25,):
        pytest.skip("an older client says some of it in other words")
    homes = {"docker": tmp_path / "d", "wherry": tmp_path / "w"}
    theirs = Client(docker.command, engine.host, homes["docker"])
    ours = Client(wherry.command, engine.host, homes["wherry"])
    for line in LINES:
        expected = _done(theirs, homes["docker"], line, registry.host)
        found = _done(ours, homes["wherry"], line, registry.host)
        # The help that is pointed to is each one's own.
        assert found[0] == expected[0], line
        assert found[1] == expected[1], line
        assert found[2].splitlines()[:1] == expected[2].splitlines()[:1], line
        assert found[3] == expected[3], line


def test_a_list_of_other_repositories_is_pulled_by_its_name(
    wherry: Client, engine: Engine, registry: DockerRegistry, tmp_path: Path
) -> None:
    own = Client(wherry.command, engine.host, tmp_path)
    name = f"{registry.host}/made/up/all:1"
    own("manifest", "create", name, f"{registry.host}/x/a:1", f"{registry.host}/x/b:1")
    digest = own("manifest", "push", "--purge", name).stdout.splitlines()[-1]
    assert fetch_digest(registry.base, "made/up/all", "1") == digest
    for platform, image in (("linux/arm64", ARM), ("linux/amd64", AMD)):
        own("pull", "--platform", platform, name)
        assert json.loads(own("inspect", name).stdout)[0]["Id"] == image.id
    own("rmi", "-f", name)
    assert own("manifest", "push", name, check=False).returncode == 1
