"""`docker cp`, `diff`, `export`, `commit`: a container's files in and out."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.engine.boxes import Boxes, Runner
from tests.engine.raw import Api
from tests.engine.tars import busybox_entries, directory, file, symlink, tar_of
from tests.harness.clients import Client

Inspect = Callable[[str, str], object]


@pytest.fixture(params=["running", "created"])
def target(request: pytest.FixtureRequest, boxes: Boxes) -> str:
    """A container to copy to and from, in both states."""
    if request.param == "running":
        return boxes.sleeper()
    return boxes.create(boxes.image, "sleep", "60")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a file, a folder, a link and a program."""
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_text("content")
    (root / "sub/deep").write_text("deeper")
    (root / "link").symlink_to("file")
    (root / "program").write_text("#!/bin/sh\necho ran\n")
    (root / "program").chmod(0o755)
    return root


def read(docker: Client, name: str, path: str) -> bytes:
    """The bytes of one file of a container, by `docker cp … -`."""
    data = docker.raw("cp", f"{name}:{path}", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = tar.extractfile(tar.getmembers()[0])
        assert found is not None
        return found.read()


def names(docker: Client, name: str, path: str) -> list[str]:
    """The names in the archive that `docker cp NAME:PATH -` gives, sorted."""
    data = docker.raw("cp", f"{name}:{path}", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return sorted(member.name.rstrip("/") for member in tar.getmembers())


# In


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        ("/loop", 400, "too many levels of symbolic links"),
        ("/loop/x", 400, "too many levels of symbolic links"),
        ("/long", 400, "file name too long"),
        ("/" + "n" * 256, 400, "file name too long"),
        ("/etc/passwd/x", 404, "Could not find the file"),
        ("/etc/passwd", 400, "not a directory"),
    ],
)
def test_in_where_hostile_links_lead(
    api: Api, boxes: Boxes, path: str, status: int, problem: str, is_wherry: bool
) -> None:
    entries = [*busybox_entries(), symlink("loop", "loop"), symlink("long", "n" * 256)]
    name = boxes.create(boxes.imported(tar_of(entries)), "true")
    where = f"/containers/{name}/archive"
    archive = tar_of([file("x", b"")])
    answer = api("PUT", where, archive, kind="application/x-tar", search=urlencode({"path": path}))
    # Docker answers 500 to each.
    assert answer.status == status or (not is_wherry and answer.status == 500), answer
    assert problem in answer.message and "internal" not in answer.message


def test_file_in(docker: Client, target: str, tree: Path) -> None:
    docker("cp", str(tree / "file"), f"{target}:/copied")
    assert read(docker, target, "/copied") == b"content"


def test_file_into_a_folder(docker: Client, target: str, tree: Path) -> None:
    docker("cp", str(tree / "file"), f"{target}:/tmp")
    assert read(docker, target, "/tmp/file") == b"content"


def test_folder_in(docker: Client, target: str, tree: Path) -> None:
    docker("cp", str(tree), f"{target}:/new")
    assert read(docker, target, "/new/sub/deep") == b"deeper"
    docker("cp", str(tree), f"{target}:/tmp")
    assert read(docker, target, "/tmp/tree/sub/deep") == b"deeper"


def test_contents_of_a_folder_in(docker: Client, target: str, tree: Path) -> None:
    docker("cp", f"{tree}/.", f"{target}:/tmp")
    assert read(docker, target, "/tmp/sub/deep") == b"deeper"


def test_archive_in(docker: Client, target: str) -> None:
    data = tar_of([directory("d"), file("d/x", b"from tar", 0o640, 33, 50), symlink("d/l", "x")])
    docker.raw("cp", "-", f"{target}:/tmp", stdin=data)
    assert read(docker, target, "/tmp/d/x") == b"from tar"
    assert names(docker, target, "/tmp/d") == ["d", "d/l", "d/x"]


def test_owners_of_what_is_copied(docker: Client, boxes: Boxes, tree: Path) -> None:
    name = boxes.sleeper()
    os.chown(tree / "file", 1234, 2345)
    docker("cp", str(tree / "file"), f"{name}:/plain")
    docker("cp", "-a", str(tree / "file"), f"{name}:/archive")
    docker.raw("cp", "-", f"{name}:/tmp", stdin=tar_of([file("t", b"", 0o600, 33, 50)]))
    owners = boxes.exec(name, "stat -c %u:%g /plain /archive /tmp/t").split()
    assert owners == ["1234:2345", "1234:2345", "33:50"]


def test_modes_and_links_survive(docker: Client, boxes: Boxes, tree: Path) -> None:
    name = boxes.sleeper()
    docker("cp", str(tree), f"{name}:/t")
    assert boxes.exec(name, "readlink /t/link; /t/program; stat -c %a /t/program").split() == [
        "file",
        "ran",
        "755",
    ]


def test_copied_file_is_seen_at_once(docker: Client, boxes: Boxes, tmp_path: Path) -> None:
    name = boxes.sleeper()
    path = tmp_path / "f"
    for n in range(5):
        path.write_text(f"{n}")
        docker("cp", str(path), f"{name}:/f")
        assert boxes.exec(name, "cat /f") == f"{n}"


def test_replaces_a_file(docker: Client, target: str, tree: Path) -> None:
    docker("cp", str(tree / "file"), f"{target}:/etc/passwd")
    assert read(docker, target, "/etc/passwd") == b"content"


def test_follows_a_link_of_the_host_on_request(docker: Client, target: str, tree: Path) -> None:
    docker("cp", "-L", str(tree / "link"), f"{target}:/followed")
    assert read(docker, target, "/followed") == b"content"


def test_into_a_bind_mount(docker: Client, boxes: Boxes, tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    name = boxes.sleeper("-v", f"{outside}:/data")
    docker("cp", str(tree / "file"), f"{name}:/data/x")
    assert (outside / "x").read_text() == "content"
    assert read(docker, name, "/data/x") == b"content"


def test_through_a_link_inside(docker: Client, boxes: Boxes, tree: Path) -> None:
    image = boxes.imported(tar_of([*busybox_entries(), symlink("esc", "/../../../../tmp")]))
    name = boxes.create(image, "sh")
    docker("cp", str(tree / "file"), f"{name}:/esc/x-wherry-cp")
    assert read(docker, name, "/tmp/x-wherry-cp") == b"content"
    assert not Path("/tmp/x-wherry-cp").exists()


def test_refused_into(docker: Client, target: str, tree: Path) -> None:
    for source, where, words in [
        (str(tree / "file"), "/no/such/dir/x", "could not find the file /no/such/dir"),
        (str(tree), "/etc/passwd", "cannot copy directory"),
        (str(tree / "file"), "/new/", "no such directory"),
        (str(tree / "none"), "/x", "no such file"),
    ]:
        done = docker("cp", source, f"{target}:{where}", check=False)
        assert done.returncode == 1, (source, where)
        assert words in done.stderr.lower()


def test_refused_read_only(docker: Client, boxes: Boxes, tree: Path) -> None:
    name = boxes.sleeper("--read-only")
    done = docker("cp", str(tree / "file"), f"{name}:/x", check=False)
    assert done.returncode == 1
    assert "rootfs is marked read-only" in done.stderr


# Out


def test_file_out(docker: Client, target: str, tmp_path: Path) -> None:
    docker("cp", f"{target}:/etc/passwd", str(tmp_path / "got"))
    assert (tmp_path / "got").read_text().startswith("root:x:0:0:")
    docker("cp", f"{target}:/etc/group", str(tmp_path))
    assert (tmp_path / "group").exists()


def test_folder_out(docker: Client, target: str, tmp_path: Path) -> None:
    docker("cp", f"{target}:/etc", str(tmp_path))
    assert (tmp_path / "etc/passwd").exists()
    docker("cp", f"{target}:/etc", str(tmp_path / "new"))
    assert (tmp_path / "new/passwd").exists()
    (tmp_path / "into").mkdir()
    docker("cp", f"{target}:/etc/.", str(tmp_path / "into"))
    assert (tmp_path / "into/passwd").exists()


def test_archive_out(docker: Client, target: str) -> None:
    assert names(docker, target, "/etc/passwd") == ["passwd"]
    assert {"etc", "etc/passwd", "etc/group"} <= set(names(docker, target, "/etc"))


def test_link_out(docker: Client, boxes: Boxes, tmp_path: Path) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "ln -s /etc/passwd /link")
    docker("cp", f"{name}:/link", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "/etc/passwd"
    docker("cp", "-L", f"{name}:/link", str(tmp_path / "file"))
    assert (tmp_path / "file").read_text().startswith("root:")


def test_owners_out(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "touch /owned; chown 33:50 /owned; chmod 640 /owned")
    data = docker.raw("cp", f"{name}:/owned", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.getmembers()[0]
    assert (member.uid, member.gid, member.mode & 0o7777) == (33, 50, 0o640)


def test_written_while_running(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper("--tmpfs", "/t")
    boxes.exec(name, "echo late >/late")
    assert read(docker, name, "/late") == b"late\n"


def test_a_file_is_no_folder(docker: Client, wherry: Client, target: str, tree: Path) -> None:
    for client in (docker, wherry):
        done = client("cp", str(tree / "file"), f"{target}:/etc/passwd/", check=False)
        assert done.returncode == 1
        assert done.stderr.strip().split("\n")[-1] == "no such directory"


def test_missing_out(docker: Client, target: str, tmp_path: Path) -> None:
    done = docker("cp", f"{target}:/no/such", str(tmp_path), check=False)
    assert done.returncode == 1
    assert f"Could not find the file /no/such in container {target}" in done.stderr


def test_between_containers_is_refused(docker: Client, box: str) -> None:
    done = docker("cp", f"{box}:/a", f"{box}:/b", check=False)
    assert done.returncode == 1
    assert "copying between containers is not supported" in done.stderr


def test_no_such_container(docker: Client, tmp_path: Path) -> None:
    done = docker("cp", "no-such-box:/x", str(tmp_path), check=False)
    assert done.returncode == 1
    assert "No such container: no-such-box" in done.stderr


def test_there_and_back(docker: Client, target: str, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(data)
    docker("cp", str(tmp_path / "in"), f"{target}:/data")
    docker("cp", f"{target}:/data", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data


# Differences


def test_diff(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    assert docker.line("diff", name) == ""
    boxes.exec(name, "echo x >>/etc/passwd; mkdir /new; touch /new/file; rm /etc/group; rm -r /var")
    assert sorted(docker("diff", name).stdout.splitlines()) == sorted(
        ["C /etc", "C /etc/passwd", "D /etc/group", "A /new", "A /new/file", "D /var"]
    )


def test_diff_of_a_replaced_folder(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "rm -r /var && mkdir /var && touch /var/x")
    assert set(docker("diff", name).stdout.splitlines()) == {"C /var", "A /var/x"}


def test_diff_ignores_what_the_engine_mounts(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper("--tmpfs", "/run/x")
    boxes.exec(name, "touch /dev/shm/x /run/x/y; echo z >>/etc/hosts")
    assert not [
        line for line in docker("diff", name).stdout.splitlines() if "/y" in line or "shm" in line
    ]


# Export


def test_export(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "echo mine >/mine; chown 33:50 /mine; rm -r /var")
    data = docker.raw("export", name).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name.rstrip("/"): member for member in tar.getmembers()}
        found = tar.extractfile("mine")
        assert found and found.read() == b"mine\n"
    assert (members["mine"].uid, members["mine"].gid) == (33, 50)
    assert "var" not in members
    assert members["bin/sh"].issym() and members["bin/sh"].linkname == "busybox"
    assert not [n for n in members if n.startswith("proc/") or ".wh." in n]


def test_export_is_importable(docker: Client, boxes: Boxes, run: Runner) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "echo carried >/carried")
    image = boxes.imported(docker.raw("export", name).stdout, "CMD cat /carried")
    assert run(image).stdout == "carried\n"


# Commit


def test_commit(docker: Client, boxes: Boxes, run: Runner, inspect: Inspect) -> None:
    name = boxes.sleeper("-e", "KEPT=1")
    boxes.exec(name, "echo committed >/file; rm -r /var")
    image = boxes.image_name()
    words = ["-m", "a message", "-a", "an author", "-c", 'CMD ["cat","/file"]', "-c", "ENV NEW=2"]
    made = docker.line("commit", *words, name, image)
    assert made == inspect(image, ".Id")
    assert run(image).stdout == "committed\n"
    env = run(image, "env").stdout.splitlines()
    assert {"KEPT=1", "NEW=2"} <= set(env)
    assert run(image, "ls", "/var", check=False).returncode == 1
    found = json.loads(docker("image", "inspect", image).stdout)[0]
    assert found["Comment"] == "a message"
    assert found["Author"] == "an author"
    assert len(found["RootFS"]["Layers"]) == 2


def test_commit_pauses_or_not(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    docker("commit", "-p=false", name, boxes.image_name())
    docker("commit", name, boxes.image_name())
    assert docker.line("inspect", "-f", "{{.State.Status}}", name) == "running"


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("ENTRYPOINT [\"/bin/echo\",\"a\"]", ".Config.Entrypoint", ["/bin/echo", "a"]),
        ("CMD echo hi", ".Config.Cmd", ["/bin/sh", "-c", "echo hi"]),
        ("EXPOSE 80/tcp", ".Config.ExposedPorts", {"80/tcp": {}}),
        ("LABEL a=1 b=\"two words\"", ".Config.Labels", {"a": "1", "b": "two words"}),
        ("USER www-data", ".Config.User", "www-data"),
        ("WORKDIR /tmp", ".Config.WorkingDir", "/tmp"),
        ("STOPSIGNAL SIGINT", ".Config.StopSignal", "SIGINT"),
    ],
)  # fmt: skip
def test_commit_changes(
    docker: Client, boxes: Boxes, inspect: Inspect, change: str, path: str, value: object
) -> None:
    image = boxes.image_name()
    docker("commit", "-c", change, boxes.create(boxes.image), image)
    assert inspect(image, path) == value


def test_what_the_image_gave_stays(docker: Client, boxes: Boxes, inspect: Inspect) -> None:
    words = ("VOLUME /kept", "STOPSIGNAL SIGINT", "EXPOSE 80", "USER 7", "WORKDIR /tmp", "ENV A=b")
    run = ('ENTRYPOINT ["sleep"]', 'CMD ["9"]', "HEALTHCHECK --interval=1h CMD true", "LABEL l=m")
    base = boxes.imported(tar_of(busybox_entries()), *words, *run)
    name = boxes.create("-v", "/own", base)
    whole = inspect(name, ".Config")
    assert isinstance(whole, dict)
    assert whole["Volumes"] == {"/kept": {}, "/own": {}}
    again = boxes.image_name()
    docker("commit", name, again)
    committed = inspect(again, ".Config")
    assert isinstance(committed, dict)
    assert {key: whole[key] for key in committed} == committed
    assert {"Volumes", "StopSignal", "Healthcheck", "ExposedPorts"} < set(committed)
    docker("rmi", "-f", again, base)
    assert inspect(name, ".Config") == whole


def test_commit_refused(docker: Client, boxes: Boxes) -> None:
    name = boxes.create(boxes.image)
    done = docker("commit", "-c", "NONSENSE x", name, check=False)
    assert done.returncode == 1
    assert "nonsense" in done.stderr.lower()
    done = docker("commit", name, "UPPER/Case", check=False)
    assert done.returncode == 1


def test_committed_twice_makes_layers(docker: Client, boxes: Boxes, run: Runner) -> None:
    image = boxes.image
    for n in range(4):
        name = boxes.run(image, "sh", "-c", f"echo {n} >/file{n}; rm -f /file{n - 2}")
        docker("wait", name)
        image = boxes.image_name()
        docker("commit", name, image)
    assert run(image, "ls", "/").stdout.split().count("file3") == 1
    found = [x for x in run(image, "ls", "/").stdout.split() if x.startswith("file")]
    assert found == ["file2", "file3"]


HOST_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def copied(boxes: Boxes, name: str, path: str) -> str:
    return read(boxes.docker, name, path).decode()


def test_the_engines_files_are_copied_out_of_what_has_ended(boxes: Boxes, tmp_path: Path) -> None:
    script = "cat /etc/hosts; echo --; cat /etc/hostname; echo --; cat /etc/resolv.conf"
    flags = ("-h", "myself", "--add-host", "there:1.2.3.4", "--dns", "9.9.9.9")
    name = boxes.sh(script, *flags)
    boxes.docker("wait", name)
    inside = boxes.docker("logs", name).stdout.split("--\n")
    assert "there" in inside[0] and inside[1] == "myself\n" and "9.9.9.9" in inside[2]
    assert [copied(boxes, name, path) for path in HOST_FILES] == inside
    # They are mounted on what the container has itself: they are not to be replaced.
    new = tmp_path / "new"
    new.write_text("new\n")
    for path, text in zip(HOST_FILES, inside, strict=True):
        refused = boxes.docker("cp", str(new), f"{name}:{path}", check=False)
        assert refused.returncode == 1 and "resource busy" in refused.stderr
        assert copied(boxes, name, path) == text


def test_the_engines_files_before_the_first_start(boxes: Boxes, tmp_path: Path) -> None:
    name = boxes.create("-h", "myself", boxes.image, "cat", "/etc/hostname")
    assert [copied(boxes, name, path) for path in HOST_FILES] == ["", "", ""]
    new = tmp_path / "new"
    new.write_text("new\n")
    for path in HOST_FILES:
        boxes.docker("cp", str(new), f"{name}:{path}")
        assert copied(boxes, name, path) == "new\n"
    assert boxes.docker("start", "-a", name).stdout == "myself\n"
    assert copied(boxes, name, "/etc/hostname") == "myself\n"
