"""Known escapes from containers, by their names: none of them works here.

An attack that worked would leave the host as it is: what must not be writable is opened, not written,
and what must not be set is set to the value that it has.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, Runner, eventually
from tests.engine.tars import Put, busybox_entries, directory, file, symlink, tar_of
from tests.harness.clients import Client
from tests.harness.engine import script

Inspect = Callable[[str, str], object]
SECRET = "the host's own words"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that no container may read or change."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def binaries_untouched() -> Iterator[None]:
    """The programs that the engine consists of are the same before and after."""

    def sums() -> dict[str, str]:
        found = [Path(sys.executable).resolve(), Path(script("wherryd")), Path("/bin/sh").resolve()]
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in found if p.exists()}

    before = sums()
    yield
    assert sums() == before


# CVE-2019-5736: a container overwrites the program that starts it, through /proc/self/exe


@pytest.mark.usefixtures("binaries_untouched")
def test_cve_2019_5736_entrypoint_is_the_runtime_itself(boxes: Boxes, docker: Client) -> None:
    image = boxes.imported(
        tar_of(
            [
                *busybox_entries(),
                file("x", b"#!/proc/self/exe\n", 0o755),
                symlink("y", "/proc/self/exe"),
            ]
        )
    )
    for entry in ("/x", "/y", "/proc/self/exe"):
        words = ["run", "--rm", "--network", "none", "--entrypoint", entry, image, "-c", "print(1)"]
        done = docker(*words, check=False, timeout=20)
        # Whatever it runs is a program of the image, or nothing at all: never the engine's.
        assert "Python" not in done.stdout + done.stderr
        assert done.stdout.strip() != "1"


@pytest.mark.parametrize("flags", [[], ["--userns=host"]])
def test_cve_2019_5736_opening_whoever_execs(
    boxes: Boxes, docker: Client, is_wherry: bool, flags: list[str]
) -> None:
    """Pid 1 opens the exe of every new process: it gets its own image's programs only.

    The attack reopens it for writing once nothing runs it any more. Docker hands out a sealed copy
    of its runtime instead of nothing at all.
    """
    hunt = """echo up; while :; do for p in /proc/[0-9]*; do
        [ $p = /proc/1 ] || (exec 9<$p/exe && readlink /proc/self/fd/9) 2>/dev/null; done; done"""
    name = boxes.sh(hunt, *flags)
    eventually(lambda: "up" in docker.line("logs", name))
    for _ in range(15):
        docker("exec", name, "true")
    assert not is_wherry or set(docker.line("logs", name).split()) <= {"up", "/bin/busybox"}


# CVE-2024-21626: a leaked descriptor of the host as working directory


@pytest.mark.parametrize("number", [3, 5, 7, 8, 9, 10, 12])
def test_cve_2024_21626_working_directory(run: Runner, number: int) -> None:
    done = run(
        "-w",
        f"/proc/self/fd/{number}",
        run.image,
        "sh",
        "-c",
        "ls -a ../../../; cat ../../../etc/hostname",
        check=False,
    )
    assert done.returncode != 0 or done.stdout == "", done.stdout
    assert Path("/etc/hostname").read_text().strip() not in done.stdout.split("\n")


def test_cve_2024_21626_through_a_link(boxes: Boxes, run: Runner) -> None:
    image = boxes.imported(
        tar_of(
            [*busybox_entries(), *[symlink(f"l{n}", f"/proc/self/fd/{n}") for n in range(3, 16)]]
        )
    )
    for number in range(3, 16):
        done = run("-w", f"/l{number}", image, "pwd", check=False)
        assert done.returncode != 0, (number, done.stdout)


def test_cve_2024_21626_exec(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    for number in range(3, 14):
        words = ["exec", "-w", f"/proc/self/fd/{number}", name, "ls", "../../../root"]
        done = docker(*words, check=False)
        assert done.returncode != 0, (number, done.stdout)


def test_no_descriptor_of_the_host_is_open(run: Runner) -> None:
    """Every descriptor of pid 1 is a pipe, a terminal, /dev/null, or what it opened itself."""
    for flags in ([], ["-i"], ["-t"], ["-w", "/tmp"], ["--init"]):
        out = run.sh("for f in /proc/1/fd/*; do readlink $f; done; true", *flags)
        for line in out.split():
            assert re.fullmatch(r"pipe:\[\d+\]|/dev/(null|pts/\d+|console)|/proc/\d+/fd", line), (
                flags,
                out,
            )


# CVE-2025-31133: masking binds /dev/null, which the container made something else


@pytest.mark.parametrize(
    "target",
    ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd", "../../../../etc"],
)
def test_cve_2025_31133_dev_null_is_a_link(boxes: Boxes, run: Runner, target: str) -> None:
    tar = tar_of([*busybox_entries("dev"), directory("dev"), symlink("dev/null", target)])
    image = boxes.imported(tar)
    script = """stat -c %F /dev/null; stat -c '%t:%T' /dev/null; for p in /proc/kcore /proc/keys /proc/timer_list; do
        [ -e $p ] && { : >>$p; head -c 20 $p; }; done; grep -c ' /proc/kcore ' /proc/mounts"""
    done = run(image, "sh", "-c", script, check=False)
    if done.returncode not in (0, 1):
        return  # refused outright
    lines = done.stdout.split("\n")
    assert lines[:2] == ["character special file", "1:3"]
    assert "core" not in "".join(lines[2:-2])


def test_cve_2025_31133_dev_is_a_link(boxes: Boxes, run: Runner) -> None:
    """/dev is the container's own and core_pattern stays shut whatever the image's /dev is."""
    image = boxes.imported(tar_of([*busybox_entries("dev"), symlink("dev", "/proc/sys/kernel")]))
    script = "ls /dev/core_pattern /dev/null; (: >>/proc/sys/kernel/core_pattern) && echo opened"
    done = run(image, "sh", "-c", script, check=False)
    assert "core_pattern" not in done.stdout and "opened" not in done.stdout


# CVE-2025-52565: /dev/console is bound to what /dev/pts/$n was replaced with


@pytest.mark.parametrize(
    "target", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd"]
)
def test_cve_2025_52565_console_is_a_link(boxes: Boxes, run: Runner, target: str) -> None:
    tar = tar_of([
        *busybox_entries("dev"), directory("dev"), directory("dev/pts"),
        symlink("dev/console", target), symlink("dev/pts/0", target), symlink("dev/ptmx", target),
    ])  # fmt: skip
    image = boxes.imported(tar)
    done = run(
        "-t",
        image,
        "sh",
        "-c",
        "stat -c '%F' /dev/console; tty; readlink /dev/console",
        check=False,
    )
    assert done.returncode in (0, 1, 126, 125, 127)
    if done.returncode in (0, 1):
        assert done.stdout.split("\r\n")[:2] == ["character special file", "/dev/pts/0"]


def test_cve_2025_52565_console_of_a_folder_of_the_users(
    boxes: Boxes, run: Runner, tmp_path: Path, is_wherry: bool
) -> None:
    """A /dev of the user's, with a link: the terminal lies over nothing that it leads to."""
    (tmp_path / "console").symlink_to("/etc/group")
    (tmp_path / "pts").mkdir()
    words = ("-v", f"{tmp_path}:/dev", boxes.image, "grep", "-c", "console\\|group", "/proc/mounts")
    done = run("-t", *words, check=False, timeout=20)
    assert done.returncode == 125
    assert not is_wherry or "/dev/console is a symbolic link" in done.stderr


# CVE-2025-52881: writes to /proc/self/attr or to sysctls are led elsewhere


def test_cve_2025_52881_sysctl_through_a_false_proc(boxes: Boxes, run: Runner) -> None:
    tar = tar_of([
        *busybox_entries("proc"), directory("proc"), directory("proc/sys"), directory("proc/sys/net"),
        directory("proc/sys/net/ipv4"), symlink("proc/sys/net/ipv4/ip_forward", "/../../etc/passwd"),
    ])  # fmt: skip
    image = boxes.imported(tar)
    done = run(
        "--sysctl",
        "net.ipv4.ip_forward=1",
        image,
        "sh",
        "-c",
        "cat /proc/sys/net/ipv4/ip_forward; head -c 4 /etc/passwd",
    )
    assert done.stdout == "1\nroot"


def test_cve_2025_52881_sysctl_name_with_dots(run: Runner) -> None:
    now = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    for name in (
        "net.ipv4/../../kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4....kernel.core_pattern",
    ):
        done = run("--sysctl", f"{name}={now}", run.image, "true", check=False)
        assert done.returncode != 0, name


# CVE-2019-16884 and CVE-2019-19921: /proc is not proc


@pytest.mark.parametrize(
    "entries",
    [
        [symlink("proc", "/var")],
        [symlink("proc", "../../../../../proc")],
        [symlink("proc", "/evil/proc"), directory("evil"), directory("evil/proc")],
        [file("proc", b"a file")],
    ],
    ids=["link", "climbing-link", "false-folder", "file"],
)
def test_cve_2019_19921_proc_is_something_else(
    boxes: Boxes, run: Runner, entries: list[Put]
) -> None:
    image = boxes.imported(tar_of([*busybox_entries("proc"), *entries]))
    done = run(
        image,
        "sh",
        "-c",
        "grep ' /proc/kcore \\| /proc/sys ' /proc/mounts | wc -l; : >>/proc/sys/kernel/panic",
        check=False,
    )
    # Refused, or made right: mounted, masked and read-only as always.
    if done.returncode in (0, 1) and done.stdout:
        assert int(done.stdout.split()[0]) >= 1
        assert "can't create" in done.stderr


def test_cve_2019_16884_volume_over_proc(boxes: Boxes, run: Runner, tmp_path: Path) -> None:
    """A mount of the user's over /proc, or through a link into it, is refused."""
    (tmp_path / "self").mkdir()
    for target in ("/proc", "/proc/self", "/proc/sys/kernel"):
        done = run("-v", f"{tmp_path}:{target}", run.image, "true", check=False)
        assert done.returncode != 0, target
    image = boxes.imported(tar_of([*busybox_entries(), symlink("data", "/proc")]))
    done = run("-v", f"{tmp_path}:/data", image, "true", check=False)
    assert done.returncode != 0


# CVE-2018-15664 and CVE-2019-14271: docker cp against a container that fights back


def test_cve_2018_15664_link_swapped_while_copying_in(
    boxes: Boxes, docker: Client, secret: Path, tmp_path: Path
) -> None:
    swap = f"""mkdir -p /w{tmp_path}; cd /w; echo up; while :; do
        mkdir -p a; mv -T a b 2>/dev/null; ln -s {tmp_path} a 2>/dev/null; rm -rf a b; done"""
    name = boxes.sh(swap)
    eventually(lambda: "up" in docker.line("logs", name))
    attack = tmp_path / "attack"
    attack.mkdir()
    (attack / "secret").write_text("overwritten")
    for _ in range(15):
        docker("cp", str(attack / "secret"), f"{name}:/w/a/secret", check=False)
    assert secret.read_text() == SECRET


def test_cve_2018_15664_link_swapped_while_copying_out(
    boxes: Boxes, docker: Client, secret: Path
) -> None:
    swap = f"""mkdir /w; cd /w; echo harmless >f; echo up; while :; do
        ln -sf {secret} l; mv -f l g; cp f h; mv -f h g; done"""
    name = boxes.sh(swap)
    eventually(lambda: "up" in docker.line("logs", name))
    for _ in range(15):
        got = docker.raw("cp", "-L", f"{name}:/w/g", "-", check=False).stdout
        assert SECRET.encode() not in got


def test_cve_2018_15664_links_are_of_the_container(
    boxes: Boxes, docker: Client, secret: Path, tmp_path: Path
) -> None:
    name = boxes.sleeper()
    boxes.exec(
        name,
        f"mkdir -p {tmp_path}; ln -s / /root-link; ln -s ../../../../../../.. /up; ln -s {secret} /direct",
    )
    for path in (f"/root-link{secret}", f"/up{secret}", "/direct"):
        got = docker.raw("cp", "-L", f"{name}:{path}", "-", check=False).stdout
        assert SECRET.encode() not in got, path
    (tmp_path / "new").write_text("new")
    docker("cp", str(tmp_path / "new"), f"{name}:/up{secret}", check=False)
    docker("cp", str(tmp_path / "new"), f"{name}:/direct", check=False)
    assert secret.read_text() == SECRET


def test_cve_2019_14271_cp_loads_nothing_of_the_container(
    boxes: Boxes, docker: Client, tmp_path: Path
) -> None:
    """A false libnss and a false tar in the image are not run by copying."""
    proof = tmp_path / "proof"
    evil = f"#!/bin/sh\ntouch {proof}\n".encode()
    tar = tar_of([
        *busybox_entries(), directory("lib"),
        file("lib/libnss_files.so.2", b"\x7fELFevil", 0o755), file("usr/bin/tar", evil, 0o755),
        file("usr/bin/docker-tar", evil, 0o755), file("etc/nsswitch.conf", b"passwd: files evil\n"),
    ])  # fmt: skip
    name = boxes.run(boxes.imported(tar), "sleep", "60")
    (tmp_path / "in").write_text("x")
    docker("cp", str(tmp_path / "in"), f"{name}:/in")
    docker("cp", f"{name}:/in", str(tmp_path / "out"))
    docker.raw("export", name)
    assert (tmp_path / "out").read_text() == "x"
    assert not proof.exists()
    assert docker("exec", name, "ls", str(proof), check=False).returncode == 1


# CVE-2022-0492: release_agent of cgroup v1


@pytest.mark.parametrize(
    "flags", [[], ["--cap-add", "SYS_ADMIN"], ["--security-opt", "seccomp=unconfined"]]
)
def test_cve_2022_0492_release_agent(run: Runner, is_wherry: bool, flags: list[str]) -> None:
    if not is_wherry and "SYS_ADMIN" in flags:
        return  # root's own SYS_ADMIN opens it: why it is not given by default
    attack = """for c in memory cpu pids; do
        mount -t cgroup -o $c x /tmp && (: >>/tmp/release_agent) && echo opened
        unshare -UrmC sh -c "mount -t cgroup -o $c x /tmp && : >>/tmp/release_agent && echo opened"
        (: >>/sys/fs/cgroup/$c/release_agent) && echo opened; done 2>/dev/null; true"""
    assert "opened" not in run.sh(attack, *flags)


# Other ways out that were taken before


def test_devices_of_the_host_are_not_opened(run: Runner) -> None:
    disk = os.stat("/").st_dev
    attack = f"mknod /dev/disk b {os.major(disk)} {os.minor(disk)}; dd if=/dev/disk count=1 2>/dev/null | wc -c"
    assert run.sh(attack).strip() == "0"


def test_core_pattern_is_not_writable(run: Runner) -> None:
    attack = "(: >>/proc/sys/kernel/core_pattern) && echo opened; true"
    assert "opened" not in run.sh(attack, "--cap-add", "SYS_ADMIN")


def test_remounting_what_is_read_only(run: Runner, is_wherry: bool) -> None:
    """CAP_SYS_ADMIN inside a user namespace opens nothing of the host's, whatever it remounts."""
    attack = """mount -o remount,rw,bind /proc/sys
        (: >>/proc/sys/kernel/panic) && echo opened; umount /proc/kcore && head -c1 /proc/kcore; true"""
    out = run.sh(attack, "--cap-add", "SYS_ADMIN")
    assert not is_wherry or out == ""


def test_ptrace_and_memory_of_the_host(run: Runner) -> None:
    done = run(
        "--pid=host",
        "-u",
        "1234",
        run.image,
        "sh",
        "-c",
        f"cat /proc/{os.getpid()}/environ; cat /proc/{os.getpid()}/maps",
        check=False,
    )
    assert done.stdout == ""


def test_set_uid_programs_are_powerless_outside(
    run: Runner, tmp_path: Path, is_wherry: bool
) -> None:
    """What root of a container marks set-uid in a bind mount is its id range's, or marked nothing."""
    run.sh("cp /bin/busybox /data/su && chmod 4755 /data/su", "-v", f"{tmp_path}:/data")
    info = (tmp_path / "su").stat()
    assert info.st_uid == 0  # ownership looks right on both sides; the host decides with nosuid


def test_hostile_names_are_only_names(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper(
        "-l", "x=$(touch /tmp/wherry-injected)", "-e", "A=`touch /tmp/wherry-injected`"
    )
    docker("inspect", name)
    boxes.exec(name, "true")
    assert not Path("/tmp/wherry-injected").exists()


def test_symlinked_files_of_the_engine(boxes: Boxes, run: Runner, secret: Path) -> None:
    """An image's /etc/hosts, hostname and resolv.conf that are links lead nowhere outside."""
    links = [symlink(f"etc/{n}", str(secret)) for n in ("hosts", "hostname", "resolv.conf")]
    image = boxes.imported(tar_of([*busybox_entries(), *links]))
    run(image, "sh", "-c", "echo evil >/etc/hosts; echo evil >/etc/resolv.conf", check=False)
    assert secret.read_text() == SECRET


def fifo(tar: tarfile.TarFile) -> None:
    """A named pipe where the user names are looked for."""
    info = tarfile.TarInfo("etc/passwd")
    info.type, info.mode = tarfile.FIFOTYPE, 0o644
    tar.addfile(info)


@pytest.mark.parametrize("kind", ["fifo", "link-to-the-host", "endless"])
def test_user_names_come_from_the_images_file(
    boxes: Boxes, docker: Client, tmp_path: Path, is_wherry: bool, kind: str
) -> None:
    """Resolving a user name reads the image's files only, and never waits for one."""
    if kind == "fifo" and not is_wherry:
        pytest.skip("Docker waits for ever")
    outside = tmp_path / "passwd"
    outside.write_text("ghost:x:77:77::/:/bin/sh\n")
    entries = {
        "fifo": fifo,
        "link-to-the-host": symlink("etc/passwd", str(outside)),
        "endless": symlink("etc/passwd", "/dev/zero"),
    }
    image = boxes.imported(tar_of([*busybox_entries("etc/passwd"), entries[kind]]))
    words = ["run", "--name", boxes.name(), "--network", "none", "-u", "ghost", image, "id"]
    done = docker(*words, check=False, timeout=20)
    assert done.returncode != 0
    assert "uid=77" not in done.stdout


def test_bomb_of_symlinks(boxes: Boxes, run: Runner) -> None:
    loop = [
        symlink("a", "b"),
        symlink("b", "a"),
        *[symlink(f"c{n}", f"c{n + 1}") for n in range(60)],
    ]
    image = boxes.imported(tar_of([*busybox_entries(), *loop]))
    for path in ("/a", "/c0", "/a/x"):
        done = run("-w", path, image, "true", check=False)
        assert done.returncode != 0


def test_race_of_a_bind_target(boxes: Boxes, docker: Client, tmp_path: Path) -> None:
    """A container that shares the folder swaps the next one's mount target for a link (CVE-2021-30465)."""
    shared, source = tmp_path / "shared", tmp_path / "source"
    shared.mkdir()
    source.mkdir()
    (source / "mark").write_text("mark")
    swap = "cd /s; echo up; while :; do mkdir -p t; rm -rf t; ln -s / t; rm -f t; done"
    name = boxes.sh(swap, "-v", f"{shared}:/s")
    eventually(lambda: "up" in docker.line("logs", name))
    stop = time.monotonic() + 1.5
    seen: list[str] = []

    def once() -> None:
        words = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            f"{shared}:/s",
            "-v",
            f"{source}:/s/t",
            boxes.image,
        ]
        seen.append(
            docker(
                *words, "sh", "-c", "ls /mark /etc/hostname 2>/dev/null; true", check=False
            ).stdout
        )

    while time.monotonic() < stop:
        threads = [threading.Thread(target=once) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert not [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(source) in line
    ]
    assert not Path("/mark").exists()
