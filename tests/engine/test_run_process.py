"""`docker run`: what the process is given, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, Runner, eventually, started
from tests.engine.conftest import Either
from tests.harness.clients import Client

Inspect = Callable[[str, str], object]


# What the process is given


def test_output_and_errors_are_separate(run: Runner) -> None:
    done = run(run.image, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_environment(run: Runner, tmp_path: Path) -> None:
    listed = tmp_path / "env"
    listed.write_text("# a comment\nC=3\nD=with space\n\nHOME_FROM_CLIENT\n")
    env = run.sh("env", "-e", "A=1", "-e", "B=", "-e", "ABSENT", "--env-file", str(listed))
    lines = env.splitlines()
    assert {"A=1", "B=", "C=3", "D=with space"} <= set(lines)
    assert not [line for line in lines if line.startswith(("ABSENT", "HOME_FROM_CLIENT"))]


def test_default_environment(run: Runner) -> None:
    env = dict(line.split("=", 1) for line in run.sh("env", "-h", "me").splitlines())
    assert env["PATH"].startswith("/usr/local/sbin:")
    assert env["HOME"] == "/root"
    assert env["HOSTNAME"] == "me"
    assert "TERM" not in env


def test_environment_of_a_terminal_names_it(run: Runner) -> None:
    assert "TERM=xterm\r\n" in run.sh("env", "-t")


def test_environment_may_be_long(run: Runner) -> None:
    long = "x" * 100_000
    assert run.sh("echo ${#LONG}", "-e", f"LONG={long}") == "100000\n"


def test_workdir_is_made(run: Runner) -> None:
    assert run.sh("pwd; stat -c %u:%g:%a .", "-w", "/a/b c/d") == "/a/b c/d\n0:0:755\n"


def test_workdir_must_be_absolute(run: Runner) -> None:
    assert "needs to be an absolute path" in run.refused("-w", "relative")


def test_workdir_that_is_a_file(run: Runner) -> None:
    done = run("-w", "/etc/passwd", run.image, "true", check=False)
    assert done.returncode != 0
    assert "not a directory" in done.stderr.lower()


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("www-data", "uid=33(www-data) gid=33(www-data) groups=33(www-data),50(staff)"),
        ("33", "uid=33(www-data) gid=33(www-data) groups=33(www-data),50(staff)"),
        ("www-data:root", "uid=33(www-data) gid=0(root) groups=0(root)"),
        ("1234:5678", "uid=1234 gid=5678 groups=5678"),
        ("1234", "uid=1234 gid=0(root) groups=0(root)"),
        ("0:33", "uid=0(root) gid=33(www-data) groups=33(www-data)"),
    ],
)
def test_user(run: Runner, user: str, ids: str) -> None:
    assert run.sh("id", "-u", user).strip() == ids


def test_user_unknown(run: Runner) -> None:
    done = run("-u", "nosuch", run.image, "true", check=False)
    assert done.returncode in (125, 126)
    assert "unable to find user nosuch: no matching entries in passwd file" in done.stderr


def test_group_unknown(run: Runner) -> None:
    done = run("-u", "0:nosuch", run.image, "true", check=False)
    assert done.returncode in (125, 126)
    assert "unable to find group nosuch: no matching entries in group file" in done.stderr


def test_user_out_of_range(run: Runner) -> None:
    done = run("-u", "99999999999", run.image, "true", check=False)
    assert done.returncode in (125, 126)
    assert "99999999999" in done.stderr or "uids and gids must be in range" in done.stderr


def test_group_add(run: Runner) -> None:
    ids = run.sh("id -G", "-u", "1000:1000", "--group-add", "33", "--group-add", "staff")
    assert sorted(ids.split(), key=int) == ["33", "50", "1000"]


def test_group_add_unknown(run: Runner) -> None:
    done = run("--group-add", "nosuch", run.image, "true", check=False)
    assert done.returncode in (125, 126)
    assert "nosuch" in done.stderr


def test_home_follows_user(run: Runner) -> None:
    assert run.sh("echo $HOME", "-u", "www-data") == "/var/www\n"


def test_hostname(run: Runner) -> None:
    script = "hostname; cat /etc/hostname; grep -c box.example /etc/hosts"
    # Without a network of its own a container's /etc/hosts has no line for itself.
    out = run.sh(script + " || true", "-h", "box.example").split()
    assert out[:2] == ["box.example", "box.example"]


def test_hostname_is_the_short_id_by_default(boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.sleeper()
    assert boxes.exec(name, "hostname").strip() == str(inspect(name, ".Id"))[:12]


def test_hostname_too_long(run: Runner) -> None:
    assert "hostname" in run.refused("-h", "x" * 70).lower()


def test_entrypoint(run: Runner) -> None:
    assert run("--entrypoint", "/bin/echo", run.image, "a", "b").stdout == "a b\n"


def test_entrypoint_cleared(run: Runner, boxes: Boxes, docker: Client) -> None:
    image = boxes.image_name()
    name = boxes.create("--entrypoint", "/bin/echo", run.image, "made")
    docker("commit", name, image)
    assert run(image, "x").stdout == "x\n"
    assert run("--entrypoint", "", image, "sh", "-c", "echo other").stdout == "other\n"


def test_no_command(boxes: Boxes, docker: Client) -> None:
    from tests.engine.tars import directory, tar_of

    image = boxes.imported(tar_of([directory("etc")]))
    done = docker("run", "--rm", image, check=False)
    assert done.returncode == 125
    assert "no command specified" in done.stderr.lower()


def test_init_is_pid_1_and_reaps(run: Runner) -> None:
    script = "cat /proc/1/comm; (sh -c 'sleep 0.05 & exit') ; sleep 0.3; ps -o stat,comm | grep Z"
    out = run.sh(script + " || true", "--init")
    assert out.splitlines()[0] != "sh"
    assert len(out.splitlines()) == 1, out


def test_init_passes_exit_code_and_signals(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("trap 'exit 9' TERM; sleep 60 & echo up; wait", "--init")
    eventually(lambda: "up" in docker.line("logs", name))
    docker("stop", name)
    assert docker.line("wait", name) == "9"


def test_stop_signal(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("trap 'exit 7' USR1; echo up; while :; do sleep 0.05; done",
                    "--stop-signal", "SIGUSR1")  # fmt: skip
    eventually(lambda: "up" in docker.line("logs", name))
    docker("stop", name)
    assert docker.line("wait", name) == "7"


def test_stop_signal_unknown(run: Runner) -> None:
    assert "nonsense" in run.refused("--stop-signal", "NONSENSE").lower()


def test_stop_timeout(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("trap '' TERM; echo up; while :; do sleep 0.05; done", "--stop-timeout", "1")
    eventually(lambda: "up" in docker.line("logs", name))
    begun = time.monotonic()
    docker("stop", name)
    assert 0.9 < time.monotonic() - begun < 10  # which is what it has otherwise
    assert docker.line("wait", name) == "137"


def test_labels(boxes: Boxes, inspect: Inspect, tmp_path: Path) -> None:
    listed = tmp_path / "labels"
    listed.write_text("# a comment\nc=3\n")
    name = boxes.create("-l", "a=1", "-l", "b", "--label-file", str(listed), boxes.image)
    labels = inspect(name, ".Config.Labels")
    assert isinstance(labels, dict)
    assert labels.items() >= {"a": "1", "b": "", "c": "3"}.items()


def test_annotation(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    if docker.version < (24,):
        pytest.skip("this docker client has no --annotation")
    name = boxes.create("--annotation", "a.b=c", boxes.image)
    assert inspect(name, ".HostConfig.Annotations") == {"a.b": "c"}


def test_cidfile(run: Runner, docker: Client, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    assert run("--cidfile", str(path), run.image, "echo", "x").stdout == "x\n"
    assert len(path.read_text()) == 64
    assert "container ID file found" in run("--cidfile", str(path), run.image, check=False).stderr


def test_detached_prints_the_id(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.name()
    printed = docker.line("run", "-d", "--name", name, "--network", "none", boxes.image, "true")
    assert printed == inspect(name, ".Id")


def test_arguments_reach_the_process_as_they_are(run: Runner) -> None:
    words = ["a b", "", "$HOME", "é", "'\"", "\n"]
    # The last is a byte string that is not UTF-8 nowhere on the way: JSON carries text.
    out = run(run.image, "sh", "-c", 'for w; do printf "[%s]" "$w"; done', "-", *words).stdout
    assert out == "".join(f"[{word}]" for word in words)


def test_standard_devices(run: Runner) -> None:
    script = "echo x >/dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c;"
    script += "ls -l /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx | sed 's/.*-> //'"
    assert run.sh(script).split() == [
        "4", "4", "/proc/self/fd", "pts/ptmx", "/proc/self/fd/2", "/proc/self/fd/0",
        "/proc/self/fd/1",
    ]  # fmt: skip


def test_write_to_dev_stdout_as_another_user(run: Runner) -> None:
    # Images of daemons link their log files to /dev/stdout and drop privileges first.
    done = run("-u", "33", run.image, "sh", "-c", "echo a >/dev/stdout; echo b >/dev/stderr")
    assert (done.stdout, done.stderr) == ("a\n", "b\n")


# How it ends


@pytest.mark.parametrize("code", [0, 1, 2, 42, 124, 125, 126, 127, 128, 255])
def test_exit_code(run: Runner, code: int) -> None:
    assert run.code(f"exit {code}") == code


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11)])
def test_killed_by_a_signal(run: Runner, name: str, number: int) -> None:
    # Pid 1 is not killed by its own signals: a child is, and the shell tells.
    assert run.code(f"sh -c 'kill -{name} $$'; exit $?") == 128 + number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_first_process_killed_from_outside(boxes: Boxes, docker: Client, number: int) -> None:
    name = boxes.run(boxes.image, "sleep", "60")
    if number == signal.SIGQUIT:  # not handled by sleep as pid 1: nothing happens
        docker("kill", "-s", str(int(number)), name)
        number = signal.SIGKILL
    docker("kill", "-s", str(int(number)), name)
    assert docker.line("wait", name) == str(128 + number)


def test_command_not_found(run: Runner) -> None:
    done = run(run.image, "nosuchprogram", check=False)
    assert done.returncode == 127
    assert 'exec: "nosuchprogram": executable file not found in $PATH' in done.stderr


def test_path_not_found(run: Runner) -> None:
    done = run(run.image, "/no/such", check=False)
    assert done.returncode == 127
    assert "no such file or directory" in done.stderr


def test_command_not_executable(run: Runner) -> None:
    done = run(run.image, "/etc/passwd", check=False)
    assert done.returncode == 126
    assert "permission denied" in done.stderr


def test_command_is_a_directory(run: Runner) -> None:
    done = run(run.image, "/etc", check=False)
    assert done.returncode == 126
    assert "is a directory" in done.stderr or "permission denied" in done.stderr


def test_script_with_missing_interpreter(boxes: Boxes, run: Runner) -> None:
    from tests.engine.tars import busybox_entries, file, tar_of

    image = boxes.imported(tar_of([*busybox_entries(), file("bad", b"#!/no/such\n", 0o755)]))
    done = run(image, "/bad", check=False)
    assert done.returncode in (126, 127, 255)
    assert "no such file or directory" in done.stderr


def test_file_of_no_known_format(boxes: Boxes, run: Runner) -> None:
    from tests.engine.tars import busybox_entries, file, tar_of

    image = boxes.imported(tar_of([*busybox_entries(), file("bad", b"\1\2\3\4", 0o755)]))
    done = run(image, "/bad", check=False)
    assert done.returncode in (126, 255, 1)
    assert "exec format error" in done.stderr


def test_failed_start_leaves_a_created_container(boxes: Boxes, docker: Client) -> None:
    name = boxes.name()
    words = ["run", "--name", name, "--network", "none", boxes.image, "nosuchprogram"]
    assert docker(*words, check=False).returncode == 127
    state = json.loads(docker.line("inspect", "-f", "{{json .State}}", name))
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("created", 127, 0)
    assert "executable file not found" in state["Error"]


def test_failed_start_with_rm_removes(boxes: Boxes, docker: Client) -> None:
    name = boxes.name()
    docker("run", "--rm", "--name", name, "--network", "none", boxes.image, "nosuch", check=False)
    eventually(lambda: docker("inspect", name, check=False).returncode == 1)


def test_bad_flag(docker: Client) -> None:
    done = docker("run", "--no-such-flag", "x", check=False)
    assert done.returncode == 125
    assert "unknown flag: --no-such-flag" in done.stderr


def test_no_such_image(docker: Client, either: Either) -> None:
    done = docker("run", "--pull", "never", "nosuch/image:tag", check=False)
    assert done.returncode == 125
    assert "No such image: nosuch/image:tag" in done.stderr


def test_image_name_invalid(docker: Client) -> None:
    done = docker("run", "--pull", "never", "UPPER/Case", check=False)
    assert done.returncode == 125
    assert "repository name" in done.stderr and "lowercase" in done.stderr


@pytest.mark.parametrize("name", ["bad name", "-x", "a/b", "é", "a"])
def test_container_name_invalid(docker: Client, busybox: str, name: str) -> None:
    done = docker("create", f"--name={name}", busybox, check=False)
    assert done.returncode == 1
    assert "Invalid container name" in done.stderr


# Standard input


def test_pipe_in_pipe_out(run: Runner) -> None:
    assert run("-i", run.image, "cat", stdin="hi\n").stdout == "hi\n"


def test_closed_input_ends_a_pipeline(run: Runner) -> None:
    # The client half-closes its connection; what the process writes afterwards must still come.
    script = "cat >/dev/null; sleep 0.2; echo after"
    assert run("-i", run.image, "sh", "-c", script, stdin="x" * 100_000).stdout == "after\n"


def test_no_input_without_i(run: Runner) -> None:
    assert run(run.image, "cat", stdin="not for you").stdout == ""


def test_binary_through_and_back(docker: Client, busybox: str) -> None:
    data = os.urandom(8 << 20)
    words = ["run", "--rm", "-i", "--network", "none", busybox, "cat"]
    assert docker.raw(*words, stdin=data).stdout == data


def test_process_that_does_not_read_its_input(run: Runner) -> None:
    assert run("-i", run.image, "echo", "done", stdin="x" * 1_000_000).stdout == "done\n"


def test_no_line_is_lost(run: Runner) -> None:
    done = run(run.image, "sh", "-c", "seq 10000; seq 10001 20000 >&2")
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 10001))
    assert done.stderr == "".join(f"{n}\n" for n in range(10001, 20001))


def test_last_words_without_newline(run: Runner) -> None:
    for _ in range(5):
        assert run(run.image, "printf", "no newline").stdout == "no newline"


def test_large_output_is_whole(docker: Client, busybox: str) -> None:
    words = ["run", "--rm", "--network", "none", busybox, "head", "-c", "20000000", "/dev/zero"]
    assert len(docker.raw(*words).stdout) == 20_000_000


def test_output_of_a_closed_pipe(docker: Client, busybox: str) -> None:
    # `docker run … yes | head -1`: the client's reader goes away, the container does not hang.
    words = ["run", "--rm", "--network", "none", busybox, "sh", "-c", "seq 300000"]
    with started(docker, *words) as process:
        assert process.stdout
        process.stdout.read(10)
        process.stdout.close()
        process.wait(20)


# Following and leaving


def test_signal_proxy(boxes: Boxes, docker: Client) -> None:
    script = "trap 'echo got; exit 5' USR1; echo up; while :; do sleep 0.05; done"
    words = ["run", "--name", boxes.name(), "--network", "none", boxes.image, "sh", "-c", script]
    with started(docker, *words) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"got\n"
        assert process.wait(30) == 5


def test_no_signal_proxy(boxes: Boxes, docker: Client) -> None:
    name = boxes.name()
    script = "trap 'exit 5' USR1; echo up; while :; do sleep 0.05; done"
    words = ["run", "--sig-proxy=false", "--name", name, "--network", "none", boxes.image]
    with started(docker, *words, "sh", "-c", script) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            docker("wait", name, timeout=0.5)
    assert docker.line("inspect", "-f", "{{.State.Running}}", name) == "true"


def test_attach_follows_to_the_end(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("read line; echo got $line; echo err >&2; exit 3", "-i")
    with started(docker, "attach", name) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"word\n")
        process.stdin.flush()  # and left open: at its end Docker would detach this client
        out, err = process.stdout.read(), process.stderr.read()
        assert (out, err, process.wait(30)) == (b"got word\n", b"err\n", 3)


@contextlib.contextmanager
def attached(docker: Client, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client that is attached to a container which says `ready` again and again, and has heard it.

    Without a word it has no sign that it is attached.
    """
    with started(docker, "attach", "--no-stdin", name) as process:
        bound = threading.Timer(60, process.kill)
        bound.start()
        try:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            yield process
        finally:
            bound.cancel()


def rest(process: subprocess.Popen[bytes]) -> list[bytes]:
    """What it says to its end, but for `ready`."""
    assert process.stdout
    return [line for line in process.stdout.read().split() if line != b"ready"]


def test_attach_without_stdin(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("until [ -e /go ]; do echo ready; sleep 0.05; done; echo late", "-i")
    with attached(docker, name) as watcher:
        docker("exec", name, "touch", "/go")
        assert rest(watcher) == [b"late"]


def test_attach_to_stopped(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image)
    done = docker("attach", name, check=False)
    assert done.returncode == 1
    assert "cannot attach to a stopped container" in done.stderr


def test_attach_streams_chosen(run: Runner) -> None:
    script = "echo out; echo err >&2"
    done = run("-a", "stderr", run.image, "sh", "-c", script)
    assert (done.stdout, done.stderr) == ("", "err\n")


def test_several_attached_all_see_all(boxes: Boxes, docker: Client) -> None:
    script = "while :; do echo ready; sleep 0.05; done & read x; kill $!; wait; seq 1000"
    name = boxes.sh(script, "-i")
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(attached(docker, name)) for _ in range(3)]
        docker("attach", name, stdin="go\n")
        for watcher in watchers:
            assert rest(watcher) == [str(n).encode() for n in range(1, 1001)]


def test_client_killed_leaves_the_container(boxes: Boxes, docker: Client) -> None:
    name = boxes.name()
    words = ["run", "--name", name, "--network", "none", boxes.image, "sh", "-c"]
    with started(docker, *words, "echo up; sleep 60") as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        process.kill()
    assert docker.line("inspect", "-f", "{{.State.Running}}", name) == "true"


def test_many_at_once(docker: Client, busybox: str) -> None:
    words = ["run", "--rm", "--network", "none", busybox, "sh", "-c"]
    running = [docker.popen(*words, f"echo {n}; exit {n}") for n in range(12)]
    ended: list[tuple[bytes, int]] = []
    for process in running:
        out, _ = process.communicate(timeout=60)
        ended.append((out, process.returncode))
    assert ended == [(f"{n}\n".encode(), n) for n in range(12)]


def test_pid_and_process_on_the_host(boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.sleeper()
    pid = inspect(name, ".State.Pid")
    assert isinstance(pid, int) and pid > 0
    assert b"trap" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_wait_blocks_until_the_end(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("read x; exit 4", "-i")
    waiting = subprocess.Popen(
        [*docker.command, "wait", name], env=docker.env, stdout=subprocess.PIPE
    )
    time.sleep(0.2)
    assert waiting.poll() is None
    docker("attach", name, stdin="go\n", check=False)
    out, _ = waiting.communicate(timeout=30)
    assert out == b"4\n"
