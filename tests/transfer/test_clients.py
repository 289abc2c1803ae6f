"""Both clients against Debian's docker-registry: pull, push, run, login, search; skopeo on the other side."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.engine.terminal import Terminal
from tests.harness.clients import Client
from tests.harness.engine import Engine
from tests.harness.hosts import Host
from tests.harness.registry import (
    DockerRegistry,
    digest_of,
    fetch_digest,
    free_port,
    index_of,
    make_image,
    put_manifest,
    upload,
)
from tests.transfer.liar import Liar

# bcrypt of "secret", by `htpasswd -nbB user secret`.
HTPASSWD = "user:$2y$04$VEdIEBfvPO38kBs0OUZo7Oy7hnei9Rj/Js.lJejY5Wpms90nhCir.\n"


@pytest.fixture(scope="module")
def network(engine: Engine) -> Host:
    """The shared engine's host: registries and clients of these tests live there too."""
    assert engine.network is not None
    return engine.network


@pytest.fixture(autouse=True)
def on_the_engine_s_host(network: Host) -> Iterator[None]:
    with network.inside():
        yield


@contextmanager
def served(network: Host, registry: DockerRegistry) -> Iterator[DockerRegistry]:
    """Have a registry serve on the host."""
    with ExitStack() as stack:
        with network.inside():
            stack.enter_context(registry)
        yield registry


@pytest.fixture(scope="module")
def registry(network: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with served(network, DockerRegistry(tmp_path_factory.mktemp("registry"))) as registry:
        yield registry


@pytest.fixture(params=["docker", "wherry"])
def cli(request: pytest.FixtureRequest, docker: Client, wherry: Client) -> Client:
    return {"docker": docker, "wherry": wherry}[request.param]


@pytest.fixture(scope="module")
def guarded(network: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A docker-registry that wants a name and a password."""
    folder = tmp_path_factory.mktemp("guarded")
    with served(network, DockerRegistry(folder, htpasswd=HTPASSWD)) as registry:
        yield registry


@pytest.fixture
def own(cli: Client, engine: Engine, tmp_path: Path) -> Client:
    """The client with a configuration of its own."""
    return Client(cli.command, engine.host, tmp_path)


def name_of(cli: Client, registry: DockerRegistry, rest: str) -> str:
    return f"{registry.host}/{Path(cli.command[0]).name}/{rest}"


def test_push_pull_and_run(cli: Client, busybox: str, registry: DockerRegistry) -> None:
    name = name_of(cli, registry, "box:v1")
    cli("tag", busybox, name)
    identifier = cli.line("inspect", "-f", "{{.Id}}", name)
    pushed = cli("push", name).stdout
    repository = name.removesuffix(":v1")
    assert f"The push refers to repository [{repository}]" in pushed
    digest = fetch_digest(registry.base, repository.partition("/")[2], "v1")
    assert f"v1: digest: {digest} size: " in pushed
    assert "Layer already exists" in cli("push", name).stdout
    assert digest in cli.line("images", "--digests", repository)
    assert cli.line("inspect", "-f", "{{json .RepoDigests}}", name) == json.dumps(
        [f"{repository}@{digest}"]
    )
    cli("rmi", name)
    by_digest = f"{repository}@{digest}"
    assert "Image is up to date" not in cli("pull", by_digest).stdout
    pulled = cli("pull", name).stdout
    assert f"Digest: {digest}" in pulled
    assert cli.line("inspect", "-f", "{{.Id}}", name) == identifier
    assert f"Status: Image is up to date for {name}" in cli("pull", name).stdout
    words = ["run", "--rm", "--network", "none", by_digest, "echo", "it runs"]
    assert cli.line(*words) == "it runs"
    cli("rmi", name)


def test_what_is_missing_is_pulled(cli: Client, busybox: str, registry: DockerRegistry) -> None:
    name = name_of(cli, registry, "missing:1")
    cli("tag", busybox, name)
    cli("push", "-q", name)
    cli("rmi", name)
    words = ["--rm", "--network", "none", name, "echo", "there"]
    done = cli("run", "--pull", "never", *words, check=False)
    assert done.returncode == 125 and "No such image" in done.stderr
    done = cli("run", *words)
    assert done.stdout.strip() == "there"
    assert f"Unable to find image '{name}' locally" in done.stderr
    assert f"Status: Downloaded newer image for {name}" in done.stderr
    assert "Image is up to date" in cli("run", "--pull", "always", *words).stderr
    assert cli("run", *words).stderr == ""
    cli("rmi", name)
    container = cli.line("create", "-q", "--network", "none", name, "true")
    cli("rm", container)
    cli("rmi", name)


def test_all_tags(cli: Client, registry: DockerRegistry) -> None:
    path = f"{Path(cli.command[0]).name}/tags"
    for tag in ("a", "b"):
        upload(registry.base, path, make_image([{"tag": tag.encode()}]), tag)
    name = f"{registry.host}/{path}"
    out = cli("pull", "-a", name).stdout
    assert "a: Pulling from" in out and "b: Pulling from" in out
    assert f"Status: Downloaded newer image for {name}" in out
    cli("tag", f"{name}:a", f"{name}:c")
    assert "c: digest: " in cli("push", "-a", name).stdout
    assert fetch_digest(registry.base, path, "c") == fetch_digest(registry.base, path, "a")
    cli("rmi", *(f"{name}:{tag}" for tag in "abc"))


def test_a_platform_is_chosen(cli: Client, registry: DockerRegistry) -> None:
    path = f"{Path(cli.command[0]).name}/platforms"
    amd, arm = make_image([{"m": b"amd"}]), make_image([{"m": b"arm"}], architecture="arm64")
    for image in (amd, arm):
        upload(registry.base, path, image, image.digest)
    put_manifest(registry.base, path, index_of((amd, "amd64", ""), (arm, "arm64", "v8")), "1")
    name = f"{registry.host}/{path}:1"
    cli("pull", name)
    assert cli.line("inspect", "-f", "{{.Id}} {{.Architecture}}", name) == f"{amd.id} amd64"
    cli("pull", "--platform", "linux/arm64", name)
    assert cli.line("inspect", "-f", "{{.Id}} {{.Architecture}}", name) == f"{arm.id} arm64"
    done = cli("pull", "--platform", "linux/s390x", name, check=False)
    assert "no matching manifest for linux/s390x in the manifest list entries" in done.stderr
    cli("rmi", "-f", arm.id, amd.id)


def test_refusals_are_docker_s(
    cli: Client, registry: DockerRegistry, guarded: DockerRegistry
) -> None:
    missing = f"{registry.host}/no/such:tag"
    done = cli("pull", missing, check=False)
    assert done.returncode == 1
    assert f"manifest for {missing} not found: manifest unknown: manifest unknown" in done.stderr
    done = cli("pull", f"{guarded.host}/x:1", check=False)
    assert "no basic auth credentials" in done.stderr
    done = cli("push", f"{registry.host}/no/image:1", check=False)
    assert "An image does not exist locally with the tag" in done.stderr
    done = cli("pull", "127.0.0.1:1/x", check=False)
    assert "connection refused" in done.stderr


def test_login_push_pull_logout(own: Client, busybox: str, guarded: DockerRegistry) -> None:
    wrong = own("login", "-u", "user", "--password-stdin", guarded.host, stdin="no", check=False)
    assert wrong.returncode == 1 and "unauthorized" in wrong.stderr.lower()
    done = own("login", "-u", "user", "--password-stdin", guarded.host, stdin="secret\n")
    assert "Login Succeeded" in done.stdout
    kept = json.loads((Path(own.env["DOCKER_CONFIG"]) / "config.json").read_text())
    assert list(kept["auths"]) == [guarded.host]
    name = name_of(own, guarded, "kept:1")
    own("tag", busybox, name)
    own("push", name)
    own("rmi", name)
    own("pull", name)
    own("rmi", name)
    assert f"Removing login credentials for {guarded.host}" in own("logout", guarded.host).stdout
    assert own("pull", name, check=False).returncode == 1


def test_a_credential_helper_is_asked(own: Client, guarded: DockerRegistry, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-tests"
    helper.write_text(
        "#!/bin/sh\n"
        f'store={tmp_path}/kept\ncase $1 in\nstore) cat >"$store";;\n'
        'get) [ -e "$store" ] && cat "$store" || { echo credentials not found in native keychain;'
        ' exit 1; };;\nerase) rm -f "$store";;\nesac\n'
    )
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {guarded.host: "tests"}}))
    own.env["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    assert own("pull", f"{guarded.host}/x:1", check=False).returncode == 1
    own("login", "-u", "user", "--password-stdin", guarded.host, stdin="secret")
    assert json.loads((tmp_path / "kept").read_text())["Secret"] == "secret"
    assert "secret" not in (tmp_path / "config.json").read_text()
    done = own("pull", f"{guarded.host}/x:1", check=False)
    assert "manifest unknown" in done.stderr
    own("logout", guarded.host)
    assert not (tmp_path / "kept").exists()


def test_search_lists_a_registry_s_catalog(cli: Client, registry: DockerRegistry) -> None:
    upload(registry.base, "search/needle", make_image([{"x": b"x"}]), "1")
    out = cli("search", f"{registry.host}/needle").stdout
    assert f"{registry.host}/search/needle" in out


FOUND = [
    {"name": "a/x", "description": "one\ntwo", "star_count": 5, "is_official": True},
    {"name": "b/x", "description": "long " * 20, "star_count": 50, "is_automated": True},
    {"name": "c/x", "star_count": 1},
    "no repository",
]


@pytest.fixture
def searched(network: Host) -> Iterator[Liar]:
    """A registry with the search of version 1, which asks for no more than `n` results."""

    def answer(handler: Any) -> bool:
        n = int(parse_qs(urlsplit(handler.path).query)["n"][0])
        return handler.answer(200, json.dumps({"results": FOUND[:n]}).encode())

    with Liar() as liar:
        liar.lie("/v1/_ping", lambda handler: handler.answer(200, b"true"))
        liar.lie("/v1/search", answer)
        yield liar


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["a/x", "b/x", "c/x"]),
        (("--limit", "1"), ["a/x"]),
        (("--limit", "0"), ["a/x", "b/x", "c/x"]),
        (("--filter", "stars=5"), ["a/x", "b/x"]),
        (("--filter", "stars=1", "--filter", "stars=10"), ["b/x"]),
        (("--filter", "is-official=true"), ["a/x"]),
        (("--filter", "is-official=0"), ["b/x", "c/x"]),
        (("--filter", "is-automated=true"), []),
        (("--filter", "is-official=1", "--filter", "stars=6"), []),
    ],
)
def test_search(cli: Client, searched: Liar, words: tuple[str, ...], names: list[str]) -> None:
    """What Docker 28.5 finds with the same server, in the server's order."""
    out = cli("search", *words, "--format", "{{.Name}}", f"{searched.host}/x").stdout
    assert out.split() == names
    assert searched.count("GET", r"/v1/search\?q=x&n=(1|25)$") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit", "101"), "limit 101 is outside the range of [1, 100]"),
        (("--filter", "color=red"), "invalid filter 'color'"),
        (("--filter", "is-official=maybe"), "invalid filter 'is-official=[maybe]'"),
        (("--filter", "stars=x"), "invalid filter 'stars=x': strconv.Atoi: parsing \"x\": inv"),
    ],
)
def test_searches_that_are_refused(
    cli: Client, searched: Liar, words: tuple[str, ...], said: str
) -> None:
    done = cli("search", *words, f"{searched.host}/x", check=False)
    assert done.returncode == 1 and said in done.stderr
    assert not searched.count("GET", "/v1/search")


def test_a_search_is_shown(docker: Client, wherry: Client, searched: Liar) -> None:
    for words in ((), ("--no-trunc",), ("--format", "json")):
        shown = [c("search", *words, f"{searched.host}/x").stdout for c in (docker, wherry)]
        assert shown[0] == shown[1] and "[OK]" in shown[0] or '"true"' in shown[0]
    refused = docker("search", f"http://{searched.host}/x", check=False).stderr
    assert f"repository name (http://{searched.host}/x) should not have a scheme" in refused


def test_manifests_are_shown(wherry: Client, docker: Client, registry: DockerRegistry) -> None:
    image = make_image([{"shown": b"x"}])
    upload(registry.base, "shown/it", image, "1")
    name = f"{registry.host}/shown/it:1"
    assert json.loads(wherry("manifest", "inspect", name).stdout) == json.loads(image.manifest)
    verbose = json.loads(wherry("manifest", "inspect", "-v", name).stdout)
    assert verbose["Descriptor"]["digest"] == image.digest
    assert "DIGEST" in wherry("manifest", "referrers", name).stdout


def test_bars_are_drawn_on_a_terminal(cli: Client) -> None:
    image = make_image([{"bar": os.urandom(1 << 20)}])
    with Liar() as liar:
        liar.add(image, "1")
        seen = threading.Event()
        liar.after_piece = lambda _, sent: seen.wait(20) if sent >= 512 << 10 else seen.wait(0.1)
        with Terminal(cli, "pull", f"{liar.host}/bars/it:1", columns=150) as terminal:
            terminal.expect("=>")
            seen.set()
            assert "\x1b[" in terminal.expect("Pull complete")
            terminal.expect("Downloaded newer image")
            assert terminal.wait() == 0
    cli("rmi", f"{liar.host}/bars/it:1")


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_copies_what_we_push_and_we_pull_what_it_copies(
    docker: Client, busybox: str, registry: DockerRegistry, tmp_path: Path
) -> None:
    ours = f"{registry.host}/skopeo/ours:1"
    docker("tag", busybox, ours)
    docker("push", "-q", ours)
    skopeo("copy", f"docker://{ours}", f"oci:{tmp_path}/layout:1")
    skopeo("copy", f"oci:{tmp_path}/layout:1", f"docker://{registry.host}/skopeo/theirs:1")
    digest = fetch_digest(registry.base, "skopeo/ours", "1")
    assert fetch_digest(registry.base, "skopeo/theirs", "1") == digest
    theirs = f"{registry.host}/skopeo/theirs:1"
    assert digest in docker("pull", theirs).stdout
    assert docker.line("inspect", "-f", "{{.Id}}", theirs) == docker.line(
        "inspect", "-f", "{{.Id}}", busybox
    )
    copied = f"{registry.host}/skopeo/v2:1"
    skopeo("copy", "--format", "v2s2", f"docker://{ours}", f"docker://{copied}")
    docker("pull", copied)
    assert docker.line("run", "--rm", "--network", "none", copied, "echo", "ok") == "ok"
    docker("rmi", ours, theirs, copied)


def skopeo(*words: str) -> None:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", words[0], "--src-tls-verify=false",
         "--dest-tls-verify=false", *words[1:]],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_daemon_killed_in_a_pull_goes_on(
    new_engine: Callable[..., Engine], docker_for: Callable[[Engine], Client], network: Host
) -> None:
    image = make_image([{"big": os.urandom(8 << 20)}])
    engine = new_engine(host=network)
    docker = docker_for(engine)
    with Liar() as liar:
        liar.add(image, "1")
        layer = digest_of(image.layers[0])
        crashed = threading.Event()

        def after(digest: str, sent: int) -> None:
            if digest == layer and sent >= 4 << 20 and not crashed.is_set():
                engine.crash()
                crashed.set()

        liar.after_piece = after
        assert docker("pull", f"{liar.host}/a:1", check=False).returncode != 0
        assert crashed.wait(20)
        engine.start()
        # What lies there in part is not hidden from whoever looks for space.
        assert on_disk(docker) != "0B"
        docker("pull", f"{liar.host}/a:1")
        assert liar.sent[layer] - len(image.layers[0]) < 1 << 20
        assert docker.line("inspect", "-f", "{{.Id}}", f"{liar.host}/a:1") == image.id
        docker("rmi", f"{liar.host}/a:1")
        broken = make_image([{"big": os.urandom(1 << 20)}])
        liar.add(broken, "2")
        liar.lie(f"/blobs/{digest_of(broken.layers[0])}", half)
        assert docker("pull", f"{liar.host}/a:2", check=False).returncode != 0
        assert on_disk(docker) == "524.3kB"
        docker("image", "prune", "-f")
        assert on_disk(docker) == "0B"


def on_disk(docker: Client) -> str:
    """Return what `system df` says of images."""
    return docker("system", "df", "--format", "{{.Type}} {{.Size}}").stdout.split()[1]


def half(handler: Any) -> bool:
    """Send half of a MiB, and nothing where more is asked for."""
    if "range" in {name.lower() for name in handler.headers}:
        return handler.refuse(404, "BLOB_UNKNOWN")
    data = handler.registry.blobs[handler.path.rpartition("/")[2]]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: 1 << 19])
    handler.close_connection = True
    return True


def test_the_house_s_own_registry(
    own: Client, wherry: Client, busybox: str, tmp_path: Path
) -> None:
    """Token authentication, push, mount, pull, search: what it serves, both clients use."""
    passwords, rights = tmp_path / "htpasswd", tmp_path / "rights"
    passwords.write_text(HTPASSWD)
    host = f"127.0.0.1:{free_port()}"
    who = Path(own.command[0]).name
    rights.write_text(f"{who}/* user pull,push\nread/* user pull\n")
    flags = ("--listen", host, "--htpasswd", str(passwords), "--rights", str(rights))
    wherry("registry", "start", *flags)
    denied = "denied: requested access to the resource is denied"
    try:
        name = f"{host}/{who}/box:1"
        done = own("pull", name, check=False)
        assert done.returncode == 1
        assert f"pull access denied for {host}/{who}/box, repository does not" in done.stderr
        own("tag", busybox, name)
        assert denied in own("push", name, check=False).stderr
        done = own("login", "-u", "user", "--password-stdin", host, stdin="no", check=False)
        said = f'Get "http://{host}/v2/": unauthorized: incorrect username or password'
        assert said in done.stderr
        own("login", "-u", "user", "--password-stdin", host, stdin="secret")
        # As with Docker, it is not the password that is kept.
        kept = json.loads((tmp_path / "config.json").read_text())["auths"][host]
        assert kept["identitytoken"] and b64decode(kept["auth"]) == b"user:"
        own("push", name)
        # What a known user may not do: in Docker's words, and nobody is asked for a name again.
        own("tag", busybox, f"{host}/read/it:1")
        assert denied in own("push", f"{host}/read/it:1", check=False).stderr
        own("rmi", f"{host}/read/it:1")
        assert (
            f"pull access denied for {host}/x/y" in own("pull", f"{host}/x/y", check=False).stderr
        )
        done = own("pull", f"{host}/{who}/none", check=False)
        assert f"repository {host}/{who}/none not found: name unknown: repository" in done.stderr
        other = f"{host}/{who}/other:2"
        own("tag", busybox, other)
        assert f"Mounted from {who}/box" in own("push", other).stdout
        own("rmi", name, other)
        own("pull", name)
        assert own.line("inspect", "-f", "{{.Id}}", name) == own.line(
            "inspect", "-f", "{{.Id}}", busybox
        )
        own("rmi", name)
    finally:
        wherry("registry", "stop")
