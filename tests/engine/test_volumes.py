"""docker volume, and what a volume is to the containers that mount it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engine.boxes import Boxes, Runner, eventually
from tests.engine.conftest import Either
from tests.engine.raw import Api
from tests.engine.tars import Put, busybox_entries, directory, file, symlink, tar_of
from tests.harness.clients import Client

Inspect = Callable[..., Any]
ANONYMOUS = "com.docker.volume.anonymous"


@pytest.fixture(scope="module")
def filled(module_boxes: Boxes) -> str:
    """An image with content of every sort in /data, and links to it and out of the root."""
    entries: list[Put] = [
        *busybox_entries(),
        _owned_directory("data", 0o2750, 7, 8),
        file("data/file", b"one", 0o4711, 33, 34),
        _owned_directory("data/sub", 0o1777, 33, 34),
        file("data/sub/deep", b"two"),
        symlink("data/link", "file"),
        _fifo("data/pipe"),
        _hard("data/hard", "data/file"),
        symlink("way", "/data"),
        symlink("out", "/../../../../../../etc"),
        directory("bare"),
        file("plain", b"x"),
    ]
    return module_boxes.imported(tar_of(entries), "CMD sh")


def _owned_directory(name: str, mode: int, uid: int, gid: int) -> Put:
    import tarfile

    def put(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, uid, gid
        tar.addfile(info)

    return put


def _fifo(name: str) -> Put:
    import tarfile

    def put(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.FIFOTYPE, 0o640
        tar.addfile(info)

    return put


def _hard(name: str, target: str) -> Put:
    import tarfile

    def put(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.LNKTYPE, target
        tar.addfile(info)

    return put


@pytest.fixture
def mounts(docker: Client) -> Callable[[str], dict[str, dict[str, Any]]]:
    """A container's Mounts by their destination."""

    def read(name: str) -> dict[str, dict[str, Any]]:
        found = json.loads(docker.line("inspect", "-f", "{{json .Mounts}}", name))
        return {entry["Destination"]: entry for entry in found}

    return read


# -- the resource ------------------------------------------------------------------------------


def test_a_volume_is_made_shown_and_removed(docker: Client, boxes: Boxes) -> None:
    name = boxes.volume("--label", "a=b", "--label", "c")
    (shown,) = json.loads(docker.line("volume", "inspect", name))
    assert shown.pop("CreatedAt").endswith("Z")
    assert shown.pop("Mountpoint").endswith(f"/volumes/{name}/_data")
    assert shown == {
        "Driver": "local",
        "Labels": {"a": "b", "c": ""},
        "Name": name,
        "Options": None,
        "Scope": "local",
    }
    assert name in docker.line("volume", "ls", "-q").split()
    # Again with other labels is no error, and changes nothing.
    assert docker.line("volume", "create", "--label", "a=x", name) == name
    assert '"a": "b"' in docker.line("volume", "inspect", name)
    assert docker.line("volume", "rm", name) == name
    gone = docker("volume", "inspect", name, check=False)
    assert gone.returncode == 1
    assert f"get {name}: no such volume" in gone.stderr
    assert f"get {name}: no such volume" in docker("volume", "rm", name, check=False).stderr
    assert docker.line("volume", "rm", "-f", name) == name


def test_a_volume_without_a_name(docker: Client, api: Api) -> None:
    made = api("POST", "/volumes/create", {}).json()
    try:
        assert len(made["Name"]) == 64
        assert made["Labels"] == {ANONYMOUS: ""}
        assert made["Options"] is None
    finally:
        docker("volume", "rm", made["Name"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"Name": "x"}, 400, "create x: volume name is too short, names should be at least two"),
        ({"Name": "a b"}, 400, 'create a b: "a b" includes invalid characters for a local volume'),
        ({"Name": "../x"}, 400, 'create ../x: "../x" includes invalid characters'),
        ({"Name": ".hidden"}, 400, 'create .hidden: ".hidden" includes invalid characters'),
        ({"Name": "a/b"}, 400, 'create a/b: "a/b" includes invalid characters'),
        ({"Name": "vv", "DriverOpts": {"bad": "1"}}, 400, 'create vv: invalid option: "bad"'),
        (
            {"Name": "vv", "DriverOpts": {"size": "1m"}},
            400,
            "create vv: quota size requested but no quota support",
        ),
        (
            {"Name": "vv", "DriverOpts": {"type": "tmpfs"}},
            400,
            'create vv: missing required option: "device"',
        ),
        (
            {"Name": "vv", "DriverOpts": {"device": "/x", "o": "bind"}},
            400,
            'create vv: missing required option: "type"',
        ),
        (
            {"Name": "vv", "Driver": "nope"},
            404,
            'create vv: error looking up volume plugin nope: plugin "nope" not found',
        ),
        ({"Name": "vv", "ClusterVolumeSpec": {}}, 503, "This node is not a swarm manager."),
        ({"Name": 5}, 400, "invalid JSON"),
    ],
)
def test_what_cannot_be_a_volume(api: Api, body: dict[str, Any], status: int, message: str) -> None:
    answer = api("POST", "/volumes/create", body)
    assert (answer.status, message in answer.message) == (status, True), answer.message


def test_names_as_long_as_a_file_name(docker: Client, boxes: Boxes, run: Runner) -> None:
    name = boxes.volume_name() + "-" * 242
    assert len(name) == 253
    docker("volume", "create", name)
    try:
        assert run.sh("echo x >/v/x; cat /v/x", "-v", f"{name}:/v") == "x\n"
    finally:
        docker("volume", "rm", name)
    assert docker("volume", "create", name + "xxx", check=False).returncode == 1


def test_volumes_are_listed_by_filters(docker: Client, boxes: Boxes) -> None:
    one, other = boxes.volume("--label", "wt-k=1"), boxes.volume("--label", "wt-k=2")
    boxes.create("-v", f"{one}:/v", boxes.image)

    def listed(*filters: str) -> set[str]:
        words = [word for text in filters for word in ("-f", text)]
        return set(docker.line("volume", "ls", "-q", *words).split()) & {one, other}

    assert listed() == {one, other}
    assert listed(f"name={one}") == {one}
    assert listed(f"name={one[3:]}") == {one}
    assert listed("name=^wt-", "label=wt-k") == {one, other}
    assert listed("label=wt-k=2") == {other}
    assert listed("label=wt-k=1", "label=wt-k=2") == set()
    assert listed("driver=local") == {one, other}
    assert listed("driver=nope") == set()
    assert listed("dangling=true") == {other}
    assert listed("dangling=0") == {one}
    for text, said in (
        ("dangling=x", "invalid filter 'dangling=[x]'"),
        ("nope=1", "invalid filter 'nope'"),
        ("label!=x", "invalid filter 'label!'"),
    ):
        assert said in docker("volume", "ls", "-f", text, check=False).stderr


def test_what_is_in_use_stays(docker: Client, boxes: Boxes) -> None:
    volume = boxes.volume()
    users = [boxes.create("-v", f"{volume}:/v", boxes.image), boxes.sleeper("-v", f"{volume}:/v")]
    ids = {docker.line("inspect", "-f", "{{.Id}}", user) for user in users}
    for flags in ((), ("-f",)):
        said = docker("volume", "rm", *flags, volume, check=False)
        assert said.returncode == 1
        assert f"remove {volume}: volume is in use - [" in said.stderr
        assert set(said.stderr.strip().rpartition("[")[2].rstrip("]").split(", ")) == ids
    docker("rm", "-f", *users)
    docker("volume", "rm", volume)


def test_a_cluster_volume_cannot_be_updated(api: Api, boxes: Boxes) -> None:
    answer = api("PUT", f"/volumes/{boxes.volume()}", {}, version="v1.47")
    assert answer.status == 503
    assert "swarm is unavailable" in answer.message


def test_prune_takes_anonymous_ones_only(docker: Client, api: Api, boxes: Boxes) -> None:
    label = f"{boxes.volume_name()}=1"
    named = boxes.volume("--label", label)
    used = boxes.volume("--label", label)
    boxes.create("-v", f"{used}:/v", boxes.image)
    key, _, value = label.partition("=")
    bare = api("POST", "/volumes/create", {"Labels": {key: value}}).json()["Name"]

    def prune(*words: str) -> set[str]:
        text = docker.line("volume", "prune", "-f", *words, "--filter", f"label={label}")
        assert "Total reclaimed space: " in text
        return set(text.split()) & {named, used, bare}

    assert prune("--filter", f"label!={key}") == set()
    assert prune() == {bare}
    assert prune("-a") == {named}
    assert (
        "invalid filter 'until'"
        in docker("volume", "prune", "-f", "--filter", "until=1h", check=False).stderr
    )
    refused = api("POST", "/volumes/prune", filters=json.dumps({"all": ["x"]}))
    assert refused.status == 400
    assert "invalid filter 'all'" in refused.message


def test_usage(docker: Client, api: Api, boxes: Boxes, run: Runner) -> None:
    volume = boxes.volume()
    run.sh("head -c 100000 /dev/zero >/v/a; ln /v/a /v/b; mkdir /v/d", "-v", f"{volume}:/v")
    boxes.create("-v", f"{volume}:/v", "-v", f"{volume}:/w", boxes.image)
    own_file_system = boxes.volume("-o", "type=tmpfs", "-o", "device=tmpfs")
    found = {v["Name"]: v for v in api("GET", "/system/df", type="volume").json()["Volumes"]}
    assert found[volume]["UsageData"] == {"RefCount": 1, "Size": 100_000}
    assert own_file_system not in found
    assert "UsageData" not in api("GET", f"/volumes/{volume}").json()
    assert volume in docker.line("system", "df", "-v")


# -- mounting ----------------------------------------------------------------------------------


def test_content_outlives_containers(boxes: Boxes, run: Runner, docker: Client) -> None:
    volume = boxes.volume_name()
    run.sh("echo kept >/v/x; chown 33:44 /v/x; chmod 4750 /v/x", "-v", f"{volume}:/v")
    assert volume in docker.line("volume", "ls", "-q")
    shown = run.sh("cat /w/x; stat -c '%u %g %a' /w/x", "-v", f"{volume}:/w")
    assert shown == "kept\n33 44 4750\n"


def test_the_content_of_the_image_is_copied_up(
    boxes: Boxes, docker: Client, filled: str, run: Runner
) -> None:
    script = "cd /v; stat -c '%n %F %u %g %a %h' . *; cat file; readlink link; cat sub/deep"
    expected = docker.line(
        "run", "--rm", "--network", "none", filled, "sh", "-c", script.replace("/v", "/data")
    )
    volume = boxes.volume_name()
    boxes.create("-v", f"{volume}:/data", filled)
    # It is done by create, and for every container after that.
    assert run.sh(script, "-v", f"{volume}:/v").strip() == expected
    assert ". directory 7 8 2750" in expected


def test_what_is_there_is_not_copied_over(boxes: Boxes, docker: Client, filled: str) -> None:
    volume = boxes.volume_name()
    flags = ("--rm", "--network", "none", "-v")
    docker("run", *flags, f"{volume}:/bare", filled, "sh", "-c", "echo mine >/bare/file")
    words = (filled, "sh", "-c", "cat /data/*; stat -c '%u %g %a' /data")
    assert docker.line("run", *flags, f"{volume}:/data", *words) == "mine\n0 0 755"


def test_nocopy(boxes: Boxes, docker: Client, filled: str) -> None:
    for flags in (
        ("-v", f"{boxes.volume_name()}:/data:nocopy"),
        ("--mount", f"type=volume,source={boxes.volume_name()},target=/data,volume-nocopy"),
    ):
        words = ("run", "--rm", "--network", "none", *flags, filled, "ls", "-A", "/data")
        assert docker.line(*words) == ""


def test_links_in_the_image_are_resolved_inside_of_it(
    boxes: Boxes, docker: Client, filled: str
) -> None:
    """CVE-2018-15664 and the like: what is copied is never the host's."""
    volume, other = boxes.volume_name(), boxes.volume_name()
    words = ("run", "--rm", "--network", "none")
    listed = docker.line(*words, "-v", f"{volume}:/way", filled, "ls", "/way").split()
    assert listed == ["file", "hard", "link", "pipe", "sub"]
    # /out leads to the image's own /etc, which the mount then is on.
    inside = docker.line(*words, filled, "ls", "-A", "/etc").split()
    found = docker.line(*words, "-v", f"{other}:/out", filled, "ls", "-A", "/out/").split()
    assert set(found) - {"hosts", "hostname", "resolv.conf", "mtab"} <= set(inside)


def test_a_volume_on_a_file_is_refused(boxes: Boxes, docker: Client, filled: str) -> None:
    done = docker("create", "-v", f"{boxes.volume_name()}:/plain", filled, check=False)
    assert done.returncode == 1
    assert "is not directory" in done.stderr


def test_a_volume_is_shared_while_it_is_empty(boxes: Boxes, docker: Client, filled: str) -> None:
    """The directory that a running container has mounted is the one that is filled."""
    volume = boxes.volume()
    first = boxes.sleeper("-v", f"{volume}:/v")
    boxes.create("-v", f"{volume}:/data", filled)
    assert boxes.exec(first, "cat /v/file") == "one"


def test_read_only(boxes: Boxes, run: Runner, mounts: Any) -> None:
    volume = boxes.volume()
    for flags in (
        ("-v", f"{volume}:/v:ro"),
        ("--mount", f"type=volume,src={volume},dst=/v,readonly"),
    ):
        assert run.code("touch /v/x", *flags) == 1
        assert run.code("mount -o remount,rw /v || touch /v/x", *flags) == 1
    assert run.code("touch /v/x", "-v", f"{volume}:/v:rw") == 0


def test_mounts_are_shown(boxes: Boxes, docker: Client, mounts: Any) -> None:
    volume = boxes.volume()
    name = boxes.create(
        "-v", f"{volume}:/a", "-v", f"{volume}:/b:ro", "-v", "/c",
        "--mount", f"type=volume,source={volume},target=/d/../e/", boxes.image,
    )  # fmt: skip
    found = mounts(name)
    assert sorted(found) == ["/a", "/b", "/c", "/e"]
    source = docker.line("volume", "inspect", "-f", "{{.Mountpoint}}", volume)
    assert found["/a"] == {
        "Type": "volume",
        "Name": volume,
        "Source": source,
        "Destination": "/a",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
    assert (found["/b"]["Mode"], found["/b"]["RW"]) == ("ro", False)
    assert (found["/c"]["Mode"], len(found["/c"]["Name"])) == ("", 64)
    assert (found["/e"]["Mode"], found["/e"]["Name"]) == ("z", volume)
    listed = docker.line(
        "ps", "-a", "--filter", f"name={name}", "--format", "{{.Mounts}}|{{.LocalVolumes}}"
    )
    assert volume in listed
    assert listed.endswith("|4")
    assert docker.line("ps", "-aq", "--filter", f"volume={volume}", "--filter", f"name={name}")
    docker("rm", "-v", name)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("-v", "vv:rel"), "invalid volume specification: 'vv:rel': invalid mount config for type"),
        (("-v", "vv:/"), "invalid specification: destination can't be '/'"),
        (("-v", "vv:/a:foo"), "invalid mode: foo"),
        (("-v", "vv:/a:z,Z"), "invalid mode: z,Z"),
        (("-v", "vv:/a:nocopy,nocopy"), "invalid mode: nocopy,nocopy"),
        (("-v", "vv:/a:ro,rshared"), 'config for type "volume": field BindOptions must not be'),
        (("-v", "/etc:/a:nocopy"), 'config for type "bind": field VolumeOptions must not be'),
        (("-v", "vv:/a", "-v", "ww:/a"), "Duplicate mount point: /a"),
        (("--mount", "type=volume,source=x,target=/a"), "volume name is too short"),
        (("--mount", "type=volume,source=a b,target=/a"), "includes invalid characters"),
        (("--mount", "type=volume,source=/abs,target=/a"), "includes invalid characters"),
        (
            ("--mount", "type=volume,target=/a,volume-subpath=x"),
            "must not set Subpath when using anonymous volumes",
        ),
        (
            ("--mount", "type=volume,source=vv,target=/a,volume-subpath=../x"),
            "subpath must be a relative path within the volume",
        ),
        (
            ("--mount", "type=volume,source=vv,target=/a,volume-subpath=/x"),
            "subpath must be a relative path within the volume",
        ),
        (
            ("--mount", "type=volume,source=v-none,target=/a,volume-opt=type=nfs"),
            'create v-none: missing required option: "device"',
        ),
        (("--mount", "type=cluster,source=x,target=/a"), "mount type unknown"),
        (("--mount", "type=npipe,source=x,target=/a"), "mount type unknown"),
        (("--volumes-from", "no-such-box"), "No such container: no-such-box"),
        (("--volumes-from", ":ro"), "invalid name or ID supplied"),
    ],
)  # fmt: skip
def test_mounts_that_are_refused(
    docker: Client, boxes: Boxes, flags: tuple[str, ...], said: str
) -> None:
    done = docker("create", *flags, boxes.image, check=False)
    # Docker has made the first of two before it sees the second.
    docker("volume", "rm", "-f", "vv", check=False)
    assert done.returncode == 1, done.stdout
    assert said in done.stderr


def test_drivers_that_are_not_there(api: Api, boxes: Boxes) -> None:
    # The client takes a 404 for a missing image, and would pull it.
    named = {"Type": "volume", "Source": "v-none", "Target": "/a"}
    for host in (
        {"Mounts": [{**named, "VolumeOptions": {"DriverConfig": {"Name": "nope"}}}]},
        {"Binds": ["v-none:/a"], "VolumeDriver": "nope"},
    ):
        answer = api("POST", "/containers/create", {"Image": boxes.image, "HostConfig": host})
        assert answer.status == 404
        assert answer.message == (
            'create v-none: error looking up volume plugin nope: plugin "nope" not found'
        )


@pytest.mark.parametrize("mode", ["xx", "nocopy", "z,ro,rw"])
def test_modes_of_volumes_from(docker: Client, boxes: Boxes, mode: str) -> None:
    box = boxes.create(boxes.image)
    done = docker("create", "--volumes-from", f"{box}:{mode}", boxes.image, check=False)
    assert f"invalid mode: {mode}" in done.stderr


def test_volumes_from(boxes: Boxes, docker: Client, mounts: Any) -> None:
    one, other = boxes.volume(), boxes.volume()
    donor = boxes.create("-v", f"{one}:/s:ro", "-v", "/etc:/b:ro", "-v", "/anon", boxes.image)
    anonymous = mounts(donor)["/anon"]["Name"]
    heir = mounts(boxes.create("--volumes-from", donor, "-v", f"{other}:/s", boxes.image))
    assert (heir["/s"]["Name"], heir["/s"]["RW"]) == (other, True)
    assert (heir["/b"]["Source"], heir["/b"]["RW"]) == ("/etc", False)
    assert (heir["/anon"]["Name"], heir["/anon"]["RW"]) == (anonymous, True)
    name = boxes.create("--volumes-from", f"{donor}:ro", boxes.image)
    assert not mounts(name)["/anon"]["RW"]
    assert not mounts(boxes.create("--volumes-from", f"{donor}:rw", boxes.image))["/s"]["RW"]
    writer = boxes.run("--volumes-from", donor, boxes.image, "sh", "-c", "echo x >/anon/x")
    assert docker.line("wait", writer) == "0"
    # The anonymous volume goes with the last container that has it.
    docker("rm", "-v", donor)
    assert anonymous in docker.line("volume", "ls", "-q")


def test_anonymous_volumes_go_with_their_container(
    boxes: Boxes, docker: Client, filled: str, mounts: Any
) -> None:
    image = boxes.image_name()
    box = boxes.create(filled)
    docker("commit", "-c", "VOLUME /data /more", box, image)

    def anonymous(name: str) -> set[str]:
        return {entry["Name"] for entry in mounts(name).values() if len(entry["Name"]) == 64}

    def left() -> set[str]:
        return set(docker.line("volume", "ls", "-q").split())

    kept = boxes.create(image)
    names = anonymous(kept)
    assert len(names) == 2
    assert names <= left()
    docker("rm", kept)
    assert names <= left()
    docker("volume", "rm", *names)
    named = boxes.volume_name()
    gone = boxes.create("-v", f"{named}:/data", image)
    names = anonymous(gone)
    assert len(names) == 1
    docker("rm", "-v", gone)
    assert not names & left()
    assert named in left()
    running = boxes.run(image, "sleep", "600")
    names = anonymous(running)
    docker("rm", "-f", "-v", running)
    assert not names & left()
    before = left()
    words = ("run", "--rm", "--network", "none", image, "cat", "/data/file")
    assert docker.line(*words) == "one"
    eventually(lambda: left() <= before)
    # One that could not be started leaves nothing either.
    assert docker("run", "--rm", "--network", "none", image, "no-such", check=False).returncode
    eventually(lambda: left() <= before)


def test_a_restart_keeps_the_volumes(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper("-v", "/anon", "-v", f"{boxes.volume_name()}:/v")
    boxes.exec(name, "echo 1 >/anon/x; echo 2 >/v/x")
    docker("restart", "-t", "1", name)
    assert boxes.exec(name, "cat /anon/x /v/x") == "1\n2\n"
    docker("rm", "-f", "-v", name)


# -- subpaths ----------------------------------------------------------------------------------


def test_subpaths(boxes: Boxes, run: Runner) -> None:
    volume = boxes.volume()
    run.sh(
        "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s a /v/good; ln -s / /v/evil; ln -s /etc /v/etc;"
        "ln -s ../../../../../../etc /v/a/up; ln -s b/../../.. /v/a/round; ln -s loop /v/loop",
        "-v", f"{volume}:/v",
    )  # fmt: skip

    def at(path: str) -> tuple[str, ...]:
        return ("--mount", f"type=volume,source={volume},target=/t,volume-subpath={path}")

    assert run.sh("cat /t/f", *at("a/b")) == "deep\n"
    assert run.sh("cat /t", *at("a/b/f")) == "deep\n"
    assert run.sh("cat /t/b/f", *at("good")) == "deep\n"
    assert run.sh("cat /t/a/b/f", *at(".")) == "deep\n"
    assert run.sh("cat /t/f", *at("a/../a/b")) == "deep\n"
    done = run(*at("nope"), run.image, "true", check=False)
    assert done.returncode == 127
    assert "cannot access path" in done.stderr
    assert "/nope: no such file or directory" in done.stderr
    for path in ("evil", "evil/etc", "etc", "a/round"):
        assert "path concatenation escapes the base directory" in run.refused(*at(path)), path
    # Docker looks for it on the host and finds nothing: 127.
    assert run(*at("a/up"), run.image, "true", check=False).returncode in (125, 127)
    assert run(*at("loop"), run.image, "true", check=False).returncode != 0
    read_only = f"type=volume,source={volume},target=/t,volume-subpath=a,readonly"
    assert run.code("touch /t/x", "--mount", read_only) == 1


def test_a_subpath_that_is_swapped_meanwhile(boxes: Boxes, run: Runner, docker: Client) -> None:
    """CVE-2021-30465, CVE-2023-…: a container that shares the volume exchanges a link for a directory."""
    volume = boxes.volume()
    swapper = boxes.sh(
        "mkdir /v/real; echo inside >/v/real/f; ln -s / /v/link; "
        "while :; do mv /v/real /v/x; mv /v/link /v/real; mv /v/real /v/link; mv /v/x /v/real; done",
        "-v", f"{volume}:/v",
    )  # fmt: skip
    mount = ("--mount", f"type=volume,source={volume},target=/t,volume-subpath=real")
    for _ in range(6):
        done = run(*mount, run.image, "ls", "/t", check=False)
        assert done.returncode != 0 or done.stdout == "f\n", done.stdout
    docker("rm", "-f", swapper)


# -- the local driver's options ----------------------------------------------------------------


@pytest.fixture
def memory(boxes: Boxes) -> Iterator[str]:
    """A volume that is a tmpfs of a megabyte."""
    yield boxes.volume("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=5,mode=750")


def test_a_tmpfs_volume_lives_as_long_as_it_is_used(
    boxes: Boxes, docker: Client, run: Runner, memory: str
) -> None:
    one = boxes.sleeper("-v", f"{memory}:/t")
    assert boxes.exec(one, "stat -c '%u %a' /t; df -k /t | awk 'END {print $1, $2}'") == (
        "5 750\ntmpfs 1024\n"
    )
    boxes.exec(one, "echo shared >/t/x; chown 9 /t/x")
    other = boxes.sleeper("-v", f"{memory}:/u")
    assert boxes.exec(other, "cat /u/x; stat -c %u /u/x") == "shared\n9\n"
    docker("rm", "-f", one)
    assert boxes.exec(other, "cat /u/x") == "shared\n"
    assert run.sh("cat /t/x", "-v", f"{memory}:/t") == "shared\n"
    docker("rm", "-f", other)
    assert run.sh("ls -A /t", "-v", f"{memory}:/t") == ""
    assert run.code("head -c 2000000 /dev/zero >/t/x", "-v", f"{memory}:/t") == 1


def test_a_tmpfs_volume_below_a_subpath(boxes: Boxes, run: Runner, memory: str) -> None:
    one = boxes.sleeper("-v", f"{memory}:/t")
    boxes.exec(one, "mkdir /t/sub; echo x >/t/sub/f")
    mount = f"type=volume,source={memory},target=/s,volume-subpath=sub"
    assert run.sh("cat /s/f", "--mount", mount) == "x\n"


def test_a_volume_that_is_a_directory_of_the_host(
    boxes: Boxes, docker: Client, run: Runner, is_wherry: bool, tmp_path: Any
) -> None:
    # Docker's own root is another: a directory that both have.
    volume = boxes.volume("-o", "type=none", "-o", "device=/usr/share", "-o", "o=bind,ro")
    assert "dpkg" in run.sh("ls /v", "-v", f"{volume}:/v")
    assert run.code("touch /v/x", "-v", f"{volume}:/v") == 1
    docker("volume", "rm", volume)


@pytest.mark.parametrize(
    "options",
    [
        ("type=none", "device=/no/such", "o=bind"),
        ("type=no-such-fs", "device=x"),
        ("type=ext4", "device=/no/such"),
    ],
)
def test_what_cannot_be_mounted_fails_the_start(
    boxes: Boxes, docker: Client, options: tuple[str, ...]
) -> None:
    volume = boxes.volume(*(word for option in options for word in ("-o", option)))
    # Nothing of the image lies there: create need not mount it.
    name = boxes.create("-v", f"{volume}:/nothing-here", boxes.image)
    done = docker("start", name, check=False)
    assert done.returncode == 1
    assert "error while mounting volume '" in done.stderr
    assert "no such" in done.stderr
    docker("rm", name)
    docker("volume", "rm", volume)


NO_SUCH = "no-such-server.invalid"
UNRESOLVED = f"error resolving passed in network volume address: lookup {NO_SUCH}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("type=nfs", "device=:/x", f"o=addr={NO_SUCH},rw"), UNRESOLVED),
        (("type=cifs", f"device=//{NO_SUCH}/s", "o=username=u,password=secret"), UNRESOLVED),
        (("type=cifs", "device=//x/s", f"o=addr={NO_SUCH},password=secret"), UNRESOLVED),
        (("type=nfs", "device=:/x", "o=addr=127.0.0.1,rw,soft,timeo=1,retrans=0,port=1,mountport=1"),
         "failed to mount local volume: mount :/x:"),
        (("type=nfs4", "device=:/x", "o=addr=127.0.0.1,soft,timeo=1,retrans=0,port=1"),
         "data: addr=127.0.0.1,soft,timeo=1"),
        (("type=cifs", "device=//127.0.0.1/s", "o=username=u,password=secret,addr=127.0.0.1,port=1"),
         "data: username=u,password=********,addr=127.0.0.1"),
    ],
)  # fmt: skip
def test_servers_that_are_not_there(
    boxes: Boxes, docker: Client, options: tuple[str, ...], said: str
) -> None:
    """Whether the kernel knows the file system or not: the start fails in Docker's words, no password told."""
    volume = boxes.volume(*(word for option in options for word in ("-o", option)))
    name = boxes.create("-v", f"{volume}:/nothing-here", boxes.image)
    done = docker("start", name, check=False)
    assert done.returncode == 1
    assert "error while mounting volume '" in done.stderr and said in done.stderr
    assert "secret" not in done.stderr


# -- images as mounts --------------------------------------------------------------------------


def test_images_are_mounted_read_only(
    boxes: Boxes, docker: Client, run: Runner, filled: str, mounts: Any
) -> None:
    whole = ("--mount", f"type=image,source={filled},target=/i")
    assert run.sh("cat /i/data/file; stat -c '%u %g %a' /i/data", *whole) == "one7 8 2750\n"
    assert run.code("touch /i/x", *whole) == 1
    below = f"type=image,source={filled},target=/i,image-subpath"
    assert run.sh("cat /i/deep", "--mount", f"{below}=data/sub") == "two"
    assert run.sh("cat /i", "--mount", f"{below}=data/file") == "one"
    assert "subpath must be a relative path" in run.refused("--mount", f"{below}=../..")
    missing = run("--mount", f"{below}=nope", run.image, "true", check=False)
    assert missing.returncode == 127
    name = boxes.create(*whole, boxes.image)
    entry = mounts(name)["/i"]
    assert (entry["Type"], entry["Name"], entry["RW"]) == ("image", filled, False)
    refused = docker("rmi", filled, check=False)
    assert refused.returncode == 1
    assert "is using its referenced image" in refused.stderr


def test_an_image_of_several_layers(boxes: Boxes, docker: Client, run: Runner, filled: str) -> None:
    image = boxes.image_name()
    box = boxes.run(filled, "sh", "-c", "rm /data/file; echo new >/data/sub/new")
    docker("wait", box)
    docker("commit", box, image)
    mount = ("--mount", f"type=image,source={image},target=/i")
    assert run.sh("ls /i/data; cat /i/data/sub/new", *mount) == "hard\nlink\npipe\nsub\nnew\n"
    below = f"type=image,source={image},target=/i,image-subpath=data/sub"
    assert run.sh("cat /i/deep /i/new", "--mount", below) == "twonew\n"


def test_an_image_that_is_not_there(docker: Client, boxes: Boxes) -> None:
    mount = "type=image,source=no-such-image:1,target=/i"
    done = docker("create", "--mount", mount, boxes.image, check=False)
    assert done.returncode != 0
    assert "type=image,target=/i" not in done.stderr
    empty = docker("create", "--mount", "type=image,target=/i", boxes.image, check=False)
    assert 'invalid mount config for type "image": field Source must not be empty' in empty.stderr


# -- beside mounting ---------------------------------------------------------------------------


def test_ids_are_the_containers_own(boxes: Boxes, docker: Client, run: Runner) -> None:
    """Containers with ranges of their own, and one in the host's namespace, see the same owners."""
    volume = boxes.volume()
    mount = ("-v", f"{volume}:/v")
    boxes.sleeper(*mount)
    run.sh("touch /v/a; chown 1000:2000 /v/a; mkfifo /v/p", *mount)
    host = ("--userns", "host")
    assert run.sh("stat -c '%u %g' /v/a; touch /v/b", *mount, *host) == "1000 2000\n"
    assert run.sh("stat -c '%u %g' /v/a /v/b; rm /v/b", *mount) == "1000 2000\n0 0\n"
    assert run.code("mknod /v/null c 1 3 && echo x >/v/null", *mount, "--cap-drop", "MKNOD") == 1


def test_events(boxes: Boxes, docker: Client, run: Runner, either: Either) -> None:
    begun = time.time()
    volume = boxes.volume_name()
    name = boxes.run("-v", f"{volume}:/v:ro", boxes.image, "true")
    container = docker.line("inspect", "-f", "{{.Id}}", name)
    docker("wait", name)
    docker("rm", name)
    docker("volume", "rm", volume)
    words = ("events", "--since", str(begun - 1), "--until", str(time.time() + 0.5))
    lines = docker.line(*words, "--filter", f"volume={volume}", "--format", "{{json .}}")
    seen = [(e["Action"], e["Actor"]["Attributes"]) for e in map(json.loads, lines.splitlines())]
    assert seen == [
        ("create", {"driver": "local"}),
        (
            "mount",
            {
                "container": container,
                "destination": "/v",
                "driver": "local",
                "propagation": "",
                "read/write": "false",
            },
        ),
        ("unmount", {"container": container, "driver": "local"}),
        ("destroy", {"driver": "local"}),
    ]


def test_copying_into_and_out_of_volumes(
    boxes: Boxes, docker: Client, filled: str, tmp_path: Any
) -> None:
    volume = boxes.volume_name()
    name = boxes.create("-v", f"{volume}:/data", "-v", "/fresh", filled, "sleep", "600")
    source = tmp_path / "in"
    source.write_text("copied")
    for round_ in ("stopped", "running"):
        if round_ == "running":
            docker("start", name)
        assert docker.raw("cp", f"{name}:/data/file", "-").stdout.count(b"one")
        # Through a link of the image's that leads into the volume, and from above.
        assert docker.raw("cp", f"{name}:/way/sub/deep", "-").stdout.count(b"two")
        assert docker.raw("cp", f"{name}:/data", "-").stdout.count(b"one")
        docker("cp", str(source), f"{name}:/data/{round_}")
        docker("cp", str(source), f"{name}:/way/sub/{round_}")
        docker("cp", str(source), f"{name}:/fresh/{round_}")
        assert docker.raw("cp", f"{name}:/fresh/{round_}", "-").stdout.count(b"copied")
    assert boxes.exec(name, "cat /data/stopped /data/sub/running; stat -c %u /data/stopped") == (
        "copiedcopied0\n"
    )
    assert "/data" not in docker.line("diff", name).split()
    docker("rm", "-f", "-v", name)


def test_copying_into_a_read_only_volume(boxes: Boxes, docker: Client, tmp_path: Any) -> None:
    source = tmp_path / "in"
    source.write_text("x")
    name = boxes.create("-v", f"{boxes.volume_name()}:/v:ro", boxes.image)
    done = docker("cp", str(source), f"{name}:/v/", check=False)
    assert done.returncode == 1
    assert "marked read-only" in done.stderr


def test_copying_from_a_tmpfs_volume(boxes: Boxes, docker: Client, memory: str) -> None:
    running = boxes.sleeper("-v", f"{memory}:/t")
    boxes.exec(running, "echo here >/t/x; chown 7 /t/x")
    stopped = boxes.create("-v", f"{memory}:/u", boxes.image)
    for place in (f"{running}:/t/x", f"{stopped}:/u/x"):
        assert b"here" in docker.raw("cp", place, "-").stdout


def test_export_commit_and_diff_leave_volumes_out(
    boxes: Boxes, docker: Client, filled: str
) -> None:
    name = boxes.run(
        "-v", f"{boxes.volume_name()}:/v", filled, "sh", "-c", "echo secret-words >/v/x; touch /own"
    )
    docker("wait", name)
    assert b"secret-words" not in docker.raw("export", name).stdout
    changed = docker.line("diff", name).split("\n")
    assert "A /own" in changed
    assert "A /v/x" not in changed
    image = boxes.image_name()
    docker("commit", name, image)
    words = ("run", "--rm", "--network", "none", image, "ls", "-A", "/v")
    assert docker.line(*words) == ""


def test_host_config_is_shown_as_asked(boxes: Boxes, docker: Client) -> None:
    volume = boxes.volume()
    mount = f"type=volume,source={volume},target=/m,volume-nocopy,readonly,volume-label=x"
    name = boxes.create("-v", f"{volume}:/v:ro", "-v", "/a", "--mount", mount, boxes.image)
    config = json.loads(docker.line("inspect", "-f", "{{json .HostConfig}}", name))
    assert config["Binds"] == [f"{volume}:/v:ro"]
    assert config["Mounts"] == [
        {
            "Type": "volume",
            "Source": volume,
            "Target": "/m",
            "ReadOnly": True,
            "VolumeOptions": {"NoCopy": True, "Labels": {"x": ""}, "DriverConfig": {}},
        }
    ]
    assert json.loads(docker.line("inspect", "-f", "{{json .Config.Volumes}}", name)) == {"/a": {}}
    docker("rm", "-v", name)


def test_two_clients_make_the_same_volume(boxes: Boxes, docker: Client, filled: str) -> None:
    """Eight containers at once, all with one volume that is still empty: it is filled once, whole."""
    volume = boxes.volume_name()
    names = [boxes.name() for _ in range(8)]
    running = [
        docker.popen("create", "--name", name, "-v", f"{volume}:/data", filled) for name in names
    ]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    words = ("run", "--rm", "--network", "none", "-v", f"{volume}:/v", boxes.image)
    assert docker.line(*words, "ls", "/v").split() == ["file", "hard", "link", "pipe", "sub"]
