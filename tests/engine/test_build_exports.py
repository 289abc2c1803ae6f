"""What leaves the engine: indexes of platforms and attestations, pushes, caches in registries and folders."""

from __future__ import annotations

import json
import secrets
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.hosts import Host
from tests.harness.registry import DockerRegistry

# bcrypt of "secret", by `htpasswd -nbB user secret`.
HTPASSWD = "user:$2y$04$VEdIEBfvPO38kBs0OUZo7Oy7hnei9Rj/Js.lJejY5Wpms90nhCir.\n"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(autouse=True)
def wherrys_own(is_wherry: bool) -> None:
    """Docker has no such command."""
    if not is_wherry:
        pytest.skip("wherry's own command")


@pytest.fixture(scope="module")
def network(engine: Engine) -> Host:
    """The shared engine's host: registries live there too."""
    assert engine.network is not None
    return engine.network


def serve(network: Host, registry: DockerRegistry, stack: ExitStack) -> DockerRegistry:
    with network.inside():
        return stack.enter_context(registry)


@pytest.fixture(scope="module")
def registry(network: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Debian's docker-registry, beside the engine."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("registry")
        yield serve(network, DockerRegistry(folder), stack)


@pytest.fixture(scope="module")
def guarded(network: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """One that asks for a password."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("guarded")
        yield serve(network, DockerRegistry(folder, htpasswd=HTPASSWD), stack)


@pytest.fixture
def word() -> str:
    """A word of this test's alone."""
    return secrets.token_hex(6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project that needs no base image and runs nothing: any platform can be built."""
    made = tmp_path / "project"
    made.mkdir()
    (made / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /f\n")
    for name in ("amd64", "arm64"):
        (made / name).write_text(name)
    return made


def fetch(network: Host, registry: DockerRegistry, path: str) -> Any:
    """Return a manifest or a blob, decoded."""
    request = Request(f"{registry.base}/v2/{path}", headers={"Accept": f"{INDEX}, {MANIFEST}"})
    with network.inside(), urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def layout(path: Path) -> tuple[Any, Callable[[Any], Any]]:
    """Return what an OCI archive's index names, and a function from a descriptor to its document."""
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        data = {name: file.read() for name, file in files.items() if file}
    (root,) = json.loads(data["index.json"])["manifests"]

    def read(descriptor: Any) -> Any:
        return json.loads(data[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"])

    return root, read


def test_attestations_of_an_archive(
    wherry: Client, folder: Path, tmp_path: Path, word: str, busybox: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Arguments and steps are told, with the ids of secrets and nothing of their values."""
    (folder / "Dockerfile").write_text(
        f"FROM {busybox} AS build\nARG A\nRUN --mount=type=secret,id=key,env=KEY echo $A >/a\n"
        "FROM scratch\nCOPY --from=build /a /a\nCOPY status /var/lib/dpkg/status\n"
    )
    (folder / "status").write_text(
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2\n"
    )
    hidden = f"hidden-{word}"
    monkeypatch.setitem(wherry.env, "THE_KEY", hidden)
    archive, facts, iid = tmp_path / "a.tar", tmp_path / "facts", tmp_path / "iid"
    wherry(
        "build", "--provenance=mode=max,builder-id=https://b", "--sbom=true", "-t", f"{word}:1",
        "--secret", "id=key,env=THE_KEY", "--build-arg", "A=given", "--build-arg",
        f"http_proxy=http://{hidden}@proxy", "-o", f"type=oci,dest={archive}",
        "--metadata-file", str(facts), "--iidfile", str(iid), str(folder),
    )  # fmt: skip
    assert hidden.encode() not in archive.read_bytes() + facts.read_bytes()
    root, read = layout(archive)
    told = json.loads(facts.read_text())
    assert told["containerimage.digest"] == iid.read_text() == root["digest"]
    assert told["containerimage.descriptor"]["mediaType"] == root["mediaType"] == INDEX
    assert told["image.name"] == f"docker.io/library/{word}:1"
    assert "containerimage.config.digest" not in told
    image, attested = read(root)["manifests"]
    said = {one["predicateType"]: one for one in map(read, read(attested)["layers"])}
    sbom, made = said["https://spdx.dev/Document"], said["https://slsa.dev/provenance/v0.2"]
    for one in (sbom, made):
        (subject,) = one["subject"]
        assert subject["name"] == f"pkg:docker/{word}@1?platform=linux%2Famd64"
        assert f"sha256:{subject['digest']['sha256']}" == image["digest"]
    assert [one["name"] for one in sbom["predicate"]["packages"]] == ["bash"]
    predicate = made["predicate"]
    assert predicate["builder"] == {"id": "https://b"}
    assert [one["uri"] for one in predicate["materials"]] == [
        f"pkg:docker/{busybox.replace(':', '@')}?platform=linux%2Famd64"
    ]
    parameters = predicate["invocation"]["parameters"]
    assert parameters["args"] == {"build-arg:A": "given"}
    assert [one["id"] for one in parameters["secrets"]] == ["key"]
    steps = predicate["buildConfig"]["llbDefinition"]
    kinds = [next(iter(step["op"]["Op"]), "") for step in steps]
    assert kinds == ["source", "exec", "file", "source", "file", ""]
    assert steps[1]["inputs"] == ["step0:0"] and steps[4]["inputs"] == ["step2:0", "step3:0"]
    assert word not in wherry("images").stdout


def test_least_provenance_tells_no_values(wherry: Client, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    (folder / "Dockerfile").write_text("FROM scratch\nARG A\nCOPY amd64 /\n")
    wherry(
        "build", "--attest", "type=provenance,version=v1", "--build-arg", "A=given-away",
        "-o", f"type=oci,dest={archive}", str(folder),
    )  # fmt: skip
    assert b"given-away" not in archive.read_bytes().replace(b"ARG A=given-away", b"")
    root, read = layout(archive)
    (layer,) = read(read(root)["manifests"][1])["layers"]
    statement = read(layer)
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["configSource"] == {
        "path": "Dockerfile"
    }


def test_several_platforms_in_a_registry(
    wherry: Client, folder: Path, word: str, network: Host, registry: DockerRegistry
) -> None:
    name = f"{registry.host}/{word}:1"
    digest = wherry(
        "build", "-q", "--push", "--platform", "linux/amd64,linux/arm64", "--provenance=true",
        "--annotation", "index:about=all", "--annotation", "manifest[linux/arm64]:about=one",
        "-t", name, str(folder),
    ).stdout.strip()  # fmt: skip
    index = fetch(network, registry, f"{word}/manifests/1")
    assert index == fetch(network, registry, f"{word}/manifests/{digest}")
    assert index["annotations"] == {"about": "all"}
    assert [one["platform"]["architecture"] for one in index["manifests"]] == [
        "amd64", "arm64", "unknown", "unknown",
    ]  # fmt: skip
    manifests = [
        fetch(network, registry, f"{word}/manifests/{one['digest']}") for one in index["manifests"]
    ]
    assert [one.get("annotations") for one in manifests] == [None, {"about": "one"}, None, None]
    config = fetch(network, registry, f"{word}/blobs/{manifests[1]['config']['digest']}")
    assert config["architecture"] == "arm64"
    wherry("pull", "--platform", "linux/arm64", name)
    try:
        assert wherry.line("image", "inspect", "-f", "{{.Architecture}}", name) == "arm64"
    finally:
        wherry("rmi", "-f", name)


def test_one_failing_platform_ends_all(wherry: Client, folder: Path, tmp_path: Path) -> None:
    (folder / "arm64").unlink()
    done = wherry(
        "build", "--platform", "linux/amd64,linux/arm64", "-o", str(tmp_path / "out"), str(folder),
        check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "[linux/arm64 1/1] COPY arm64 /f" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_leaves_no_image(wherry: Client, folder: Path, tmp_path: Path, word: str) -> None:
    out = tmp_path / "out"
    wherry("build", "-t", f"{word}:1", "--provenance=true", "-o", str(out), str(folder))
    assert sorted(path.name for path in out.iterdir()) == ["f", "provenance.json"]
    assert wherry("image", "inspect", f"{word}:1", check=False).returncode == 1
    wherry("build", "-t", f"{word}:1", "-o", str(out), "-o", "type=image", str(folder))
    wherry("rmi", f"{word}:1")


def test_pushed_with_annotations_and_a_password(
    wherry: Client, folder: Path, word: str, guarded: DockerRegistry, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(wherry.env, "DOCKER_CONFIG", str(tmp_path / "config"))
    name = f"{guarded.host}/{word}:1"
    words = ("build", "--push", "-t", name, "--metadata-file", str(tmp_path / "facts"))
    done = wherry(*words, str(folder), check=False)
    assert done.returncode == 1 and "no basic auth credentials" in done.stderr
    wherry("login", "-u", "user", "--password-stdin", guarded.host, stdin="secret")
    try:
        wherry(*words, str(folder))
        plain = json.loads((tmp_path / "facts").read_text())
        wherry(*words, "--annotation", "a=b", str(folder))
        annotated = json.loads((tmp_path / "facts").read_text())
        assert plain["containerimage.config.digest"] == annotated["containerimage.config.digest"]
        assert plain["containerimage.digest"] != annotated["containerimage.digest"]
        # What was told is what is there.
        digests = wherry.line("image", "inspect", "-f", "{{json .RepoDigests}}", name)
        for told in (plain, annotated):
            assert f"{name.rpartition(':')[0]}@{told['containerimage.digest']}" in digests
    finally:
        wherry("rmi", "-f", name)


@pytest.mark.parametrize("where", ["registry", "local"])
def test_a_cache_elsewhere(
    wherry: Client, folder: Path, word: str, guarded: DockerRegistry, tmp_path: Path, where: str,
    monkeypatch: pytest.MonkeyPatch, busybox: str,
) -> None:  # fmt: skip
    """All stages and the cache mount come back; no image enters the store for it."""
    monkeypatch.setitem(wherry.env, "DOCKER_CONFIG", str(tmp_path / "config"))
    wherry("login", "-u", "user", "--password-stdin", guarded.host, stdin="secret")
    text = (
        f"FROM {busybox} AS one\nRUN --mount=type=cache,id={word},target=/c echo {word} >/c/f; echo >/1\n"
        f"FROM {busybox}\nCOPY --from=one /1 /\n"
    )
    (folder / "Dockerfile").write_text(text)
    place = {"registry": f"ref={guarded.host}/{word}:cache", "local": f"dest={tmp_path}/c"}[where]
    before = set(wherry("images", "-aq").stdout.split())
    words = ("build", "-o", "type=cacheonly")
    wherry(*words, "--cache-to", f"type={where},mode=max,mounts=true,{place}", str(folder))
    wherry("builder", "prune", "-af")
    (folder / "Dockerfile").write_text(
        text + f"RUN --mount=type=cache,id={word},target=/c cat /c/f\n"
    )
    place = place.replace("dest=", "src=")
    err = wherry(*words, "--cache-from", f"type={where},{place}", str(folder)).stderr
    assert err.count(" CACHED\n") == 2 and f" {word}\n" in err and "[Warning]" not in err
    assert set(wherry("images", "-aq").stdout.split()) == before


def test_a_cache_within_the_image(
    wherry: Client, folder: Path, word: str, registry: DockerRegistry, busybox: str
) -> None:
    (folder / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo {word} >/f\nCOPY amd64 /\n")
    name = f"{registry.host}/{word}:1"
    wherry("build", "--push", "--cache-to", "type=inline", "-t", name, str(folder))
    wherry("rmi", "-f", name)
    wherry("builder", "prune", "-af")
    err = wherry("build", "--cache-from", name, str(folder)).stderr
    assert err.count(" CACHED\n") == 2


def test_a_cache_that_cannot_be_had_or_given(wherry: Client, folder: Path, word: str) -> None:
    nowhere = f"127.0.0.1:1/{word}"
    done = wherry("build", "--cache-from", nowhere, str(folder))
    assert f"[Warning] cache registry {nowhere} could not be imported" in done.stderr
    to = f"type=registry,ref={nowhere}"
    assert wherry("build", "--cache-to", to, str(folder), check=False).returncode == 1
    done = wherry("build", "--cache-to", f"{to},ignore-error=true", str(folder))
    assert "could not be exported" in done.stderr


def test_a_layout_and_a_folder_as_base(
    wherry: Client, folder: Path, tmp_path: Path, word: str
) -> None:
    """What was written comes back: of an index each platform its own image; a folder is its files."""
    both = ("build", "-q", "--platform", "linux/amd64,linux/arm64")
    layout = tmp_path / "layout"
    wherry(
        *both,
        "--provenance=true",
        "-t",
        "x:1",
        "-o",
        f"type=oci,tar=false,dest={layout}",
        str(folder),
    )
    (folder / "Dockerfile").write_text("FROM base\nCOPY amd64 /more\n")
    out = tmp_path / "out"
    wherry(*both, "--build-context", f"base=oci-layout://{layout}:1", "-o", str(out), str(folder))
    for name in ("amd64", "arm64"):
        assert (out / f"linux_{name}/f").read_text() == name
        assert (out / f"linux_{name}/more").read_text() == "amd64"
    missing = wherry(
        "build", "--build-context", f"base=oci-layout://{layout}:2", str(folder), check=False
    )
    assert "No such image in the OCI layout: 2" in missing.stderr
    (tmp_path / "base/sub").mkdir(parents=True)
    (tmp_path / "base/sub/f").write_text(word)
    (tmp_path / "base/left").write_text("")
    (tmp_path / "base/.dockerignore").write_text("left\n")
    err = wherry(
        "build", "--build-context", f"base={tmp_path / 'base'}", "-o", str(tmp_path / "two"), str(folder)
    ).stderr  # fmt: skip
    assert "[context base] load from client" in err
    assert (tmp_path / "two/sub/f").read_text() == word
    assert not (tmp_path / "two/left").exists() and (tmp_path / "two/more").exists()
