"""`docker exec`: another process in a running container."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from tests.engine.boxes import Boxes, eventually
from tests.engine.raw import Api
from tests.harness.clients import Client

Inspect = Callable[[str, str], object]


def test_output_errors_and_code(docker: Client, box: str) -> None:
    done = docker("exec", box, "sh", "-c", "echo out; echo err >&2; exit 9", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 9)


@pytest.mark.parametrize("code", [0, 1, 100, 125, 126, 127, 255])
def test_exit_code(docker: Client, box: str, code: int) -> None:
    assert docker("exec", box, "sh", "-c", f"exit {code}", check=False).returncode == code


def test_killed_by_a_signal(docker: Client, box: str) -> None:
    assert docker("exec", box, "sh", "-c", "kill -9 $$", check=False).returncode == 137


def test_environment(boxes: Boxes) -> None:
    name = boxes.sleeper("-e", "A=1", "-e", "B=2")
    lines = boxes.exec(name, "env", "-e", "B=3", "-e", "C=4").splitlines()
    assert {"A=1", "B=3", "C=4", "HOME=/root"} <= set(lines)
    assert len([line for line in lines if line.startswith("B=")]) == 1


def test_environment_file(boxes: Boxes, box: str, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "env")
    with open(path, "w") as file:
        file.write("X=from-file\n")
    assert "X=from-file" in boxes.exec(box, "env", "--env-file", path).splitlines()


def test_user(docker: Client, box: str) -> None:
    assert docker.line("exec", "-u", "33", box, "id") == (
        "uid=33(www-data) gid=33(www-data) groups=33(www-data),50(staff)"
    )
    assert docker.line("exec", "-u", "5:6", box, "id") == "uid=5 gid=6 groups=6"
    assert docker.line("exec", "-u", "www-data", box, "sh", "-c", "echo $HOME") == "/var/www"


def test_user_of_the_container_is_kept(boxes: Boxes) -> None:
    name = boxes.sleeper("-u", "33:33")
    assert boxes.exec(name, "id -u").strip() == "33"
    assert boxes.exec(name, "id -u", "-u", "0").strip() == "0"


def test_user_unknown(docker: Client, box: str) -> None:
    done = docker("exec", "-u", "nosuch", box, "true", check=False)
    assert done.returncode in (1, 126)
    assert "unable to find user nosuch" in done.stderr


def test_workdir(docker: Client, box: str, boxes: Boxes) -> None:
    assert docker.line("exec", "-w", "/tmp", box, "pwd") == "/tmp"
    name = boxes.sleeper("-w", "/var")
    assert docker.line("exec", name, "pwd") == "/var"


def test_workdir_missing(docker: Client, box: str) -> None:
    done = docker("exec", "-w", "/no/such", box, "true", check=False)
    assert done.returncode in (126, 127)
    assert "/no/such" in (done.stderr + done.stdout)
    assert "no such file or directory" in (done.stderr + done.stdout)


def test_command_not_found(docker: Client, box: str) -> None:
    done = docker("exec", box, "nosuchprogram", check=False)
    assert done.returncode == 127
    assert "executable file not found in $PATH" in done.stdout + done.stderr


def test_command_not_executable(docker: Client, box: str) -> None:
    done = docker("exec", box, "/etc/passwd", check=False)
    assert done.returncode == 126
    assert "permission denied" in done.stdout + done.stderr


def test_pipeline(docker: Client, box: str) -> None:
    assert docker("exec", "-i", box, "wc", "-c", stdin="x" * 100_000).stdout == "100000\n"


def test_closed_input_then_output(docker: Client, box: str) -> None:
    script = "cat >/dev/null; sleep 0.1; echo after"
    assert docker("exec", "-i", box, "sh", "-c", script, stdin="abc").stdout == "after\n"


def test_binary_through_and_back(docker: Client, box: str) -> None:
    data = os.urandom(4 << 20)
    assert docker.raw("exec", "-i", box, "cat", stdin=data).stdout == data


def test_no_line_is_lost(docker: Client, box: str) -> None:
    assert docker.line("exec", box, "seq", "20000").split() == [str(n) for n in range(1, 20001)]


def test_detached(docker: Client, box: str) -> None:
    assert docker.line("exec", "-d", box, "sh", "-c", "echo done >/tmp/detached") == ""
    eventually(lambda: docker("exec", box, "cat", "/tmp/detached", check=False).stdout == "done\n")


def test_detached_command_not_found(docker: Client, box: str) -> None:
    done = docker("exec", "-d", box, "nosuchprogram", check=False)
    assert done.returncode in (1, 126, 127)
    assert "executable file not found" in done.stderr


def test_output_ends_with_the_process_not_its_children(docker: Client, box: str) -> None:
    # A child that keeps the pipe open does not lose what comes before; the client ends by itself.
    done = docker(
        "exec", box, "sh", "-c", "echo first; sleep 0.5 & exit 2", check=False, timeout=10
    )
    assert (done.stdout, done.returncode) == ("first\n", 2)


def test_terminal(docker: Client, box: str) -> None:
    out = docker("exec", "-t", box, "sh", "-c", "tty; echo $TERM").stdout
    assert re.fullmatch(r"/dev/pts/\d+\r\nxterm\r\n", out)


def test_privileged(docker: Client, box: str) -> None:
    status = docker("exec", "--privileged", box, "cat", "/proc/self/status").stdout
    usual = docker("exec", box, "cat", "/proc/self/status").stdout
    mask = r"CapEff:\s+([0-9a-f]+)"
    more, less = (int(re.findall(mask, text)[0], 16) for text in (status, usual))
    assert less == 0xA80425FB
    assert more & (1 << 21) and more > less


def test_capabilities_and_filters_of_the_container(boxes: Boxes) -> None:
    name = boxes.sleeper("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    status = boxes.exec(name, "cat /proc/self/status")
    assert re.search(r"CapEff:\s+0+\n", status)
    assert re.search(r"NoNewPrivs:\s+1\n", status)
    assert re.search(r"Seccomp:\s+2\n", status)


def test_same_namespaces_and_cgroup(boxes: Boxes, box: str) -> None:
    script = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/{}/ns/$n; done; cat /proc/{}/cgroup"
    assert boxes.exec(box, script.replace("{}", "self")) == boxes.exec(
        box, script.replace("{}", "1")
    )


def test_parent_is_outside(boxes: Boxes, box: str) -> None:
    assert boxes.exec(box, "grep PPid /proc/self/status").split() == ["PPid:", "0"]


def test_in_a_stopped_container(docker: Client, boxes: Boxes, inspect: Inspect) -> None:
    name = boxes.create(boxes.image)
    done = docker("exec", name, "true", check=False)
    assert done.returncode == 1
    assert f"container {inspect(name, '.Id')} is not running" in done.stderr


def test_in_a_paused_container(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    docker("pause", name)
    done = docker("exec", name, "true", check=False)
    assert done.returncode == 1
    assert f"Container {name} is paused, unpause the container before exec" in done.stderr


def test_in_no_container(docker: Client) -> None:
    done = docker("exec", "no-such-box", "true", check=False)
    assert done.returncode == 1
    assert "No such container: no-such-box" in done.stderr


def test_ends_with_the_container(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    process = docker.popen("exec", name, "sh", "-c", "echo up; sleep 60")
    assert process.stdout and process.stdout.readline() == b"up\n"
    docker("kill", name)
    process.communicate(timeout=30)
    assert process.returncode == 137


def test_many_at_once(docker: Client, box: str) -> None:
    running = [docker.popen("exec", box, "sh", "-c", f"echo {n}; exit {n}") for n in range(20)]
    ended: list[tuple[bytes, int]] = []
    for process in running:
        out, _ = process.communicate(timeout=60)
        ended.append((out, process.returncode))
    assert ended == [(f"{n}\n".encode(), n) for n in range(20)]


def test_inspect_of_an_exec(api: Api, box: str) -> None:
    command = {"Cmd": ["sh", "-c", "exit 3"], "AttachStdout": True, "Env": ["A=1"]}
    made = api("POST", f"/containers/{box}/exec", command)
    assert made.status == 201
    exec_id = made.json()["Id"]
    before = api("GET", f"/exec/{exec_id}/json").json()
    assert (before["Running"], before["ExitCode"], before["Pid"]) == (False, None, 0)
    assert api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    eventually(lambda: api("GET", f"/exec/{exec_id}/json").json()["ExitCode"] == 3)
    after = api("GET", f"/exec/{exec_id}/json").json()
    assert after["Running"] is False
    assert after["ProcessConfig"]["entrypoint"] == "sh"
    assert after["ProcessConfig"]["arguments"] == ["-c", "exit 3"]
    again = api("POST", f"/exec/{exec_id}/start", {"Detach": True})
    assert again.status == 409
    assert "already" in again.message


def test_a_resize_waits_for_the_start(api: Api, box: str) -> None:
    body = {"Cmd": ["sh", "-c", "until stty size | grep -q '30 90'; do sleep 0.02; done"]}
    exec_id = api("POST", f"/containers/{box}/exec", body | {"Tty": True}).json()["Id"]
    with ThreadPoolExecutor(1) as pool:
        resized = pool.submit(api, "POST", f"/exec/{exec_id}/resize", h=30, w=90)
        # Long enough for the engine to have it in hand, were it to answer at once.
        assert not wait([resized], 0.2).done
        assert api("POST", f"/exec/{exec_id}/start", {"Detach": True, "Tty": True}).status == 200
        assert resized.result(10).status == 200
    eventually(lambda: api("GET", f"/exec/{exec_id}/json").json()["ExitCode"] == 0)


def test_no_such_exec(api: Api) -> None:
    for answer in (
        api("GET", "/exec/nosuch/json"),
        api("POST", "/exec/nosuch/start", {}),
        api("POST", "/exec/nosuch/resize", h=1, w=1),
    ):
        assert answer.status == 404
        assert "No such exec instance: nosuch" in answer.message


def test_exec_without_a_command(api: Api, box: str) -> None:
    answer = api("POST", f"/containers/{box}/exec", {"Cmd": []})
    assert answer.status == 400
    assert "No exec command specified" in answer.message


def test_inspect_lists_the_running_ones(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sleeper()
    assert not inspect(name, ".ExecIDs")
    docker("exec", "-d", name, "sleep", "60")
    found = inspect(name, ".ExecIDs")
    assert isinstance(found, list) and len(found) == 1
