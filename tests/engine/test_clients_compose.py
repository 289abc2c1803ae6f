"""Docker Compose v2's everyday work: a project comes up, is worked in, is changed, and goes."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engine.boxes import eventually, started
from tests.engine.composing import Project, project_of
from tests.engine.conftest import HOST
from tests.engine.terminal import Terminal
from tests.harness.clients import Client

SHOP = """
services:
  web:
    image: {image}
    command: ["sh", "-c", "echo served-$$WORD >/www/index.html; exec httpd -f -h /www"]
    environment: {{WORD: word}}
    env_file: [web.env]
    volumes: ["pages:/www", "./said:/config/said:ro"]
    tmpfs: [/scratch]
    networks: {{front: {{aliases: [site], ipv4_address: 10.214.7.77}}, back: {{}}}}
    ports: ["127.0.0.1::80"]
    init: true
    healthcheck:
      test: ["CMD", "wget", "-qO-", "http://127.0.0.1/"]
      interval: 300ms
      retries: 40
    configs: [{{source: settings, target: /etc/settings}}]
    secrets: [token]
    restart: unless-stopped
  prepared:
    image: {image}
    command: ["sh", "-c", "echo ready >/shared/mark"]
    volumes: ["shared:/shared"]
    network_mode: none
  reader:
    image: {image}
    command: ["sh", "-c", "cat /shared/mark; wget -qO- http://site/; trap exit TERM; sleep 600 & wait"]
    depends_on:
      web: {{condition: service_healthy}}
      prepared: {{condition: service_completed_successfully}}
    networks: [front]
    volumes: ["shared:/shared:ro"]
    deploy: {{resources: {{limits: {{memory: 64M, cpus: "0.5", pids: 50}}}}}}
    ulimits: {{nofile: {{soft: 100, hard: 200}}}}
    cap_drop: [ALL]
    read_only: true
    extra_hosts: ["elsewhere:10.1.2.3"]
  beside:
    image: {image}
    command: ["sh", "-c", "trap exit TERM; sleep 600 & wait"]
    network_mode: service:web
    pid: service:web
    volumes_from: [web]
  once:
    image: {image}
    command: ["cat", "/config/said"]
    volumes: ["./said:/config/said:ro"]
    network_mode: none
    profiles: [tools]
volumes: {{pages: {{labels: {{kept: "no"}}}}, shared: {{}}}}
networks:
  front: {{ipam: {{config: [{{subnet: 10.214.7.0/24}}]}}}}
  back: {{internal: true}}
configs: {{settings: {{content: "a setting\\n"}}}}
secrets: {{token: {{file: token}}}}
"""
TWO = """
services:
  one: {{image: {image}, command: {loop}, labels: {{color: "{color}"}}, volumes: [/scratch]}}
  two: {{image: {image}, command: {loop}}}
"""
LOOP = '["sh", "-c", "trap exit TERM; echo begun; sleep 600 & wait"]'

Projects = Callable[[str], Project]


@pytest.fixture(scope="module")
def shop(
    docker: Client, busybox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A project that is up, shared by the tests that do not change it."""
    folder = tmp_path_factory.mktemp("shop")
    for name, text in (("said", "configured\n"), ("web.env", "FILED=filed\n"), ("token", "hush\n")):
        (folder / name).write_text(text)
    with project_of(folder, SHOP.format(image=busybox), docker) as project:
        project("up", "--detach", "--wait", "--quiet-pull", timeout=120)
        yield project


@pytest.fixture
def projects(docker: Client, tmp_path: Path) -> Iterator[Projects]:
    """A function from a text to a project that is not up yet."""
    with ExitStack() as stack:
        yield lambda text: stack.enter_context(project_of(tmp_path, text, docker))


def test_it_is_up_in_order(shop: Project) -> None:
    rows = shop.rows("--all")
    states = {name: (row["State"], row["Health"], row["ExitCode"]) for name, row in rows.items()}
    assert states == {
        "web": ("running", "healthy", 0),
        "prepared": ("exited", "", 0),
        "reader": ("running", "", 0),
        "beside": ("running", "", 0),
    }
    assert "healthy" in shop.line("ps", "web") and "prepared" not in shop.line("ps")
    said = shop.line("logs", "--no-color", "--no-log-prefix", "reader")
    # Compose 2.26 erases the line first, terminal or not.
    assert said.replace("\x1b[2K", "").split() == ["ready", "served-word"]
    listed = json.loads(shop.line("ls", "--format", "json"))
    assert [one["Status"] for one in listed if one["Name"] == shop.name] == ["running(3)"]


def test_what_is_given_to_a_service(shop: Project) -> None:
    said = shop.line(
        "exec", "-T", "web", "cat", "/etc/settings", "/run/secrets/token", "/config/said"
    )
    assert said.split("\n") == ["a setting", "hush", "configured"]
    assert shop.line("exec", "-T", "web", "sh", "-c", "echo $WORD $FILED") == "word filed"
    assert " /scratch tmpfs " in shop.line("exec", "-T", "web", "cat", "/proc/mounts")
    script = "grep elsewhere /etc/hosts; ulimit -n; grep CapEff /proc/self/status; touch /x"
    done = shop("exec", "-T", "reader", "sh", "-c", script, check=False)
    assert done.stdout.split() == ["10.1.2.3", "elsewhere", "100", "CapEff:", "0" * 16]
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    (reader,) = shop.ids("reader")
    limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"
    assert shop.docker.line("inspect", "-f", limits, reader) == f"{64 << 20} 500000000 50"


def test_networks_of_services(shop: Project) -> None:
    for name in ("web", "site", "10.214.7.77", f"{shop.name}-web-1"):
        assert shop.line("exec", "-T", "reader", "wget", "-qO-", f"http://{name}/") == "served-word"
    # Of one network, process and file tree with web.
    script = "wget -qO- http://127.0.0.1/; cat /www/index.html; ps"
    said = shop.line("exec", "-T", "beside", "sh", "-c", script)
    assert said.count("served-word") >= 2 and "httpd -f" in said
    outside = shop("exec", "-T", "web", "ip", "-o", "addr").stdout
    assert outside.count("inet ") == 3, "lo, front, back"
    networks = [f"{shop.name}_front", f"{shop.name}_back"]
    shown = json.loads(shop.docker.line("network", "inspect", *networks))
    assert [one["Internal"] for one in shown] == [False, True]


@pytest.mark.skipif(bool(HOST), reason="the other engine's host is not the test's")
def test_a_published_port(shop: Project, request: pytest.FixtureRequest) -> None:
    address = shop.line("port", "web", "80")
    assert shop.rows()["web"]["Publishers"][0]["PublishedPort"] == int(address.split(":")[1])
    with request.getfixturevalue("engine").network.inside():
        with urllib.request.urlopen(f"http://{address}/", timeout=30) as answer:
            assert answer.read() == b"served-word\n"


def test_exec(shop: Project) -> None:
    words = ("-T", "-e", "A=b", "-w", "/tmp", "-u", "33", "--index", "1")
    done = shop("exec", *words, "web", "sh", "-c", "echo $A $PWD $(id -u); cat; exit 7",
                check=False, stdin="typed\n")  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "b /tmp 33\ntyped\n")
    with Terminal(shop, "exec", "web", "sh") as terminal:
        terminal.expect("#")
        terminal.send("stty size; exit 3\n")
        terminal.expect("24 80")
        assert terminal.wait() == 3


def test_run(shop: Project) -> None:
    before = shop.docker.line("ps", "-aq").split()
    assert shop.line("run", "--rm", "once") == "configured"
    words = ("run", "--rm", "-T", "--no-deps", "-e", "X=y", "--entrypoint", "sh", "once")
    done = shop(*words, "-c", "echo $X; cat; exit 4", stdin="fed\n", check=False)
    assert (done.returncode, done.stdout.split()) == (4, ["y", "fed"])
    with Terminal(shop, "run", "--rm", "--no-deps", "reader", "sh") as terminal:
        terminal.expect("$" if os.geteuid() else "#")
        terminal.send("wget -qO- http://site/; exit 5\n")
        terminal.expect("served-word")
        assert terminal.wait() == 5
    assert set(shop.docker.line("ps", "-aq").split()) == set(before)


def test_cp(shop: Project, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("data")
    shop("cp", str(tmp_path / "tree"), "beside:/tmp/tree")
    assert shop.line("exec", "-T", "beside", "cat", "/tmp/tree/file") == "data"
    shop("cp", "web:/www/.", str(tmp_path / "out"))
    assert (tmp_path / "out/index.html").read_text() == "served-word\n"
    assert b"served-word" in shop.raw("cp", "web:/www/index.html", "-").stdout


def test_looking_on(shop: Project) -> None:
    assert "httpd -f" in shop.line("top", "web")
    images = json.loads(shop.line("images", "--format", "json"))
    assert {one["ContainerName"] for one in images} == {
        f"{shop.name}-{service}-1" for service in ("web", "prepared", "reader", "beside")
    }
    row = json.loads(shop.line("stats", "--no-stream", "--format", "json", "web").split("\n")[0])
    assert row["Name"] == f"{shop.name}-web-1" and not row["NetIO"].startswith("0B / ")
    assert (
        shop.name in shop.line("config") and len(shop.line("config", "--hash", "web").split()) == 2
    )


def test_events_and_pauses(shop: Project) -> None:
    with started(shop, "events", "--json", "beside") as events:
        assert events.stdout is not None
        # The listener is there once it tells of something: pause until it does.
        for _ in range(40):
            shop("pause", "beside")
            assert "Paused" in shop.line("ps", "beside")
            shop("unpause", "beside")
            os.set_blocking(events.stdout.fileno(), False)
            time.sleep(0.05)
            if heard := events.stdout.read():
                break
        else:
            pytest.fail("no event was heard")
    event = json.loads(heard.splitlines()[0])
    assert event["service"] == "beside" and event["action"] in ("pause", "unpause")


def test_what_did_not_change_is_left_alone(shop: Project) -> None:
    before = {service: shop.ids(service) for service in ("web", "reader", "beside")}
    shop("up", "--detach", "--wait")
    assert {service: shop.ids(service) for service in before} == before
    assert "Recreate" not in shop("up", "--detach", "--dry-run").stderr


def test_a_change_makes_that_service_anew(projects: Projects, busybox: str) -> None:
    words = {"image": busybox, "loop": LOOP}
    project = projects(TWO.format(color="red", **words))
    project("up", "--detach")
    one, two = project.ids("one"), project.ids("two")
    project("exec", "-T", "one", "touch", "/scratch/kept")
    project.file.write_text(TWO.format(color="blue", **words))
    project("up", "--detach", "--timeout", "1")
    assert project.ids("one") != one and project.ids("two") == two
    label = project.docker.line("inspect", "-f", "{{.Config.Labels.color}}", *project.ids("one"))
    assert label == "blue"
    # An anonymous volume goes from the old container to the new one, unless told otherwise.
    assert project.line("exec", "-T", "one", "ls", "/scratch") == "kept"
    project("up", "--detach", "--timeout", "1", "--force-recreate", "--renew-anon-volumes", "one")
    assert project.line("exec", "-T", "one", "ls", "/scratch") == ""


def test_scale_and_verbs(projects: Projects, busybox: str) -> None:
    project = projects(TWO.format(color="red", image=busybox, loop=LOOP))
    project("create")
    assert {row["State"] for row in project.rows("--all").values()} == {"created"}
    project("up", "--detach", "--scale", "two=3")
    (one,) = project.ids("one")
    assert len(project.ids("two")) == 3
    before = project.docker.line("inspect", "-f", "{{.State.StartedAt}}", one)
    project("restart", "--timeout", "1", "one")
    assert project.docker.line("inspect", "-f", "{{.State.StartedAt}}", one) > before
    project("up", "--detach", "--scale", "two=1", "--timeout", "1")
    assert len(project.ids("two")) == 1
    project("stop", "--timeout", "1")
    assert project.line("ps", "-q") == ""
    project("start")
    assert project.ids("one") == [one]
    project("kill", "--signal", "KILL", "one")
    assert project.rows("--all")["one"]["ExitCode"] == 137
    project("rm", "--force", "--stop", "one")
    assert set(project.rows("--all")) == {"two"}
    with started(project, "logs", "--follow", "--no-log-prefix", "two") as logs:
        assert logs.stdout is not None and b"begun" in logs.stdout.readline()
        project("stop", "--timeout", "1", "two")
        assert logs.wait(30) == 0, "what follows the logs ends with the last container"
    project("down", "--timeout", "1", "--volumes")
    assert project.left() == {}


def test_in_the_foreground(projects: Projects, busybox: str) -> None:
    project = projects(TWO.format(color="red", image=busybox, loop=LOOP))
    with Terminal(project, "up", "--timeout", "2", columns=120) as terminal:
        for _ in range(2):
            terminal.expect("begun", 30)
        os.kill(terminal.pid, signal.SIGINT)
        terminal.expect("Stopped", 20)
        # With what code is its own affair: 2.26 says 0, 130 or 2, with Docker too.
        terminal.wait(20)
    eventually(lambda: project.line("ps", "-q") == "")
    assert {row["State"] for row in project.rows("--all").values()} == {"exited"}


def test_an_exit_code_for_all(projects: Projects, busybox: str) -> None:
    text = """
services:
  tests: {{image: {image}, network_mode: none, command: ["sh", "-c", "echo tried; exit 9"]}}
  server: {{image: {image}, network_mode: none, command: {loop}}}
"""
    project = projects(text.format(image=busybox, loop=LOOP))
    done = project("up", "--timeout", "1", "--exit-code-from", "tests", check=False)
    assert done.returncode == 9 and "tried" in done.stdout
    assert project.line("ps", "-q") == ""


@pytest.fixture
def built(projects: Projects, busybox: str, tmp_path: Path) -> Project:
    """A project of one service that is built."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app/Dockerfile").write_text(
        f"FROM {busybox} AS base\nARG WORD\nRUN echo $WORD >/word\nFROM base AS final\nFROM base\nRUN false\n"
    )
    return projects(
        "services: {app: {network_mode: none, command: [cat, /word], build: {context: app, target: "
        "final, args: {WORD: fed}, labels: {made: here}}}}"
    )


def test_a_service_that_is_built(built: Project) -> None:
    built.env["DOCKER_BUILDKIT"] = "0"
    done = built("build")
    assert "Successfully built" in done.stdout + done.stderr
    image = f"{built.name}-app"
    assert built.docker.line("image", "inspect", "-f", "{{.Config.Labels.made}}", image) == "here"
    assert built.line("run", "--rm", "app") == "fed"
    (built.folder / "app/Dockerfile").write_text("FROM scratch AS final\nCOPY nothing /\n")
    done = built("up", "--build", check=False)
    assert done.returncode != 0 and "nothing" in done.stderr


@pytest.mark.parametrize("bake", ["", "true", "false"])
def test_a_build_without_the_variable(built: Project, is_wherry: bool, bake: str) -> None:
    # Compose takes BuildKit whatever an engine says, with buildx installed or not: the error says what to set.
    del built.env["DOCKER_BUILDKIT"]
    if bake:
        built.env["COMPOSE_BAKE"] = bake
    done = built("up", "--build", "--detach", check=False)
    if is_wherry:
        hint = "set DOCKER_BUILDKIT=0 for docker build and docker compose"
        assert done.returncode != 0 and hint in done.stderr
        built.env["DOCKER_BUILDKIT"] = "0"
        built("up", "--build", "--detach")
    assert built.line("run", "--rm", "app") == "fed"
