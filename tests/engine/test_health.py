"""HEALTHCHECK: run inside, judged by its rules, shown where Docker shows it."""

from __future__ import annotations

import json
from typing import Any

from tests.engine.boxes import Boxes, eventually
from tests.engine.raw import Api

FAST = ("--health-interval", "100ms", "--health-timeout", "30s")


def health(boxes: Boxes, name: str) -> dict[str, Any]:
    return json.loads(boxes.docker.line("inspect", "-f", "{{json .State.Health}}", name))


def becomes(boxes: Boxes, name: str, status: str) -> None:
    eventually(lambda: health(boxes, name)["Status"] == status)


def test_it_starts_turns_healthy_falls_ill_and_recovers(boxes: Boxes, api: Api) -> None:
    box = boxes.run(
        *("--health-cmd", "echo said; test -e /ok", "--health-retries", "2", *FAST),
        *(boxes.image, "sh", "-c", "touch /ok; sleep 600"),
    )
    becomes(boxes, box, "healthy")
    assert boxes.docker.line("ps", "-f", f"name={box}", "--format", "{{.Status}}").endswith(
        "(healthy)"
    )
    boxes.exec(box, "rm /ok")
    becomes(boxes, box, "unhealthy")
    found = health(boxes, box)
    assert found["FailingStreak"] >= 2
    assert found["Log"][-1]["ExitCode"] == 1 and found["Log"][-1]["Output"] == "said\n"
    assert len(found["Log"]) <= 5
    assert boxes.docker.line("ps", "-q", "-f", "health=unhealthy", "-f", f"name={box}")
    boxes.exec(box, "touch /ok")
    becomes(boxes, box, "healthy")
    assert health(boxes, box)["FailingStreak"] == 0
    words = (
        "--since",
        "60s",
        "--until",
        "0s",
        "-f",
        f"container={box}",
        "-f",
        "event=health_status",
    )
    told = ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]

    def all_told() -> bool:
        # `until` is cut to whole seconds by the client.
        lines = boxes.docker("events", *words, "--format", "{{.Action}}").stdout.splitlines()
        return lines[:3] == told

    eventually(all_told)


def test_it_says_starting_before_the_first_probe(boxes: Boxes) -> None:
    box = boxes.run("--health-cmd", "true", "--health-interval", "1h", boxes.image, "sleep", "600")
    assert health(boxes, box)["Status"] == "starting"
    status = boxes.docker.line("ps", "-f", f"name={box}", "--format", "{{.Status}}")
    assert status.endswith("(health: starting)")
    assert boxes.docker.line("ps", "-q", "-f", "health=starting", "-f", f"name={box}")
    boxes.docker("stop", "-t", "0", box)
    assert health(boxes, box)["Status"] == "unhealthy"
    boxes.docker("start", box)
    assert health(boxes, box)["Status"] == "starting"


def test_a_probe_that_takes_too_long_is_killed(boxes: Boxes) -> None:
    box = boxes.run(
        *("--health-cmd", "sleep 611", "--health-interval", "100ms"),
        *("--health-timeout", "200ms", "--health-retries", "1", boxes.image, "sleep", "600"),
    )
    becomes(boxes, box, "unhealthy")
    probe = health(boxes, box)["Log"][0]
    assert probe["ExitCode"] == -1
    assert probe["Output"] == "Health check exceeded timeout (200ms)"
    # One may be under way; those that were given up on are gone.
    assert boxes.exec(box, "ps | grep -c '[s]leep 611' || true").strip() in ("0", "1", "2")


def test_failures_in_the_start_period_do_not_count(boxes: Boxes) -> None:
    box = boxes.run(
        *("--health-cmd", "false", "--health-retries", "1", "--health-interval", "1h"),
        *("--health-start-period", "1h", "--health-start-interval", "100ms"),
        *(boxes.image, "sleep", "600"),
    )
    eventually(lambda: len(health(boxes, box)["Log"]) >= 2)
    found = health(boxes, box)
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)


def test_a_paused_container_is_left_alone(boxes: Boxes) -> None:
    box = boxes.run("--health-cmd", "true", *FAST, boxes.image, "sleep", "600")
    becomes(boxes, box, "healthy")
    boxes.docker("pause", box)
    last = health(boxes, box)["Log"][-1]["End"]
    assert "(Paused)" in boxes.docker.line("ps", "-f", f"name={box}", "--format", "{{.Status}}")
    boxes.docker("unpause", box)
    eventually(lambda: health(boxes, box)["Log"][-1]["End"] > last)
    assert health(boxes, box)["Status"] == "healthy"


def test_the_image_s_check_runs_unless_told_not_to(boxes: Boxes) -> None:
    made = boxes.create(boxes.image, "sleep", "600")
    image = boxes.image_name()
    check = "HEALTHCHECK --interval=100ms CMD test -e /bin/sh"
    boxes.docker("commit", "-c", check, made, image)
    box = boxes.run(image)
    becomes(boxes, box, "healthy")
    plain = boxes.run("--no-healthcheck", image)
    assert boxes.docker.line("inspect", "-f", "{{json .State.Health}}", plain) == "null"
    assert not boxes.docker.line("ps", "-q", "-f", "health=healthy", "-f", f"name={plain}")


def test_what_a_probe_prints_is_cut_at_4096_bytes(boxes: Boxes) -> None:
    box = boxes.run("--health-cmd", "yes | head -c 100000", *FAST, boxes.image, "sleep", "600")
    becomes(boxes, box, "healthy")
    assert len(health(boxes, box)["Log"][0]["Output"]) in (4096, 4099)


def test_probes_leave_no_exec_behind(boxes: Boxes) -> None:
    box = boxes.run("--health-cmd", "true", *FAST, boxes.image, "sleep", "600")
    becomes(boxes, box, "healthy")
    eventually(lambda: boxes.docker.line("inspect", "-f", "{{json .ExecIDs}}", box) == "null")
