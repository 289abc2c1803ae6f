"""Images through the docker client: names, listings, archives in and out."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, Runner
from tests.engine.tars import busybox_entries, directory, file, symlink, tar_of
from tests.harness.clients import Client
from tests.harness.engine import Engine

Inspect = Callable[[str, str], object]


@pytest.fixture
def tiny(boxes: Boxes) -> str:
    """A small image of its own."""
    return boxes.imported(tar_of([directory("d"), file("d/f", boxes.name().encode())]), "CMD /x")


def test_listed(docker: Client, tiny: str, inspect: Inspect) -> None:
    repository, _, tag = tiny.partition(":")
    row = json.loads(docker.line("images", "--format", "{{json .}}", repository))
    assert (row["Repository"], row["Tag"]) == (repository, tag)
    assert row["ID"] == str(inspect(tiny, ".Id")).removeprefix("sha256:")[:12]
    table = docker("images", repository).stdout.splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert len(table) == 2
    assert docker.line("images", "-q", "--no-trunc", repository) == inspect(tiny, ".Id")


def test_list_filters(docker: Client, boxes: Boxes, tiny: str) -> None:
    image = boxes.image_name()
    docker("commit", "-c", "LABEL it=me", boxes.create(tiny, "x"), image)

    def found(*filters: str) -> list[str]:
        words = [word for each in filters for word in ("--filter", each)]
        return docker.line("images", "--format", "{{.Repository}}:{{.Tag}}", *words).split()

    assert found(f"reference={image}") == [image]
    assert found("label=it=me") == [image]
    assert image in found(f"since={tiny}") and tiny not in found(f"since={tiny}")
    assert tiny in found(f"before={image}") and image not in found(f"before={image}")
    assert found(f"reference={image.split(':')[0]}*") == [image]
    assert image not in found("dangling=true")


def test_tag_and_untag(docker: Client, boxes: Boxes, tiny: str, inspect: Inspect) -> None:
    other = boxes.image_name()
    docker("tag", tiny, other)
    assert inspect(other, ".Id") == inspect(tiny, ".Id")
    assert docker.line("rmi", other) == f"Untagged: {other}"
    assert inspect(tiny, ".RepoTags") == [tiny]


def test_tag_moves(docker: Client, boxes: Boxes, tiny: str, inspect: Inspect) -> None:
    other = boxes.imported(tar_of([file("other", b"x")]))
    docker("tag", tiny, other)
    assert sorted(inspect(tiny, ".RepoTags")) == sorted([tiny, other])  # type: ignore[call-overload]


@pytest.mark.parametrize("bad", ["UPPER", "a:b:c", "a b", "", "-x/y", "x:" + "y" * 200])
def test_tag_refused(docker: Client, tiny: str, bad: str) -> None:
    done = docker("tag", tiny, "--", bad, check=False)
    assert done.returncode == 1
    assert done.stderr


def test_remove(docker: Client, boxes: Boxes, tiny: str, inspect: Inspect) -> None:
    whole = str(inspect(tiny, ".Id"))
    layer = str(json.loads(docker("image", "inspect", tiny).stdout)[0]["RootFS"]["Layers"][0])
    lines = docker("rmi", tiny).stdout.splitlines()
    assert lines[0] == f"Untagged: {tiny}"
    assert f"Deleted: {whole}" in lines
    assert f"Deleted: {layer}" in lines
    assert docker("image", "inspect", whole, check=False).returncode == 1


def test_remove_of_a_used_one(docker: Client, boxes: Boxes, tiny: str, inspect: Inspect) -> None:
    name = boxes.create(tiny)
    short = str(inspect(name, ".Id"))[:12]
    done = docker("rmi", tiny, check=False)
    assert done.returncode == 1
    assert (
        f'conflict: unable to remove repository reference "{tiny}" (must force) - '
        f"container {short} is using its referenced image"
    ) in done.stderr
    docker("rmi", "-f", tiny)
    assert docker.line("inspect", "-f", "{{.Name}}", name) == f"/{name}"


def test_remove_of_a_running_one(docker: Client, boxes: Boxes) -> None:
    image = boxes.imported(tar_of([*busybox_entries(), file("own", b"x")]))
    boxes.run(image, "sleep", "60")
    whole = docker.line("image", "inspect", "-f", "{{.Id}}", image)
    done = docker("rmi", "-f", whole, check=False)
    assert done.returncode == 1
    assert "(cannot be forced) - image is being used by running container" in done.stderr


def test_remove_by_short_id(docker: Client, tiny: str, inspect: Inspect) -> None:
    short = str(inspect(tiny, ".Id")).removeprefix("sha256:")[:12]
    assert f"Untagged: {tiny}" in docker("rmi", short).stdout


def test_no_such_image(docker: Client) -> None:
    for words in (
        ["rmi", "nosuch"],
        ["history", "nosuch"],
        ["tag", "nosuch", "x"],
        ["save", "nosuch"],
    ):
        done = docker(*words, check=False)
        assert done.returncode == 1
        assert "No such image: nosuch" in done.stderr, words
    done = docker("image", "inspect", "nosuch", check=False)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "No such image: nosuch" in done.stderr


def test_history(docker: Client, boxes: Boxes, tiny: str) -> None:
    image = boxes.image_name()
    docker("commit", "-m", "second", boxes.create(tiny), image)
    rows = [
        json.loads(x)
        for x in docker(
            "history", "--format", "{{json .}}", "--no-trunc", image
        ).stdout.splitlines()
    ]
    assert len(rows) == 2
    assert rows[0]["Comment"] == "second"
    assert rows[1]["Comment"].startswith("Imported from -")


def test_inspect(docker: Client, tiny: str) -> None:
    found = json.loads(docker("image", "inspect", tiny).stdout)[0]
    assert found["Os"] == "linux"
    assert found["Architecture"] in ("amd64", "arm64")
    assert found["RepoTags"] == [tiny]
    assert found["RootFS"]["Type"] == "layers"
    assert found["Config"]["Cmd"] == ["/bin/sh", "-c", "/x"]
    assert found["Size"] > 0
    assert re.match(r"\d{4}-\d\d-\d\dT", found["Created"])


# Archives


def test_save_and_load(docker: Client, boxes: Boxes, inspect: Inspect, tiny: str) -> None:
    whole = inspect(tiny, ".Id")
    data = docker.raw("save", tiny).stdout
    docker("rmi", tiny)
    out = docker.raw("load", stdin=data).stdout.decode()
    assert f"Loaded image: {tiny}" in out
    assert inspect(tiny, ".Id") == whole
    name = boxes.create(tiny, "x")
    got = docker.raw("cp", f"{name}:/d/f", "-").stdout
    assert b"wt-" in got


def test_saved_archive(docker: Client, tiny: str, inspect: Inspect) -> None:
    data = docker.raw("save", tiny).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar.getmembers()}

        def read(name: str) -> bytes:
            stream = tar.extractfile(members[name])
            assert stream is not None
            return stream.read()

        manifest = json.loads(read("manifest.json"))
        assert len(manifest) == 1 and manifest[0]["RepoTags"] == [tiny]
        config = read(manifest[0]["Config"])
        assert "sha256:" + hashlib.sha256(config).hexdigest() == inspect(tiny, ".Id")
        layers = [read(name) for name in manifest[0]["Layers"]]
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        plain = [gzip.decompress(x) if x[:2] == b"\x1f\x8b" else x for x in layers]
        assert ["sha256:" + hashlib.sha256(x).hexdigest() for x in plain] == diff_ids
        assert json.loads(read("oci-layout"))["imageLayoutVersion"] == "1.0.0"
        assert json.loads(read("index.json"))["manifests"]


def test_save_several_share_layers(docker: Client, boxes: Boxes, tiny: str) -> None:
    child = boxes.image_name()
    docker("commit", boxes.create(tiny, "x"), child)
    data = docker.raw("save", tiny, child).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        stream = tar.extractfile("manifest.json")
        assert stream is not None
        manifest = json.load(stream)
    assert sorted(tag for entry in manifest for tag in entry["RepoTags"]) == sorted([tiny, child])
    assert manifest[0]["Layers"][0] == manifest[1]["Layers"][0]
    docker("rmi", "-f", child, tiny)
    docker.raw("load", stdin=data)
    assert docker.line("images", "-q", tiny) and docker.line("images", "-q", child)


@pytest.mark.parametrize("compress", [gzip.compress, lambda data: data])
def test_load_compressed(
    docker: Client, tiny: str, inspect: Inspect, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    whole = inspect(tiny, ".Id")
    path = tmp_path / "image.tar"
    path.write_bytes(compress(docker.raw("save", tiny).stdout))
    docker("rmi", tiny)
    docker("load", "-i", str(path))
    assert inspect(tiny, ".Id") == whole


def test_save_to_a_file(docker: Client, tiny: str, tmp_path: Path) -> None:
    docker("save", "-o", str(tmp_path / "x.tar"), tiny)
    assert tarfile.is_tarfile(tmp_path / "x.tar")


def test_load_of_nonsense(docker: Client) -> None:
    for data in (
        b"",
        b"nonsense" * 1000,
        tar_of([file("x", b"y")]),
        tar_of([file("manifest.json", b"{")]),
    ):
        done = docker.raw("load", check=False, stdin=data)
        assert done.returncode == 1, data[:20]
        assert done.stderr


def test_load_with_a_wrong_digest(docker: Client, tiny: str) -> None:
    data = docker.raw("save", tiny).stdout
    docker("rmi", tiny)
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old.getmembers():
            stream = old.extractfile(member) if member.isfile() else None
            content = stream.read() if stream else b""
            if member.size > 1000 and b"ustar" in content:  # the layer: another file content
                content = content.replace(b"wt-", b"XX-")
            new.addfile(member, io.BytesIO(content) if stream else None)
    done = docker.raw("load", check=False, stdin=out.getvalue())
    assert done.returncode == 1
    assert docker.line("images", "-q", tiny) == ""


def test_import_from_a_file(docker: Client, boxes: Boxes, run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "root.tar.gz"
    path.write_bytes(gzip.compress(tar_of([*busybox_entries(), file("hello", b"hi\n")])))
    name = boxes.image_name()
    made = docker.line("import", "-m", "words", "-c", 'CMD ["cat","/hello"]', str(path), name)
    assert made.startswith("sha256:")
    assert run(name).stdout == "hi\n"


def test_import_from_a_url(
    docker: Client, wherry: Client, engine: Engine, boxes: Boxes, run: Runner, tmp_path: Path
) -> None:
    """The engine fetches it: from a server on its own host, which clients need not reach."""
    data = gzip.compress(tar_of([*busybox_entries(), file("hello", b"there")]))
    (tmp_path / "root.tar.gz").write_bytes(data)
    assert engine.network is not None
    with engine.network.inside():
        handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        for client in (docker, wherry):
            image = boxes.image_name()
            out = client("import", f"{base}/root.tar.gz", image).stdout
            assert f"Downloading from {base}/root.tar.gz" in out
            assert out.splitlines()[-1].startswith("sha256:")
            assert run(image, "cat", "/hello").stdout == "there"
            comment = client.line("inspect", "-f", "{{.Comment}}", image)
            assert comment == f"Imported from {base}/root.tar.gz"
            missing = client("import", f"{base}/nosuch", image, check=False)
            assert missing.returncode == 1 and "nosuch" in missing.stderr
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
    for client in (docker, wherry):
        done = client("import", f"{base}/root.tar.gz", check=False)
        assert done.returncode == 1 and "refused" in done.stderr


def test_import_of_nonsense(docker: Client, boxes: Boxes) -> None:
    done = docker.raw("import", "-", boxes.image_name(), check=False, stdin=b"not a tar" * 200)
    assert done.returncode == 1


def test_import_keeps_everything(boxes: Boxes, run: Runner) -> None:
    long = "n" * 200
    tar = tar_of([
        *busybox_entries(),
        directory("weird", 0o1755),
        file("weird/owned", b"1", 0o4755, 1234, 5678),
        file(f"weird/{long}", b"2"),
        file("weird/é ü", b"3"),
        symlink("weird/link", "/etc/passwd"),
    ])  # fmt: skip
    image = boxes.imported(tar)
    script = f"cd /weird; stat -c %a:%u:%g . owned; cat {long} 'é ü'; readlink link"
    assert run(image, "sh", "-c", script).stdout.split() == [
        "1755:0:0",
        "4755:1234:5678",
        "23/etc/passwd",
    ]


@pytest.mark.parametrize("name", ["../escape", "/../escape", "a/../../escape"])
def test_import_escapes(docker: Client, boxes: Boxes, name: str) -> None:
    """An entry that leaves the root is refused or stays inside; nothing appears outside."""
    image = boxes.image_name()
    docker.raw("import", "-", image, check=False, stdin=tar_of([file(name, b"x")]))
    for folder in ("/", "/tmp", "/var/tmp"):
        assert not Path(folder, "escape").exists()


def test_import_through_a_link(docker: Client, boxes: Boxes, tmp_path: Path) -> None:
    tar = tar_of([symlink("out", str(tmp_path)), file("out/file", b"x")])
    docker.raw("import", "-", boxes.image_name(), check=False, stdin=tar)
    assert list(tmp_path.iterdir()) == []


# Pruning


def test_prune_of_dangling(docker: Client, boxes: Boxes) -> None:
    label = boxes.name()
    image = boxes.imported(tar_of([file("x", label.encode())]), f"LABEL {label}=1")
    whole = docker.line("image", "inspect", "-f", "{{.Id}}", image)
    other = boxes.imported(tar_of([file("y", b"y")]))
    docker("tag", other, image)  # the first lost its name
    words = ["image", "prune", "-f", "--filter", f"label={label}"]
    out = docker(*words).stdout
    assert whole in out
    assert docker("image", "inspect", whole, check=False).returncode == 1
    assert "Total reclaimed space: 0B" in docker(*words).stdout


def test_prune_of_unused(docker: Client, boxes: Boxes) -> None:
    label = boxes.name()
    used = boxes.imported(tar_of([file("x", label.encode())]), f"LABEL {label}=1", "CMD /x")
    unused = boxes.imported(tar_of([file("y", label.encode())]), f"LABEL {label}=1")
    boxes.create(used)
    docker("image", "prune", "-a", "-f", "--filter", f"label={label}")
    assert docker("image", "inspect", used, check=False).returncode == 0
    assert docker("image", "inspect", unused, check=False).returncode == 1


def test_another_platform(docker: Client, boxes: Boxes) -> None:
    words = ["create", "--pull", "never", "--name", boxes.name(), "--platform", "linux/s390x"]
    done = docker(*words, boxes.image, check=False)
    assert done.returncode == 1
    assert "does not match the specified platform" in done.stderr or "No such image" in done.stderr
