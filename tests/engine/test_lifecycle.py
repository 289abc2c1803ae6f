"""A container's life: every verb that changes or shows it, and what each refuses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.engine.boxes import Boxes, eventually, started
from tests.harness.clients import Client

Inspect = Callable[[str, str], object]
LOOP = "echo up; while :; do sleep 0.02; done"


def state(docker: Client, name: str) -> str:
    """The container's status word."""
    return docker.line("inspect", "-f", "{{.State.Status}}", name)


def up(docker: Client, name: str) -> None:
    """Wait until the container has said that it is ready."""
    eventually(lambda: "up" in docker.line("logs", name))


# Create, start, end


def test_create_then_start(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image, "sh", "-c", "echo hello; exit 4")
    assert state(docker, name) == "created"
    done = docker("start", "-a", name, check=False)
    assert (done.stdout, done.returncode) == ("hello\n", 4)
    assert state(docker, name) == "exited"


def test_start_prints_the_name(boxes: Boxes, docker: Client) -> None:
    names = [boxes.create(boxes.image, "true") for _ in range(2)]
    assert docker.line("start", *names).split() == names


def test_start_of_a_running_one_is_fine(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    assert docker.line("start", name) == name


def test_started_again_runs_again(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image, "sh", "-c", "echo x >>/n; wc -l </n")
    assert [docker.line("start", "-a", name) for _ in range(3)] == ["1", "2", "3"]


def test_name_conflict(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.create(boxes.image)
    done = docker("create", "--name", name, boxes.image, check=False)
    assert done.returncode == 1
    assert (
        f'Conflict. The container name "/{name}" is already in use by container '
        f'"{inspect(name, ".Id")}". You have to remove (or rename) that container to be able to '
        "reuse that name."
    ) in done.stderr


def test_a_name_is_given(boxes: Boxes, docker: Client) -> None:
    made = docker.line("create", boxes.image)
    try:
        assert re.fullmatch(r"/[a-z]+_[a-z0-9]+", docker.line("inspect", "-f", "{{.Name}}", made))
    finally:
        docker("rm", made)


def test_unique_prefix_names_a_container(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.create(boxes.image)
    whole = str(inspect(name, ".Id"))
    assert docker.line("inspect", "-f", "{{.Id}}", whole[:20]) == whole


@pytest.mark.parametrize(
    "verb",
    ["start", "stop", "kill", "restart", "pause", "unpause", "rm", "logs", "top", "wait", "port",
     "diff", "attach"],
)  # fmt: skip
def test_no_such_container(docker: Client, verb: str) -> None:
    done = docker(verb, "no-such-box", check=False)
    assert done.returncode == 1
    assert "No such container: no-such-box" in done.stderr


def test_no_such_object(docker: Client) -> None:
    done = docker("inspect", "no-such-box", check=False)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "Error: No such object: no-such-box" in done.stderr


def test_rm_flag_removes(boxes: Boxes, docker: Client) -> None:
    name = boxes.name()
    docker("run", "--rm", "-d", "--name", name, "--network", "none", boxes.image, "true")
    eventually(lambda: docker("inspect", name, check=False).returncode == 1)


def test_times(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image, "true")
    before = json.loads(docker.line("inspect", "-f", "{{json .State}}", name))
    assert before["StartedAt"] == before["FinishedAt"] == "0001-01-01T00:00:00Z"
    docker("start", "-a", name)
    after = json.loads(docker.line("inspect", "-f", "{{json .State}}", name))
    pattern = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"
    assert re.fullmatch(pattern, after["StartedAt"])
    assert re.fullmatch(pattern, after["FinishedAt"])
    assert after["FinishedAt"] >= after["StartedAt"]
    assert (after["Pid"], after["Running"], after["Error"]) == (0, False, "")


# Stop, kill, restart


def test_stop(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("trap 'echo bye; exit 3' TERM; " + LOOP)
    up(docker, name)
    assert docker.line("stop", name) == name
    assert docker.line("inspect", "-f", "{{.State.ExitCode}}", name) == "3"
    assert docker.line("logs", name) == "up\nbye"


def test_stop_kills_after_the_timeout(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("trap '' TERM; " + LOOP)
    up(docker, name)
    begun = time.monotonic()
    docker("stop", "-t", "1", name)
    assert 0.9 < time.monotonic() - begun < 10  # which is what it has without `-t`
    assert docker.line("inspect", "-f", "{{.State.ExitCode}}", name) == "137"


def test_stop_with_another_signal(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("trap 'exit 8' HUP; " + LOOP)
    up(docker, name)
    docker("stop", "-s", "HUP", name)
    assert docker.line("inspect", "-f", "{{.State.ExitCode}}", name) == "8"


def test_stop_of_a_stopped_one_is_fine(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image)
    assert docker.line("stop", name) == name


def test_stop_of_a_paused_one(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    docker("pause", name)
    docker("stop", "-t", "1", name)
    assert state(docker, name) == "exited"


@pytest.mark.parametrize("signal", ["USR1", "SIGUSR1", "10"])
def test_kill_with_a_signal(boxes: Boxes, docker: Client, signal: str) -> None:
    name = boxes.sh("trap 'echo got; exit 5' USR1; " + LOOP)
    up(docker, name)
    assert docker.line("kill", "-s", signal, name) == name
    assert docker.line("wait", name) == "5"


def test_kill(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    docker("kill", name)
    eventually(lambda: state(docker, name) == "exited")
    assert docker.line("inspect", "-f", "{{.State.ExitCode}}", name) == "137"


@pytest.mark.parametrize("signal", ["NONSENSE", "0", "-1", "1000"])
def test_kill_with_no_signal(boxes: Boxes, docker: Client, signal: str) -> None:
    done = docker("kill", f"--signal={signal}", boxes.sleeper(), check=False)
    assert done.returncode == 1
    assert "signal" in done.stderr


def test_kill_of_a_stopped_one(boxes: Boxes, docker: Client) -> None:
    done = docker("kill", boxes.create(boxes.image), check=False)
    assert done.returncode == 1
    assert "is not running" in done.stderr


def test_restart(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sleeper()
    before = inspect(name, ".State.Pid")
    assert docker.line("restart", name) == name
    assert inspect(name, ".State.Pid") != before
    assert inspect(name, ".RestartCount") == 0


def test_restart_keeps_files(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "echo kept >/file; echo gone >/dev/shm/file")
    docker("restart", name)
    assert boxes.exec(name, "cat /file; ls /dev/shm") == "kept\n"


def test_restart_of_a_stopped_one_starts(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image, "sleep", "60")
    docker("restart", "-t", "0", name)
    assert state(docker, name) == "running"


def test_several_at_once_report_each(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    done = docker("stop", "no-such-box", name, check=False)
    assert done.returncode == 1
    assert done.stdout == f"{name}\n"
    assert "No such container: no-such-box" in done.stderr


# Pause


def test_pause_and_unpause(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("while :; do echo x; sleep 0.02; done")
    assert docker.line("pause", name) == name
    assert state(docker, name) == "paused"
    counts = [-1]

    def silent() -> bool:
        """Whether nothing came; what was on its way when it froze may still come."""
        counts.append(len(docker.line("logs", name).split()))
        time.sleep(0.3)
        return counts[-1] == counts[-2]

    eventually(silent)
    count = counts[-1]
    assert docker.line("unpause", name) == name
    assert state(docker, name) == "running"
    eventually(lambda: len(docker.line("logs", name).split()) > count)


def test_pause_refused(boxes: Boxes, docker: Client) -> None:
    stopped = docker("pause", boxes.create(boxes.image), check=False)
    assert (stopped.returncode, "is not running" in stopped.stderr) == (1, True)
    name = boxes.sleeper()
    docker("pause", name)
    assert "is already paused" in docker("pause", name, check=False).stderr
    docker("unpause", name)
    assert "is not paused" in docker("unpause", name, check=False).stderr


def test_paused_is_shown(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    docker("pause", name)
    shown = docker.line("ps", "--filter", f"name={name}", "--format", "{{.Status}}")
    assert re.fullmatch(r"Up .* \(Paused\)", shown)


def test_restart_of_a_paused_one_is_refused_or_done(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    docker("pause", name)
    docker("restart", "-t", "1", name, check=False)
    assert state(docker, name) in ("running", "paused")


# Rename, remove


def test_rename(boxes: Boxes, docker: Client) -> None:
    name, other = boxes.create(boxes.image), boxes.name()
    docker("rename", name, other)
    assert docker.line("inspect", "-f", "{{.Name}}", other) == f"/{other}"
    assert docker("inspect", name, check=False).returncode == 1


def test_rename_refused(boxes: Boxes, docker: Client) -> None:
    name, other = boxes.create(boxes.image), boxes.create(boxes.image)
    assert "is already in use" in docker("rename", name, other, check=False).stderr
    assert "same name" in docker("rename", name, name, check=False).stderr.lower()
    assert "Invalid container name" in docker("rename", name, "a b", check=False).stderr


def test_remove(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image)
    assert docker.line("rm", name) == name
    assert docker("inspect", name, check=False).returncode == 1


def test_remove_of_a_running_one_is_refused(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sleeper()
    done = docker("rm", name, check=False)
    assert done.returncode == 1
    assert (
        f'cannot remove container "{name}": container is running: '
        "stop the container before removing or force remove"
    ) in done.stderr


def test_remove_of_a_paused_one_is_refused(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    docker("pause", name)
    done = docker("rm", name, check=False)
    assert done.returncode == 1
    assert "container is paused and must be unpaused first" in done.stderr
    assert docker.line("rm", "-f", name) == name


def test_remove_by_force(boxes: Boxes, docker: Client) -> None:
    assert docker("rm", "-f", boxes.sleeper()).returncode == 0
    assert docker("rm", "-f", "no-such-box").returncode == 0


def test_prune(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    label = boxes.name()
    gone = boxes.create("-l", label, boxes.image)
    stays = boxes.sleeper("-l", label)
    whole = str(inspect(gone, ".Id"))
    out = docker("container", "prune", "-f", "--filter", f"label={label}").stdout
    assert whole in out and "Total reclaimed space:" in out
    assert docker("inspect", gone, check=False).returncode == 1
    assert state(docker, stays) == "running"


# Wait


def test_wait_after_the_end(boxes: Boxes, docker: Client) -> None:
    names = [boxes.sh(f"exit {n}") for n in (0, 7)]
    assert docker.line("wait", *names).split() == ["0", "7"]


def test_wait_of_a_created_one_returns_at_once(boxes: Boxes, docker: Client) -> None:
    assert docker.line("wait", boxes.create(boxes.image)) == "0"


# Shown


def test_ps_shows(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sleeper("-l", "k=v")
    line = docker.line("ps", "--filter", f"name={name}", "--format", "{{json .}}")
    row = json.loads(line)
    assert row["ID"] == str(inspect(name, ".Id"))[:12]
    assert row["Image"] == boxes.image.removesuffix(":latest") or row["Image"] == boxes.image
    assert row["Names"] == name
    assert row["State"] == "running"
    assert row["Status"].startswith("Up ")
    assert row["Labels"] == "k=v"
    assert row["Command"].startswith('"sh -c ')
    assert row["RunningFor"].endswith("ago")


def test_ps_of_ended_ones(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("exit 3")
    docker("wait", name)
    assert docker.line("ps", "-q", "--filter", f"name={name}") == ""
    shown = docker.line("ps", "-a", "--filter", f"name={name}", "--format", "{{.Status}}")
    assert re.fullmatch(r"Exited \(3\) .* ago", shown)


def test_ps_table(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper()
    lines = docker("ps", "--filter", f"name={name}").stdout.splitlines()
    assert lines[0].split() == [
        "CONTAINER",
        "ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ]
    assert len(lines) == 2 and lines[1].endswith(name)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["status=running"], "run"),
        (["status=created"], "new"),
        (["status=exited"], "end"),
        (["exited=3"], "end"),
        (["exited=4"], ""),
        (["label=role=run"], "run"),
        (["label=role"], "end new run"),
        (["status=running", "status=exited"], "end run"),
        (["status=paused"], ""),
    ],
)
def test_ps_filters(docker: Client, three: dict[str, str], filters: list[str], found: str) -> None:
    words = [
        word for each in [f"label=set={three['set']}", *filters] for word in ("--filter", each)
    ]
    names = docker.line("ps", "-a", "--format", "{{.Names}}", *words).split()
    assert sorted(role for role, name in three.items() if name in names) == found.split()


@pytest.fixture(scope="module")
def three(module_boxes: Boxes) -> dict[str, str]:
    """A running, a created and an ended container, by role; `set` is the label's value of all."""
    b = module_boxes
    mark = b.name()
    flags = ["-l", f"set={mark}", "-l"]
    made = {
        "run": b.sleeper(*flags, "role=run"),
        "new": b.create(*flags, "role=new", b.image),
        "end": b.sh("exit 3", *flags, "role=end"),
        "set": mark,
    }
    b.docker("wait", made["end"])
    return made


def test_ps_by_age(docker: Client, three: dict[str, str]) -> None:
    mark = ["--filter", f"label=set={three['set']}", "--format", "{{.Names}}"]
    later = docker.line("ps", "-a", *mark, "--filter", f"since={three['run']}").split()
    assert later == [three["end"], three["new"]]
    assert docker.line("ps", "-a", *mark, "--filter", f"before={three['new']}") == three["run"]
    assert docker.line("ps", "-n", "1", *mark) in (three["end"], "")


def test_ps_by_image(docker: Client, boxes: Boxes, three: dict[str, str]) -> None:
    words = ["--filter", f"ancestor={boxes.image}", "--filter", f"label=set={three['set']}"]
    assert len(docker.line("ps", "-aq", *words).split()) == 3


@pytest.mark.parametrize("bad", ["nonsense=1", "status=nonsense", "exited=x"])
def test_ps_filter_refused(docker: Client, bad: str) -> None:
    done = docker("ps", "--filter", bad, check=False)
    assert done.returncode == 1
    assert "nvalid" in done.stderr


def test_ps_no_trunc_and_quiet(docker: Client, three: dict[str, str], inspect: Inspect) -> None:
    whole = str(inspect(three["run"], ".Id"))
    words = ["ps", "-q", "--filter", f"name=^/?{three['run']}$"]
    assert docker.line(*words) == whole[:12]
    assert docker.line(*words, "--no-trunc") == whole


def test_ps_size(docker: Client, boxes: Boxes) -> None:
    name = boxes.sleeper()
    boxes.exec(name, "head -c 100000 /dev/zero >/file")
    shown = docker.line("ps", "-s", "--filter", f"name={name}", "--format", "{{.Size}}")
    size = re.fullmatch(r"(\d+)kB \(virtual ([\d.]+)MB\)", shown)
    assert size and 98 <= int(size[1]) <= 110, shown


def test_inspect(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper("-e", "A=1", "-w", "/tmp", "--hostname", "h")
    found = json.loads(docker("inspect", "--size", name).stdout)
    assert len(found) == 1
    one = found[0]
    assert one["Name"] == f"/{name}"
    assert one["Config"]["Hostname"] == "h"
    assert "A=1" in one["Config"]["Env"]
    assert one["Config"]["WorkingDir"] == "/tmp"
    assert one["Config"]["Image"] == boxes.image
    assert one["Image"].startswith("sha256:")
    assert one["Path"] == "sh" and one["Args"][0] == "-c"
    assert one["State"]["Running"] is True
    assert one["HostConfig"]["NetworkMode"] == "none"
    assert one["GraphDriver"]["Name"] == "overlay2"
    assert one["Driver"] == "overlay2"
    assert one["Platform"] == "linux"
    assert {"SizeRw", "SizeRootFs", "LogPath", "ResolvConfPath", "MountLabel"} <= set(one)
    assert "none" in one["NetworkSettings"]["Networks"]


def test_top(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.run(boxes.image, "sleep", "77")
    lines = docker("top", name).stdout.splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert "sleep 77" in lines[1]
    assert str(inspect(name, ".State.Pid")) in lines[1].split()
    own = docker("top", name, "-o", "pid,comm").stdout.splitlines()
    assert own[0].split() == ["PID", "COMMAND"]
    assert own[1].split()[1] == "sleep"


def test_top_of_a_stopped_one(boxes: Boxes, docker: Client) -> None:
    done = docker("top", boxes.create(boxes.image), check=False)
    assert done.returncode == 1
    assert "is not running" in done.stderr


def test_stats(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper("-m", "64m")
    lines = docker("stats", "--no-stream", name).stdout.splitlines()
    assert "CPU %" in lines[0] and "PIDS" in lines[0]
    row = json.loads(docker.line("stats", "--no-stream", "--format", "{{json .}}", name))
    assert row["Name"] == name
    assert row["MemUsage"].endswith("/ 64MiB")
    assert int(row["PIDs"]) == 2


def test_port_of_none(boxes: Boxes, docker: Client) -> None:
    assert docker.line("port", boxes.sleeper()) == ""


def test_events_of_a_life(boxes: Boxes, docker: Client) -> None:
    since = str(time.time() - 0.001)
    name = boxes.name()
    docker(
        "run",
        "--rm",
        "--name",
        name,
        "--network",
        "none",
        boxes.image,
        "sh",
        "-c",
        "exit 2",
        check=False,
    )
    eventually(lambda: docker("inspect", name, check=False).returncode == 1)
    words = ["--since", since, "--until", str(time.time() + 0.5), "--format", "{{json .}}"]
    events = [
        json.loads(x)
        for x in docker("events", *words, "--filter", f"container={name}").stdout.splitlines()
    ]
    actions = [event["Action"] for event in events if event["Type"] == "container"]
    assert actions == ["create", "attach", "start", "die", "destroy"]
    die = events[[event["Action"] for event in events].index("die")]
    assert die["Actor"]["Attributes"]["exitCode"] == "2"
    assert die["Actor"]["Attributes"]["name"] == name


def test_events_as_they_come(boxes: Boxes, docker: Client) -> None:
    name = boxes.create(boxes.image, "true")
    with started(
        docker, "events", "--filter", f"container={name}", "--format", "{{.Action}}"
    ) as watching:
        assert watching.stdout
        # The client has no sign that it is subscribed: rename until it tells of one.
        seen: list[bytes] = []
        import threading

        reader = threading.Thread(target=lambda: seen.extend(iter(watching.stdout.readline, b"")))  # type: ignore[union-attr]
        reader.start()
        other = boxes.name()
        names = [name, other]

        def rename() -> bool:
            docker("rename", *names)
            names.reverse()
            return b"rename\n" in seen

        eventually(rename)
        watching.kill()
        reader.join(30)


# Restart policies


def test_on_failure_gives_up(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sh("echo try; exit 6", "--restart", "on-failure:2")
    eventually(lambda: state(docker, name) == "exited")
    assert docker.line("logs", name).split() == ["try"] * 3
    assert inspect(name, ".RestartCount") == 2
    assert inspect(name, ".State.ExitCode") == 6


def test_on_failure_leaves_success_alone(boxes: Boxes, docker: Client, inspect: Inspect) -> None:
    name = boxes.sh("echo try", "--restart", "on-failure")
    assert docker.line("wait", name) == "0"
    assert inspect(name, ".RestartCount") == 0


def test_always_with_growing_pauses(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("cut -d' ' -f1 /proc/uptime", "--restart", "always")
    eventually(lambda: len(docker.line("logs", name).split()) >= 4)
    docker("stop", name)
    times = [float(line) for line in docker.line("logs", name).split()]
    pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert pauses[0] >= 0.09 and pauses[1] >= 0.19 and pauses[2] >= 0.39, pauses


def test_stop_ends_restarting(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("exit 1", "--restart", "unless-stopped")
    eventually(lambda: state(docker, name) == "restarting")
    docker("stop", name)
    count = docker.line("inspect", "-f", "{{.RestartCount}}", name)
    time.sleep(0.5)
    assert state(docker, name) == "exited"
    assert docker.line("inspect", "-f", "{{.RestartCount}}", name) == count


def test_killed_by_the_user_is_not_restarted(boxes: Boxes, docker: Client) -> None:
    name = boxes.sleeper("--restart", "on-failure")
    docker("kill", name)
    eventually(lambda: state(docker, name) == "exited")


def test_policy_refused(boxes: Boxes, docker: Client) -> None:
    for words, said in [
        (["--restart", "nonsense"], "invalid restart policy"),
        (["--restart", "always:3"], "maximum retry count"),
        (["--rm", "--restart", "always"], "onflicting options"),
    ]:
        done = docker("run", *words, "--name", boxes.name(), boxes.image, "true", check=False)
        assert done.returncode == 125
        assert said in done.stderr


def test_removed_while_restarting(boxes: Boxes, docker: Client) -> None:
    name = boxes.sh("exit 1", "--restart", "always")
    eventually(lambda: int(docker.line("inspect", "-f", "{{.RestartCount}}", name)) > 0)
    docker("rm", "-f", name)
    assert docker("inspect", name, check=False).returncode == 1


# The engine about itself


def test_version(docker: Client) -> None:
    server = json.loads(docker.line("version", "--format", "{{json .Server}}"))
    assert server["ApiVersion"] == "1.51"
    assert server["MinAPIVersion"] == "1.24"
    assert server["Os"] == "linux"


def test_info(docker: Client) -> None:
    info = json.loads(docker.line("info", "--format", "{{json .}}"))
    assert info["OSType"] == "linux"
    assert info["NCPU"] >= 1 and info["MemTotal"] > 0
    assert info["Driver"] == "overlay2"
    assert any("seccomp" in option for option in info["SecurityOptions"])
    assert info["CgroupVersion"] in ("1", "2")
    assert "ServerErrors" not in info or not info["ServerErrors"]
    assert "Server Version:" in docker("info").stdout


def test_disk_usage(docker: Client, box: str) -> None:
    out = docker("system", "df").stdout
    assert out.splitlines()[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        "Images",
        "Containers",
        "Local",
        "Build",
    ]


def test_the_order_of_what_an_end_brings(boxes: Boxes) -> None:
    """As a Docker 28.5 tells it; kill and rm -f return when it is over."""
    docker, image = boxes.docker, boxes.image
    name = boxes.sleeper()
    docker("restart", name)
    docker("stop", name)
    docker("start", name)
    docker("pause", name)
    docker("kill", name)
    docker("start", name)
    docker("pause", name)
    docker("rm", "-f", name)
    kept = boxes.name()
    docker("run", "-d", "--rm", "--name", kept, "--network", "none", image, "sleep", "60")
    docker("stop", "-t", "0", kept)
    eventually(lambda: docker("inspect", kept, check=False).returncode == 1)
    told = docker(
        *("events", "--since", "1m", "--until", f"{time.time():.9f}", "--format", "{{.Action}}"),
        *("-f", f"container={name}", "-f", f"container={kept}", "-f", "type=container"),
    ).stdout.split()
    expected = """
        create start
        kill stop die start restart
        kill stop die start
        pause kill die start
        pause kill die destroy
        create start kill kill stop die destroy
    """
    assert told == expected.split()
