"""The same commands through `docker` and through `wherry`: the same words come back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.engine.boxes import Boxes, eventually
from tests.engine.plain import plain
from tests.harness.clients import Client

Done = subprocess.CompletedProcess[str]
VARYING = [
    (re.compile(r"\bwt-[0-9a-f]{8}\b"), "<name>"),
    (re.compile(r"\s+"), " "),
]


def same(text: str) -> str:
    """The text without what may differ from one call to the next, columns' widths included."""
    text = plain(text)
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    # The two clients name themselves in their hints.
    return text.replace("wherry", "docker").strip()


def both(docker: Client, wherry: Client, *words: str, stdin: str | None = None) -> Done:
    """Run a command through both; assert that they agree; return docker's."""
    one, other = (client(*words, check=False, stdin=stdin) for client in (docker, wherry))
    assert (other.returncode, same(other.stdout), same(other.stderr)) == (
        one.returncode,
        same(one.stdout),
        same(one.stderr),
    )
    return one


@pytest.fixture(scope="module")
def talker(module_boxes: Boxes) -> str:
    """A running container that wrote to both streams and changed some files."""
    name = module_boxes.sh(
        "echo out; echo err >&2; touch /made; rm /etc/group; echo x >>/etc/passwd; sleep 3600",
        "-e", "A=1", "-l", "k=v", "-m", "64m",
    )  # fmt: skip
    eventually(lambda: "err" in module_boxes.docker("logs", name).stderr)
    return name


@pytest.fixture(scope="module")
def shared_volume(module_boxes: Boxes) -> str:
    """A volume with one label: of several the docker client prints the order that its map has."""
    return module_boxes.volume("--label", "a=1")


@pytest.mark.parametrize(
    "command",
    [
        "ps --filter name={}",
        "ps -a --no-trunc --filter name={}",
        "ps -q --filter name={}",
        "ps --filter name={} --format {{{{.Names}}}}|{{{{.Image}}}}|{{{{.Status}}}}|{{{{.Ports}}}}",
        "ps --filter name={} --format {{{{json.Labels}}}}",
        "ps --size --filter name={}",
        "logs {}",
        "logs --tail 1 {}",
        "logs -t {}",
        "top {} -o pid,args",
        "diff {}",
        "port {}",
        "inspect {}",
        "inspect -f {{{{.State.Status}}}}/{{{{.HostConfig.Memory}}}} {}",
        "inspect -f {{{{json.Config.Env}}}} {}",
        "inspect --type container {}",
        "container inspect no-such-box",
        "exec {} echo hello",
        "exec {} sh -c exit\\ 7",
        "exec -e B=2 -w /tmp -u 33 {} sh -c pwd;id;echo\\ $A\\ $B",
        "exec {} nosuchprogram",
        "images {image}",
        "images -q {image}",
        "image inspect {image}",
        "history {image}",
        "image inspect no-such-image",
        "start no-such-box",
        "rm {}",
        "rm no-such-box",
        "kill -s NONSENSE {}",
        "update {}",
        "wait no-such-box",
        "cp no-such-box:/x -",
        "cp {}:/no/such -",
        "rename {} {}",
        "pause no-such-box",
        "rmi no-such-image",
        "tag no-such-image x",
        "ps --filter nonsense=1",
        "run",
        "run --nonsense x",
        "run --rm --network none {image} sh -c echo\\ out;echo\\ err>&2;exit\\ 3",
        "run --rm --network none {image} nosuchprogram",
        "run --rm --network none -u nosuch {image} true",
        "run --rm --network none -m 1m {image} true",
        "run --rm --network none --cap-add nonsense {image} true",
        "run --rm --network none -v a:b:c:d {image} true",
        "run --rm --network none -e A=1 -w /x/y -h host -u 33 {image} sh -c env|sort;pwd;id;hostname",
        "run --rm --network none --entrypoint /bin/echo {image} a b",
        "run --rm --network none --read-only --tmpfs /t:size=1m {image} df -k /t",
        "create --name {} {image}",
        "tag {image} Bad\\ Name",
        "images --filter dangling=nonsense",
        "top {}",
        "top {} -Z9",
        "exec -d {} nosuchprogram",
        "run --rm --network none --mount type=nonsense,dst=/x {image} true",
        "run --rm --network none --tmpfs /t:nonsense {image} true",
        "run --rm --network none --isolation nonsense {image} true",
        "run --rm --network none --device /dev/null:/opt/null {image} ls /opt",
        "run --rm --network none UPPER true",
        "volume ls --filter name=no-such",
        "volume ls --filter nonsense=1",
        "volume ls --filter dangling=x",
        "volume ls --format {{{{json .}}}} --filter name={volume}",
        "volume ls --format table\\ {{{{.Name}}}}\\t{{{{.Labels}}}} --filter name={volume}",
        "volume ls -q --filter name={volume}",
        "volume ls --filter name={volume} --format {{{{.Label\\ \"a\"}}}}|{{{{.Label\\ \"x\"}}}}",
        "volume ls --filter name={volume} --format {{{{index\\ (split\\ .Name\\ \"-\")\\ 7}}}}",
        "volume ls --filter name={volume} --format {{{{index\\ (split\\ .Name\\ \"-\")\\ 2}}}}",
        "volume inspect {volume}",
        "volume inspect -f {{{{.Driver}}}} {volume}",
        "volume inspect no-such",
        "volume create {volume}",
        "volume create x",
        "volume create -o nonsense=1 wt-none",
        "volume create -o type=tmpfs wt-none",
        "volume rm no-such",
        "volume rm -f no-such",
        "volume rm",
        "volume prune -a --filter all=1",
        "volume prune --filter label=wt-none",
        "volume prune -f --filter label=wt-none",
        "volume prune -af --filter until=1h",
        "run --rm --network none -v {volume}:/v:ro,foo {image} true",
        "run --rm --network none -v {volume}:/v:ro {image} touch /v/x",
        "run --rm --network none --mount type=volume,src={volume},dst=/v,volume-subpath=../x {image} true",
        "run --rm --network none --mount type=volume,src={volume},dst=/v,volume-subpath=x {image} true",
        "run --rm --network none --mount type=volume,src={volume},dst=/v,volume-nonsense=x {image} true",
        "run --rm --network none --mount type=image,src={image},dst=/v,image-subpath=bin {image} ls /v/sh",
        "run --rm --network none --volumes-from no-such {image} true",
        "run --rm --network none --volumes-from {} {image} true",
        "nonsense",
        "container ls --filter name={} --format {{{{.ID}}}}",
        "stats --no-stream --format {{{{.Name}}}}/{{{{.PIDs}}}} {}",
    ],
)  # fmt: skip
def test_same_answer(
    docker: Client, wherry: Client, talker: str, busybox: str, shared_volume: str, command: str
) -> None:
    text = (
        command.replace("{image}", busybox)
        .replace("{volume}", shared_volume)
        .replace("json.", "json .")
    )
    words = re.split(r"(?<!\\) (?!\.)", text)
    filled = [w.replace("\\ ", " ").replace("{}", talker) for w in words]
    both(docker, wherry, *[w.replace("{{{{", "{{").replace("}}}}", "}}") for w in filled])


def test_pipelines(docker: Client, wherry: Client, talker: str, busybox: str) -> None:
    text = "line\n" * 10_000
    words = ["run", "--rm", "-i", "--network", "none", busybox, "wc"]
    assert both(docker, wherry, *words, stdin=text).returncode == 0
    assert both(docker, wherry, "exec", "-i", talker, "md5sum", stdin=text).returncode == 0


def test_a_whole_life(docker: Client, wherry: Client, boxes: Boxes, busybox: str) -> None:
    """Each client leads a container of its own through the same steps; what they print is equal."""

    def live(client: Client) -> list[tuple[int, str, str]]:
        name, other, image = boxes.name(), boxes.name(), boxes.image_name()
        steps = [
            [
                "create",
                "--name",
                name,
                "--network",
                "none",
                busybox,
                "sh",
                "-c",
                "echo up; sleep 60",
            ],
            ["start", name],
            ["exec", name, "touch", "/new"],
            ["pause", name],
            ["ps", "--filter", f"name={name}", "--format", "{{.State}} {{.Command}}"],
            ["unpause", name],
            ["rename", name, other],
            ["diff", other],
            ["commit", "-m", "words", other, image],
            ["history", "--format", "{{.Comment}}", image],
            ["stop", "-t", "0", other],
            ["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", other],
            ["start", other],
            ["kill", other],
            ["wait", other],
            ["logs", other],
            ["rm", other],
            ["rmi", image],
            ["inspect", other],
        ]
        done = [client(*step, check=False) for step in steps]
        return [(d.returncode, same(d.stdout), same(d.stderr)) for d in done]

    assert live(wherry) == live(docker)


def test_files_in_and_out(docker: Client, wherry: Client, boxes: Boxes, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("data")
    (tree / "link").symlink_to("sub/file")
    for client, label in ((docker, "d"), (wherry, "w")):
        name = boxes.sleeper()
        out = tmp_path / label
        said = client("cp", str(tree), f"{name}:/tree")
        # docker tells on standard error, and only a terminal of how much
        assert said.stdout == ""
        client("cp", f"{name}:/tree", str(out))
        assert (out / "sub/file").read_text() == "data"
        assert (out / "link").is_symlink()


def test_archives_are_exchanged(docker: Client, wherry: Client, boxes: Boxes) -> None:
    image = boxes.image_name()
    docker("tag", boxes.image, image)
    one, other = (client.raw("save", image).stdout for client in (docker, wherry))
    assert one == other
    docker("rmi", image)
    assert wherry.raw("load", stdin=one).stdout.decode().strip() == f"Loaded image: {image}"
