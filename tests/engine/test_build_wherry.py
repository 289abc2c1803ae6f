"""`wherry build`: contexts, outputs, secrets, progress, the cache's verbs."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import secrets
import select
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import eventually, running
from tests.engine.tars import file, tar_of
from tests.harness.clients import Client


@pytest.fixture(autouse=True)
def wherrys_own(is_wherry: bool) -> None:
    """Docker has no such command."""
    if not is_wherry:
        pytest.skip("wherry's own command")


@pytest.fixture
def tag(docker: Client) -> Iterator[str]:
    """A name for an image of one test."""
    name = f"wherry-tests-{secrets.token_hex(4)}"
    yield name
    docker("rmi", "-f", name, check=False)


@pytest.fixture
def project(tmp_path: Path, busybox: str) -> Callable[..., Path]:
    """`project("RUN x", f="content")`: a folder with a Dockerfile that starts FROM busybox."""

    def make(body: str = "", **files: str) -> Path:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(
            body.replace("BASE", busybox) if "FROM" in body else f"FROM {busybox}\n{body}\n"
        )
        for name, text in files.items():
            path = folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return make


def test_calls(wherry: Client, project: Callable[..., Path]) -> None:
    where = str(project("FROM BASE AS one\n# A of it\nARG A=1\nFROM one\nRUN exit 1\n"))
    outline = wherry("build", "--call=outline", where).stdout
    assert outline == "BUILD ARG   VALUE   DESCRIPTION\nA           1       of it\n"
    found = json.loads(wherry("build", "--call", "targets,format=json", where).stdout)
    assert [one.get("name") for one in found["targets"]] == ["one", None]
    failed = wherry("build", "--call=nonsense", where, check=False)
    assert failed.returncode != 0 and "unsupported request frontend.nonsense" in failed.stderr


def test_plain_progress(wherry: Client, project: Callable[..., Path], tag: str) -> None:
    word = secrets.token_hex(4)
    folder = project(f"RUN echo said-{word}\nENV A=b\nCOPY f /f", f="1")
    done = wherry("build", "-t", tag, str(folder))
    assert done.stdout == ""
    assert re.search(r"^#\d+ \[1/3\] FROM ", done.stderr, re.M)
    assert re.search(
        rf"^#\d+ \[2/3\] RUN echo said-{word}\n#\d+ \d+\.\d+ said-{word}\n#\d+ DONE \d+\.\ds$",
        done.stderr,
        re.M,
    )
    assert re.search(r"naming to .*" + tag, done.stderr)
    again = wherry("build", "-t", tag, str(folder)).stderr
    assert again.count(" CACHED\n") == 2


def test_quiet_and_files(
    wherry: Client, docker: Client, project: Callable[..., Path], tag: str, tmp_path: Path
) -> None:
    folder = project("CMD x")
    iid, facts = tmp_path / "iid", tmp_path / "facts"
    done = wherry(
        "build", "-q", "-t", tag, "--iidfile", str(iid), "--metadata-file", str(facts), str(folder)
    )
    assert done.stderr == ""
    image = docker.line("image", "inspect", "-f", "{{.Id}}", tag)
    assert done.stdout.strip() == iid.read_text() == image
    said = json.loads(facts.read_text())
    assert said["containerimage.config.digest"] == image
    assert tag in said["image.name"]


def test_failure_shows_where_and_what(wherry: Client, project: Callable[..., Path]) -> None:
    done = wherry("build", str(project("RUN echo the-last-words; exit 3")), check=False)
    assert done.returncode == 1
    assert "the-last-words" in done.stderr.partition("------\n")[2]
    assert re.search(
        r"^Dockerfile:2\n-+\n1 \|     FROM .*\n2 \| >>> RUN echo the-last", done.stderr, re.M
    )
    assert "exit code: 3" in done.stderr or "non-zero code: 3" in done.stderr


def test_misspelt_instruction(wherry: Client, project: Callable[..., Path]) -> None:
    done = wherry("build", str(project("RUM echo")), check=False)
    assert done.returncode == 1
    assert (
        "Dockerfile:2" in done.stderr
        and "RUM" in done.stderr
        and "RUN" in done.stderr
        and "^" in done.stderr
    )


def test_what_is_no_stage(wherry: Client, project: Callable[..., Path]) -> None:
    folder = str(
        project("FROM scratch AS fetched\nCOPY Dockerfile /\nFROM scratch\nCOPY --from=fetchde / /")
    )
    done = wherry("build", folder, check=False)
    assert done.returncode == 1
    assert "Dockerfile:4: fetchde (did you mean the stage fetched?): " in done.stderr
    assert "4 | >>> COPY --from=fetchde / /\n                    ^^^^^^^\n" in done.stderr
    done = wherry("build", "--target=fetchde", folder, check=False)
    assert 'target stage "fetchde" could not be found (did you mean fetched?)' in done.stderr
    done = wherry("build", str(project("FROM scratch\nSTOPSIGNAL nope")), check=False)
    assert "Dockerfile:2: invalid signal: nope" in done.stderr


def test_only_what_changed_is_sent(wherry: Client, project: Callable[..., Path]) -> None:
    folder = project("COPY . /c\nRUN cat /c/a.txt /c/sub/b.txt", a_txt="1", sub__b_txt="2")
    wherry("build", str(folder))
    (folder / "a.txt").write_text("changed")
    err = wherry("build", str(folder)).stderr
    assert "changed2" in err


def test_dockerignore(wherry: Client, project: Callable[..., Path]) -> None:
    folder = project(
        "COPY . /c\nRUN ls -R /c", kept="", lost_log="", sub__lost_log="", sub__kept_log=""
    )
    (folder / ".dockerignore").write_text("**/*.log\n!sub/kept.log\n")
    (folder / "secret").mkdir()
    (folder / "Dockerfile.dockerignore").write_text("**/*.log\n!sub/kept.log\nsecret\n")
    err = wherry("build", "--no-cache", str(folder)).stderr
    assert (
        " kept.log\n" in err
        and "lost.log" not in err
        and "secret" not in err.partition("RUN ls")[2].replace("secret:", "secret")
    )


def test_dockerfile_from_standard_input(
    wherry: Client, project: Callable[..., Path], busybox: str
) -> None:
    folder = project("RUN false", f="here\n")
    err = wherry(
        "build", "-f", "-", str(folder), stdin=f"FROM {busybox}\nCOPY f /\nRUN cat /f\n"
    ).stderr
    assert " here\n" in err


def test_standard_input_as_dockerfile_and_as_archive(wherry: Client, busybox: str) -> None:
    assert "writing image" in wherry("build", "-", stdin=f"FROM {busybox}\nCMD y\n").stderr
    data = tar_of([
        file("Dockerfile", f"FROM {busybox}\nCOPY . /c\nRUN ls /c\n".encode()),
        file("in-archive"), file("left-out"), file(".dockerignore", b"left-out\n"),
    ])  # fmt: skip
    done = wherry.raw("build", "--no-cache", "-", stdin=data)
    assert b" in-archive\n" in done.stderr and b" left-out\n" not in done.stderr


def test_named_contexts(
    wherry: Client, project: Callable[..., Path], tmp_path: Path, busybox: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_text("from-other\n")
    folder = project("FROM base\nCOPY --from=other f /f\nRUN cat /f")
    err = wherry(
        "build",
        "--build-context",
        f"other={other}",
        "--build-context",
        f"base=docker-image://{busybox}",
        str(folder),
    ).stderr
    assert "from-other" in err


def test_output_folder_tar_and_archives(
    wherry: Client, project: Callable[..., Path], tmp_path: Path
) -> None:
    folder = project("FROM scratch\nCOPY f /sub/f", f="out\n")
    wherry("build", "-o", str(tmp_path / "dir"), str(folder))
    assert (tmp_path / "dir/sub/f").read_text() == "out\n"
    data = wherry.raw("build", "-q", "-o", "-", str(folder)).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert "sub/f" in [name.removeprefix("./") for name in archive.getnames()]
    for kind, member in (("oci", "oci-layout"), ("docker", "manifest.json")):
        path = tmp_path / f"{kind}.tar"
        wherry("build", "-o", f"type={kind},dest={path}", str(folder))
        with tarfile.open(path) as archive:
            assert member in archive.getnames()


def test_secrets(
    wherry: Client,
    docker: Client,
    project: Callable[..., Path],
    tag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    word = secrets.token_hex(16)
    (tmp_path / "s").write_text(word)
    monkeypatch.setitem(wherry.env, "SECRET_VARIABLE", word)
    folder = project(
        "RUN --mount=type=secret,id=one --mount=type=secret,id=two,env=TWO"
        ' [ "$(sha256sum </run/secrets/one)" = "$(printf %s "$TWO" | sha256sum)" ] && echo same'
    )
    err = wherry(
        "build",
        "--no-cache",
        "-t",
        tag,
        "--secret",
        f"id=one,src={tmp_path / 's'}",
        "--secret",
        "id=two,env=SECRET_VARIABLE",
        str(folder),
    ).stderr
    assert " same\n" in err
    saved = docker.raw("save", tag).stdout
    assert word.encode() not in saved
    assert word not in docker.line("history", "--no-trunc", tag)


def test_agent(wherry: Client, project: Callable[..., Path], tmp_path: Path) -> None:
    """What connects to the agent's socket in a step talks to the client's agent."""
    path = tmp_path / "agent"
    marker = f"agent-{secrets.token_hex(6)}"
    folder = project(f"RUN --mount=type=ssh echo at=$SSH_AUTH_SOCK; sleep 60; echo {marker}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(20)
        process = wherry.popen("build", "--no-cache", "--ssh", f"default={path}", str(folder))
        try:
            assert process.stderr is not None
            while not (found := re.search(rb"\d at=(/\S+)", line := process.stderr.readline())):
                assert line
            inside = f"/proc/{running(f'sleep 60; echo {marker}')[0]}/root{found[1].decode()}"
            for _ in range(2):
                with socket.socket(socket.AF_UNIX) as step:
                    step.settimeout(20)
                    step.connect(inside)
                    step.sendall(b"question")
                    peer, _ = server.accept()
                    with peer:
                        assert peer.recv(100) == b"question"
                        peer.sendall(b"answer")
                    assert step.recv(100) == b"answer"
        finally:
            process.send_signal(2)
            process.communicate(timeout=20)


def test_check(wherry: Client, project: Callable[..., Path]) -> None:
    clean = wherry("build", "--check", str(project('CMD ["x"]')))
    assert "Check complete, no warnings found." in clean.stdout
    bad = wherry("build", "--check", str(project('FROM BASE as Loud\nCMD ["x"]')), check=False)
    assert bad.returncode == 1
    assert "StageNameCasing" in bad.stdout


def test_terminal_shows_a_tree(wherry: Client, project: Callable[..., Path]) -> None:
    folder = project(f"RUN echo {secrets.token_hex(4)}; sleep 0.3")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*wherry.command, "build", str(folder)], env={**wherry.env, "TERM": "xterm"},
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while select.select([master], [], [], 30)[0]:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert process.wait(30) == 0
    assert b"[+] Building" in seen and b"FINISHED" in seen
    assert b"\x1b[?25h" in seen.rpartition(b"FINISHED")[2]


def test_arguments_of_many_kinds(
    wherry: Client, docker: Client, project: Callable[..., Path], tag: str
) -> None:
    folder = project("FROM BASE AS one\nARG A\nENV GOT=$A\nFROM one AS two\nENV NEVER=1")
    wherry(
        "build", "-t", tag, "--build-arg", "A=5", "--label", "l=1", "--target", "one", "--network=none",
        "--shm-size=8m", "--ulimit", "nofile=99", "--add-host", "x:1.2.3.4", "-m", "64m", str(folder),
    )  # fmt: skip
    config = json.loads(docker.line("image", "inspect", "-f", "{{json .Config}}", tag))
    assert "GOT=5" in config["Env"] and config["Labels"] == {"l": "1"}


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--network=host", "network.host"), ("--security=insecure", "security.insecure")],
)
def test_what_is_the_hosts_has_to_be_granted(
    wherry: Client, project: Callable[..., Path], flag: str, name: str
) -> None:
    word = secrets.token_hex(4)
    folder = str(project(f"RUN {flag} cat /proc/self/uid_map; echo {word}$(id -u)"))
    for words in ((), ("--allow", "other")):
        done = wherry("build", *words, folder, check=False)
        assert done.returncode == 1
        assert f"Dockerfile:2: {name} is not allowed (wherry build --allow {name}" in done.stderr
        assert f"{word}0" not in done.stderr
    done = wherry("build", "--progress=plain", "--allow", name, folder)
    assert "4294967295" in done.stderr


def test_an_agent_that_was_not_given_is_not_there(
    wherry: Client, project: Callable[..., Path]
) -> None:
    folder = str(project("RUN --mount=type=ssh,required true"))
    done = wherry("build", folder, check=False)
    assert done.returncode == 1 and "No such ssh agent: default" in done.stderr


def test_same_digest_from_two_places(
    wherry: Client, project: Callable[..., Path], tmp_path: Path
) -> None:
    folder = project("COPY f /f\nRUN mkdir /d && date +%s%N >/dev/null && echo x >/d/x", f="1")
    one = wherry(
        "build", "-q", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", str(folder)
    ).stdout
    os.utime(folder / "f", (1, 1))
    two = wherry(
        "build", "-q", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", str(folder)
    ).stdout
    assert one == two or os.stat(folder / "f").st_mtime == 1


def test_interrupted(wherry: Client, project: Callable[..., Path]) -> None:
    marker = f"stop-{secrets.token_hex(6)}"
    process = wherry.popen("build", str(project(f"RUN echo begun; sleep 600; echo {marker}")))
    assert process.stderr is not None
    while b"begun" not in (line := process.stderr.readline()) or b" RUN " in line:
        assert line
    process.send_signal(2)
    process.communicate(timeout=20)
    assert process.returncode == 130

    eventually(lambda: not running(marker), 20)


def test_builder_du_and_prune(wherry: Client, project: Callable[..., Path]) -> None:
    word = secrets.token_hex(4)
    wherry("builder", "prune", "-af")
    folder = project(
        f"RUN --mount=type=cache,id={word},target=/c dd if=/dev/zero of=/c/f bs=1k count=99\n"
        f"RUN echo {word} >/x\nCOPY f /",
        f=word,
    )
    wherry("build", "-o", "type=cacheonly", str(folder))
    table = wherry("builder", "du").stdout
    assert re.match(r"ID +RECLAIMABLE +SIZE +LAST ACCESSED\n", table) and "\nTotal:\t\t" in table
    records = [
        json.loads(line) for line in wherry("builder", "du", "--format", "json").stdout.splitlines()
    ]
    kinds = sorted(one["Type"] for one in records)
    # Other tests may have left folders of theirs in the shared engine.
    assert [kind for kind in kinds if kind != "source.local"] == [
        "exec.cachemount",
        *["regular"] * 3,
    ]
    assert "source.local" in kinds
    local = next(one for one in records if one["Type"] == "source.local")
    assert local["Mutable"] and local["Description"].startswith("local source for ")
    assert f"\n{local['ID'][:25]}*" in table
    pretty = wherry("builder", "du", "--verbose", "--filter", "type=exec.cachemount").stdout
    assert re.search(r"^Mutable: +true\nReclaimable: +true\nShared: +false\n", pretty, re.M)
    du = ("builder", "du", "--format", "{{.Type}} {{.Size}}", "--filter")
    assert wherry(*du, f"description=cached mount {word}").stdout == "exec.cachemount 101.4kB\n"
    assert (
        wherry(*du, "until=1h").stdout == ""
        and wherry(*du, "mutable=false").stdout.count("\n") == 3
    )
    assert wherry(*du, "nope=1", check=False).returncode == 1
    prune = ("builder", "prune", "-f")
    for words in (
        ("--filter", "until=1h"), ("--min-free-space", "1k"), ("--max-used-space", "1g"),
        ("--reserved-space", "1g"), ("--max-used-space", "1k", "--reserved-space", "1g"),
    ):  # fmt: skip
        assert "Total reclaimed space: 0B" in wherry(*prune, *words).stdout
    gone = wherry(*prune, "--filter", "type=source.local", "--verbose").stdout
    assert f"ID:           {local['ID']}\n" in gone
    # What only its folder held is sent again.
    assert "CACHED" in wherry("build", "-o", "type=cacheonly", str(folder)).stderr
    wherry(*prune, "--max-used-space", "50k")
    assert f"cached mount {word}" not in wherry("builder", "du", "--verbose").stdout
    out = wherry("builder", "prune", "-f", "-a").stdout
    assert "Deleted build cache objects:" in out and "Total reclaimed space:" in out
    assert "Total:\t\t0B" in wherry("builder", "du").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--output", "type=nope"), "unknown output type"),
        (("--secret", "src=/x"), 'secret missing "id" field'),
        (("--secret", "id=a,src=/no/such"), "no such file"),
        (("--progress", "loud"), "invalid progress mode"),
        (("--cache-to", "type=local"), "local cache requires dest"),
        (("--platform", "linux/amd64,linux/arm64"), "holds one platform"),
        (("--provenance", "true"), "holds no attestations"),
        (("--attest", "type=nope"), "unknown attestation type"),
        (("--annotation", "nope:a=b"), "unknown annotation type"),
        (("--annotation", "index:a=b"), "not supported for single platform"),
        (("-o", "/nope", "--iidfile", "/nope/f"), "incompatible with image ID file"),
        (("-t", "BAD"), "must be lowercase"),
        (("--build-context", "x"), "expected key=value"),
    ],
)
def test_mistakes(
    wherry: Client, project: Callable[..., Path], words: tuple[str, ...], said: str
) -> None:
    done = wherry("build", *words, str(project("CMD x")), check=False)
    assert done.returncode != 0
    assert said in done.stderr


def test_no_such_folder(wherry: Client) -> None:
    done = wherry("build", "/no/such/folder", check=False)
    assert done.returncode == 1 and "not found" in done.stderr
