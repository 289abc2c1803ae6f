"""The classic builder's door: `docker build` with DOCKER_BUILDKIT=0, docker-py, and POST /build bare.

Proven on Docker: WHERRY_TEST_HOST=unix:///… (see conftest).
"""

from __future__ import annotations

import http.server
import io
import json
import re
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import docker as docker_py
import docker.errors
import pytest

from tests.engine.boxes import eventually, running
from tests.engine.conftest import Either
from tests.engine.raw import Answer, Api
from tests.engine.tars import file, tar_of
from tests.harness.clients import Client
from tests.harness.engine import Engine

Lines = list[dict[str, Any]]


def context(dockerfile: str = "", **files: str) -> bytes:
    """A context as tar: a Dockerfile and files whose names have `_` for `.`."""
    entries = [file(name.replace("_", "."), text.encode()) for name, text in files.items()]
    return tar_of([file("Dockerfile", dockerfile.encode()), *entries])


class Builder:
    """Builds over the bare API; removes what it tagged."""

    def __init__(self, api: Api, docker: Client, base: str) -> None:
        self.api = api
        self.docker = docker
        self.base = base
        self.made: list[str] = []

    def __call__(self, dockerfile: str, body: bytes | None = None, /, **query: object) -> Answer:
        """POST /build; `BASE` in the Dockerfile is busybox."""
        text = dockerfile.replace("BASE", self.base)
        data = context(text, f="x\n") if body is None else body
        search = urlencode(query, doseq=True)
        return self.api(
            "POST",
            "/build",
            data,
            kind="application/x-tar",
            version="v1.51",
            timeout=60,
            search=search,
        )

    def lines(self, dockerfile: str, body: bytes | None = None, /, **query: object) -> Lines:
        """The objects of a stream that began."""
        answer = self(dockerfile, body, **query)
        assert answer.status == 200, answer.body
        found = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
        self.made += [line["aux"]["ID"] for line in found if "aux" in line]
        return found

    def text(self, dockerfile: str, /, **query: object) -> str:
        """What the stream shows."""
        return "".join(line.get("stream", "") for line in self.lines(dockerfile, **query))

    def image(
        self, dockerfile: str, body: bytes | None = None, /, **query: object
    ) -> dict[str, Any]:
        """What inspect says of the image that was built."""
        found = self.lines(dockerfile, body, **query)
        errors = [line["error"] for line in found if "error" in line]
        assert not errors, errors
        name = [line["aux"]["ID"] for line in found if "aux" in line][-1]
        return json.loads(self.docker.line("image", "inspect", "-f", "{{json .}}", name))


@pytest.fixture
def build(api: Api, docker: Client, busybox: str) -> Iterator[Builder]:
    """Builds of one test."""
    builder = Builder(api, docker, busybox)
    yield builder
    for image in reversed(builder.made):
        docker("rmi", "-f", image, check=False)


@pytest.fixture
def tag(docker: Client) -> Iterator[str]:
    """A name for an image of one test."""
    name = f"wherry-tests-{secrets.token_hex(4)}"
    yield name
    docker("rmi", "-f", name, check=False)


def norm(text: str) -> str:
    """The text without ids."""
    return re.sub(r"\b[0-9a-f]{12}\b", "ID", text)


# -- the stream


def test_stream(build: Builder, tag: str, either: Either) -> None:
    dockerfile = "FROM BASE\nENV A=b\nRUN echo out; sleep 0.1; echo err >&2\nCOPY f /f\n"
    text = norm(build.text(dockerfile, t=tag))
    ran = " ---> Running in ID\n"
    removed = " ---> Removed intermediate container ID\n"
    # Docker makes a container for every instruction, wherry for those that run something.
    made = either(docker=ran + removed, wherry="")
    assert text == (
        f"Step 1/4 : FROM {build.base}\n ---> ID\n"
        f"Step 2/4 : ENV A=b\n{made} ---> ID\n"
        f"Step 3/4 : RUN echo out; sleep 0.1; echo err >&2\n{ran}"
        f"out\n\x1b[91merr\n\x1b[0m{removed} ---> ID\n"
        f"Step 4/4 : COPY f /f\n ---> ID\nSuccessfully built ID\nSuccessfully tagged {tag}:latest\n"
    )
    again = build.text(dockerfile, t=tag)
    assert again.count(" ---> Using cache\n") >= 2
    assert "out\n" not in again


def test_instructions_before_the_first_stage_count_and_are_shown_as_written(build: Builder) -> None:
    text = norm(
        build.text(f"ARG B={build.base}\nFROM $B AS one\nARG V=1\nRUN echo is $V \\\n  two\n")
    )
    assert text.startswith(f"Step 1/4 : ARG B={build.base}\nStep 2/4 : FROM $B AS one\n ---> ID\n")
    assert "Step 4/4 : RUN echo is $V   two\n" in text
    assert "is 1 two\n" in text


def test_too_little_memory_is_refused(build: Builder) -> None:
    last = build.lines("FROM BASE\nRUN echo unique-memory\n", memory=4 << 20)[-1]
    assert last["error"] == "Minimum memory limit allowed is 6MB"


def test_aux_is_the_image(build: Builder, docker: Client, tag: str) -> None:
    found = build.lines("FROM BASE\nCMD x\n", t=tag)
    image = [line["aux"]["ID"] for line in found if "aux" in line][-1]
    assert docker.line("image", "inspect", "-f", "{{.Id}}", tag) == image
    assert f"Successfully built {image[7:19]}\n" in [line.get("stream") for line in found]


def test_quiet_says_the_id_alone(build: Builder, docker: Client) -> None:
    found = build.lines("FROM BASE\nRUN echo loud\n", q=1)
    assert len(found) == 1
    image = found[0]["stream"].strip()
    assert re.fullmatch("sha256:[0-9a-f]{64}", image)
    docker("rmi", "-f", image)


def test_several_tags(build: Builder, docker: Client, tag: str) -> None:
    text = build.text("FROM BASE\nCMD x\n", t=[tag, f"{tag}:two"])
    assert f"Successfully tagged {tag}:latest\nSuccessfully tagged {tag}:two\n" in text
    assert docker.line("image", "inspect", "-f", "{{.Id}}", f"{tag}:two")
    docker("rmi", f"{tag}:two")


def test_failed_command(build: Builder) -> None:
    last = build.lines("FROM BASE\nRUN echo before; exit 3\n", forcerm=1)[-1]
    assert last["errorDetail"]["code"] == 3
    assert (
        "The command '/bin/sh -c echo before; exit 3' returned a non-zero code: 3" in last["error"]
    )


def test_missing_source(build: Builder) -> None:
    last = build.lines("FROM BASE\nCOPY nope /\n")[-1]
    assert "nope" in last["error"] and "not found" in last["error"]


# -- what is refused before anything is built


@pytest.mark.parametrize(
    ("dockerfile", "query", "status", "words"),
    [
        ("FROM BASE\nRUM x\n", {}, 400, "unknown instruction: RUM"),
        ("", {}, 400, "the Dockerfile (Dockerfile) cannot be empty"),
        ("RUN x\n", {}, 400, "no build stage in current context"),
        ("FROM BASE\n", {"dockerfile": "nope"}, (404, 500), "Cannot locate specified Dockerfile: nope"),
        ("FROM BASE\n", {"target": "zz"}, 400, 'target stage "zz" could not be found'),
        ("FROM BASE\n", {"t": "BAD"}, (400, 500), "must be lowercase"),
        ("FROM BASE\n", {"buildargs": "{"}, 400, "error reading build args"),
        ("FROM BASE\n", {"labels": "x"}, 400, "error reading labels"),
        ("FROM BASE\n", {"cachefrom": "x"}, 400, "error reading cache-from"),
        ("FROM BASE\n", {"ulimits": "x"}, 400, "error reading ulimit settings"),
        ("FROM BASE\n", {"securityopt": "seccomp=unconfined"}, 400, "security options are not supported on linux"),
        ("FROM BASE\n", {"isolation": "hyperv"}, 400, 'unsupported isolation: "hyperv"'),
        ("FROM BASE\n", {"version": "3"}, 400, 'invalid version "3"'),
        ("FROM BASE\n", {"remote": "ftp://h/x"}, (400, 500), "could not be recognized as URL"),
    ],
)  # fmt: skip
def test_refused(
    build: Builder,
    dockerfile: str,
    query: Mapping[str, str],
    status: int | tuple[int, ...],
    words: str,
) -> None:
    answer = build(dockerfile, **query)
    assert answer.status in (status if isinstance(status, tuple) else (status,)), answer.body
    assert words in answer.message


def test_body_that_is_no_archive(build: Builder) -> None:
    assert build("", b"this is no tar archive").status >= 400
    assert build("", b"").status >= 400


# -- the parameters


def test_arguments_and_labels(build: Builder) -> None:
    image = build.image(
        "FROM BASE\nARG A=0\nENV GOT=$A\nLABEL l=1\n",
        buildargs=json.dumps({"A": "7"}),
        labels=json.dumps({"m": "2"}),
    )
    assert "GOT=7" in image["Config"]["Env"]
    assert image["Config"]["Labels"] == {"l": "1", "m": "2"}


def test_an_argument_that_nobody_takes(build: Builder) -> None:
    text = build.text("FROM BASE\nCMD x\n", buildargs=json.dumps({"UNUSED": "1"}))
    assert "[Warning] One or more build-args [UNUSED] were not consumed\n" in text


def test_dockerfile_elsewhere(build: Builder) -> None:
    body = tar_of([file("sub/My.df", f"FROM {build.base}\nENV HERE=1\n".encode())])
    found = build.lines("", body, dockerfile="sub/My.df")
    assert "Successfully built" in found[-1]["stream"]


def test_target(build: Builder) -> None:
    image = build.image("FROM BASE AS a\nENV S=a\nFROM a AS b\nENV S=b\n", target="a")
    assert "S=a" in image["Config"]["Env"]


def test_no_cache(build: Builder) -> None:
    dockerfile = "FROM BASE\nRUN echo said >/x; cat /x\n"
    build.text(dockerfile)
    assert "said\n" not in build.text(dockerfile)
    assert "said\n" in build.text(dockerfile, nocache=1)


def test_network_none(build: Builder) -> None:
    text = build.text("FROM BASE\nRUN ls /sys/class/net\n", networkmode="none", nocache=1)
    assert "\nlo\n" in text and "eth0" not in text


def test_extra_hosts(build: Builder) -> None:
    text = build.text("FROM BASE\nRUN cat /etc/hosts\n", extrahosts="h1:10.1.2.3", nocache=1)
    assert re.search(r"10\.1\.2\.3\s+h1\n", text)


def test_limits(build: Builder) -> None:
    script = (
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null;"
        " ulimit -n; df -k /dev/shm | tail -n 1"
    )
    text = build.text(
        f"FROM BASE\nRUN {script}\n",
        memory=64 << 20,
        memswap=64 << 20,
        shmsize=8 << 20,
        ulimits=json.dumps([{"Name": "nofile", "Soft": 77, "Hard": 77}]),
        nocache=1,
    )
    assert f"{64 << 20}\n" in text
    assert "\n77\n" in text
    assert re.search(r"\s8192\s", text)


def test_null_is_nothing(build: Builder) -> None:
    # Docker Compose says so where a `build` section has none.
    nulls = dict.fromkeys(("buildargs", "labels", "ulimits", "cachefrom"), "null")
    assert "Successfully built" in build.lines("FROM BASE\n", **nulls)[-1]["stream"]


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz"])
def test_packed_context(build: Builder, packer: str, is_wherry: bool) -> None:
    if packer == "xz" and not is_wherry:
        pytest.skip("Docker has no xz where it runs")
    body = subprocess.run(
        [packer, "-c"], input=context(f"FROM {build.base}\nCOPY f /\n", f="1"),
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert "Successfully built" in build.lines("", body)[-1]["stream"]


def test_credentials_that_make_no_sense_are_none(api: Api, busybox: str) -> None:
    body = context(f"FROM {busybox}\n")
    head = (
        "POST /v1.51/build HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
        f"X-Registry-Config: !!\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(api.path)
        client.sendall(head.encode() + body)
        answer = b""
        # Not to its end: Docker resets a connection whose archive it did not read to the last block.
        while b"Successfully built" not in answer:
            piece = client.recv(65536)
            assert piece, answer
            answer += piece


def test_dockerignore_hides_the_dockerfile(build: Builder) -> None:
    body = tar_of(
        [
            file("Dockerfile", f"FROM {build.base}\nCOPY . /c\nRUN ls -A /c\n".encode()),
            file(".dockerignore", b"Dockerfile\n.dockerignore\n"),
            file("kept", b""),
        ]
    )
    text = "".join(line.get("stream", "") for line in build.lines("", body, nocache=1))
    assert "kept\n" in text and "\nDockerfile" not in text and ".dockerignore\n" not in text


# -- remote contexts


@contextmanager
def serving(folder: Path, engine: Engine) -> Iterator[str]:
    """A web server on the loopback of the engine's own host."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, format: str, *args: object) -> None:
            pass

    assert engine.network is not None
    with engine.network.inside():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_remote_archive_and_dockerfile(
    build: Builder, is_wherry: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not is_wherry:
        pytest.skip("Docker under test has a network of its own")
    (tmp_path / "c.tar").write_bytes(
        context(f"FROM {build.base}\nENV R=archive\nCOPY f /\n", f="1")
    )
    (tmp_path / "alone").write_text(f"FROM {build.base}\nENV R=alone\n")
    with serving(tmp_path, request.getfixturevalue("engine")) as url:
        assert "R=archive" in build.image("", b"", remote=f"{url}/c.tar")["Config"]["Env"]
        assert "R=alone" in build.image("", b"", remote=f"{url}/alone")["Config"]["Env"]


def test_remote_git(
    build: Builder, is_wherry: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not is_wherry:
        pytest.skip("Docker under test has a network of its own")
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    (work / "sub/Dockerfile").write_text(f"FROM {build.base}\nENV R=git\n")
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q", "-b", "side"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True, timeout=30)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(tmp_path / "r.git")], check=True)
    subprocess.run(["git", "-C", str(tmp_path / "r.git"), "update-server-info"], check=True)
    with serving(tmp_path, request.getfixturevalue("engine")) as url:
        image = build.image("", b"", remote=f"{url}/r.git#side:sub")
    assert "R=git" in image["Config"]["Env"]


# -- cancelled


def steps_running(docker: Client) -> bool:
    """Whether a container of a build is in sight."""
    return bool(docker.line("ps", "-aq", "--filter", "status=running"))


def test_client_that_vanishes_ends_the_build(api: Api, busybox: str, tmp_path: Path) -> None:
    marker = f"vanish-{secrets.token_hex(6)}"
    body = context(f"FROM {busybox}\nRUN echo begun; sleep 600; echo {marker}\n")
    head = (
        f"POST /v1.51/build?nocache=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(api.path)
        client.sendall(head.encode() + body)
        seen = b""
        while b"begun" not in seen.partition(b"Running in")[2]:
            piece = client.recv(65536)
            assert piece, seen
            seen += piece
        assert running(marker)
    eventually(lambda: not running(marker), 20)


def test_cancel_by_id(api: Api, is_wherry: bool, busybox: str) -> None:
    assert api("POST", "/build/cancel", version="v1.51").status == 400
    assert api("POST", "/build/cancel", version="v1.51", id="nobody").status == 200
    if not is_wherry:
        pytest.skip("the classic builder knows no ids")
    marker = f"cancel-{secrets.token_hex(6)}"
    body = context(f"FROM {busybox}\nRUN sleep 600; echo {marker}\n")
    answers: list[Answer] = []
    thread = threading.Thread(
        target=lambda: answers.append(
            api("POST", "/build", body, kind="application/x-tar", buildid=marker, timeout=60)
        )
    )
    thread.start()
    eventually(lambda: running(marker), 20)
    assert api("POST", "/build/cancel", id=marker).status == 200
    thread.join(30)
    assert "error" in json.loads(answers[0].body.splitlines()[-1])
    assert not running(marker)


# -- the cache's own


def test_prune(build: Builder, api: Api, is_wherry: bool) -> None:
    build.text("FROM BASE\nRUN dd if=/dev/urandom of=/x bs=1k count=300 2>/dev/null\n")
    answer = api("POST", "/build/prune", version="v1.51", all=1).json()
    assert set(answer) == {"CachesDeleted", "SpaceReclaimed"}
    if is_wherry:
        assert answer["CachesDeleted"]
        left = api("GET", "/system/df", version="v1.51", type="build-cache").json()["BuildCache"]
        assert [one for one in left if not one["InUse"]] == []
    bad = api("POST", "/build/prune", version="v1.51", filters=json.dumps({"x": ["1"]}))
    assert bad.status >= 400


# -- clients


@pytest.fixture
def classic(docker: Client) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`docker build` by the classic builder."""

    def run(*words: str, stdin: bytes | None = None, check: bool = True) -> Any:
        done = subprocess.run(
            [*docker.command, "build", *words],
            env={**docker.env, "DOCKER_BUILDKIT": "0"},
            input=stdin or b"",
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not check, done
        return done

    return run


def test_docker_build(
    classic: Callable[..., Any], docker: Client, busybox: str, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nCOPY . /ctx\nRUN ls /ctx\n")
    (tmp_path / "seen").write_text("")
    (tmp_path / "unseen").write_text("")
    (tmp_path / ".dockerignore").write_text("un*\n")
    iid = tmp_path / "iid"
    out = classic("--no-cache", "-t", tag, "--iidfile", str(iid), "--label", "a=b", str(tmp_path))
    assert b"\nseen\n" in out.stdout and b"unseen" not in out.stdout
    assert iid.read_text() == docker.line("image", "inspect", "-f", "{{.Id}}", tag)
    assert docker.line("image", "inspect", "-f", "{{.Config.Labels.a}}", tag) == "b"
    assert docker.line("run", "--rm", "--network=none", tag, "ls", "/ctx/seen") == "/ctx/seen"


def test_docker_build_from_standard_input(
    classic: Callable[..., Any], busybox: str, tag: str, tmp_path: Path
) -> None:
    dockerfile = f"FROM {busybox}\nCOPY f /f\n".encode()
    (tmp_path / "f").write_text("1")
    assert (
        b"Successfully built"
        in classic("-t", tag, "-f", "-", str(tmp_path), stdin=dockerfile).stdout
    )
    assert (
        b"Successfully built"
        in classic("-t", tag, "-", stdin=context(dockerfile.decode(), f="1")).stdout
    )
    assert (
        b"Successfully built"
        in classic("-t", tag, "-", stdin=f"FROM {busybox}\nCMD a\n".encode()).stdout
    )


def test_docker_build_that_fails(classic: Callable[..., Any], busybox: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN exit 5\n")
    done = classic("--force-rm", str(tmp_path), check=False)
    assert done.returncode == 5
    assert b"returned a non-zero code: 5" in done.stderr


@pytest.fixture(scope="module")
def programs(engine_host: str) -> Iterator[Any]:
    """A docker-py client."""
    client = docker_py.DockerClient(base_url=engine_host, version="auto")
    yield client
    client.close()


def test_docker_py(programs: Any, busybox: str, tag: str) -> None:
    dockerfile = io.BytesIO(f"FROM {busybox}\nARG X\nLABEL x=$X\nRUN echo built\n".encode())
    image, log = programs.images.build(fileobj=dockerfile, tag=tag, buildargs={"X": "3"}, rm=True)
    assert image.labels == {"x": "3"}
    assert any("Successfully built" in line.get("stream", "") for line in log)
    assert f"{tag}:latest" in image.tags


def test_docker_py_with_a_folder(programs: Any, busybox: str, tag: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nCOPY f /\n")
    (tmp_path / "f").write_text("1")
    image, _ = programs.images.build(
        path=str(tmp_path), tag=tag, extra_hosts={"a": "10.0.0.1"}, shmsize=1 << 20,
        container_limits={"memory": 64 << 20},
    )  # fmt: skip
    assert image.id


def test_docker_py_that_fails(programs: Any, busybox: str) -> None:
    with pytest.raises(docker.errors.BuildError) as caught:
        dockerfile = io.BytesIO(f"FROM {busybox}\nRUN exit 4\n".encode())
        programs.images.build(fileobj=dockerfile, forcerm=True)
    assert "returned a non-zero code: 4" in str(caught.value)


def test_system_df_counts_the_cache(build: Builder, docker: Client) -> None:
    build.text("FROM BASE\nRUN echo 1 >/counted\n")
    assert "Build Cache" in docker.line("system", "df")
