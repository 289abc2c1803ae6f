"""Every route: what it asks of the services, what it answers, and that none of the documented is missing."""

from __future__ import annotations

import base64
import errno
import json
import re
import urllib.parse
from typing import Any

import pytest

from tests.api.fakes import DIGEST, FakeRegistries
from tests.api.serving import Api
from wherry.api.application import all_routes
from wherry.model.containers import RestartPolicy
from wherry.model.errors import Invalid, StartFailed, Unauthorized
from wherry.model.images import Platform
from wherry.model.resources import Limits
from wherry.model.views import AttachOptions, CommitOptions, LogOptions
from wherry.registry.credentials import Credentials

# Every operation of the Engine API 1.51, method and path.
DOCUMENTED = """
GET /containers/json; POST /containers/create; GET /containers/{id}/json; GET /containers/{id}/top;
GET /containers/{id}/logs; GET /containers/{id}/changes; GET /containers/{id}/export;
GET /containers/{id}/stats; POST /containers/{id}/resize; POST /containers/{id}/start;
POST /containers/{id}/stop; POST /containers/{id}/restart; POST /containers/{id}/kill;
POST /containers/{id}/update; POST /containers/{id}/rename; POST /containers/{id}/pause;
POST /containers/{id}/unpause; POST /containers/{id}/attach; GET /containers/{id}/attach/ws;
POST /containers/{id}/wait; DELETE /containers/{id}; HEAD /containers/{id}/archive;
GET /containers/{id}/archive; PUT /containers/{id}/archive; POST /containers/prune;
GET /images/json; POST /build; POST /build/prune; POST /images/create; GET /images/{name}/json;
GET /images/{name}/history; POST /images/{name}/push; POST /images/{name}/tag;
DELETE /images/{name}; GET /images/search; POST /images/prune; POST /auth; GET /info; GET /version;
GET /_ping; HEAD /_ping; POST /commit; GET /events; GET /system/df; GET /images/{name}/get;
GET /images/get; POST /images/load; POST /containers/{id}/exec; POST /exec/{id}/start;
POST /exec/{id}/resize; GET /exec/{id}/json; GET /volumes; POST /volumes/create;
GET /volumes/{name}; PUT /volumes/{name}; DELETE /volumes/{name}; POST /volumes/prune;
GET /networks; GET /networks/{id}; DELETE /networks/{id}; POST /networks/create;
POST /networks/{id}/connect; POST /networks/{id}/disconnect; POST /networks/prune; GET /plugins;
GET /plugins/privileges; POST /plugins/pull; GET /plugins/{name}/json; DELETE /plugins/{name};
POST /plugins/{name}/enable; POST /plugins/{name}/disable; POST /plugins/{name}/upgrade;
POST /plugins/create; POST /plugins/{name}/push; POST /plugins/{name}/set; GET /nodes;
GET /nodes/{id}; DELETE /nodes/{id}; POST /nodes/{id}/update; GET /swarm; POST /swarm/init;
POST /swarm/join; POST /swarm/leave; POST /swarm/update; GET /swarm/unlockkey; POST /swarm/unlock;
GET /services; POST /services/create; GET /services/{id}; DELETE /services/{id};
POST /services/{id}/update; GET /services/{id}/logs; GET /tasks; GET /tasks/{id};
GET /tasks/{id}/logs; GET /secrets; POST /secrets/create; GET /secrets/{id}; DELETE /secrets/{id};
POST /secrets/{id}/update; GET /configs; POST /configs/create; GET /configs/{id};
DELETE /configs/{id}; POST /configs/{id}/update; GET /distribution/{name}/json; POST /session
"""


def operations() -> list[tuple[str, str]]:
    return [
        (method, path)
        for method, path in (entry.split() for entry in " ".join(DOCUMENTED.split()).split("; "))
    ]


def test_the_table_holds_every_documented_operation(api: Api) -> None:
    assert len(operations()) > 100
    table = {
        (route.method, re.sub(r"\{(\w+):all\}", r"{\1}", route.pattern))
        for route in all_routes(api.services)
    }
    assert not set(operations()) - table


def test_no_two_routes_are_the_same(api: Api) -> None:
    table = [(route.method, route.pattern) for route in all_routes(api.services)]
    assert len(table) == len(set(table))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/session"),
        ("POST", "/swarm/init"),
        ("POST", "/plugins/pull"),
        ("POST", "/v1.40/swarm/join"),
    ],
)
def test_what_comes_later_is_501(api: Api, method: str, path: str) -> None:
    reply = api.ask(method, path)
    assert reply.status == 501
    assert "is not in this version of wherry" in reply.message


def _header(**fields: str) -> str:
    return f"X-Registry-Auth: {base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}\r\n"


def test_pull_and_push_pass_on_what_the_client_says(api: Api) -> None:
    registries = api.services.registries
    assert isinstance(registries, FakeRegistries)
    api.ask("POST", "/images/create?fromImage=a.b/c&tag=d&platform=linux/arm64")
    reply = api.ask("POST", "/images/a.b/c/push?tag=d", headers=_header(username="u", password="p"))
    assert b'"Size":7' in reply.body
    pulled, pushed = registries.calls
    assert pulled == ("pull", "a.b/c", "d", "linux/arm64", Credentials())
    assert pushed == ("push", "a.b/c", "d", "", Credentials("u", "p"))


def test_a_refusal_before_the_first_line_is_a_status(api: Api) -> None:
    registries = api.services.registries
    assert isinstance(registries, FakeRegistries)
    registries.broken = Unauthorized("unauthorized: authentication required")
    assert api.ask("POST", "/images/create?fromImage=a.b/c&tag=d").status == 401
    late = api.ask("POST", "/images/a.b/c/push?tag=d")
    assert (late.status, b'"errorDetail"' in late.body) == (200, True)
    body = {"username": "u", "password": "p", "serveraddress": "a.b"}
    assert api.ask("POST", "/auth", body).status == 401


def test_what_registries_answer_is_shown_as_docker_shows_it(api: Api) -> None:
    found = api.ask("GET", "/images/search?term=x&limit=3").json
    assert found == [
        {
            "star_count": 3,
            "is_official": True,
            "name": "x-1",
            "is_automated": False,
            "description": "the first",
        }
    ]
    shown = api.ask("GET", "/distribution/a/b/json").json
    assert shown["Platforms"] == [{"architecture": "arm64", "os": "linux", "variant": "v8"}]
    assert shown["Descriptor"]["size"] == 7
    login = api.ask("POST", "/auth", {"username": "u", "password": "p"}).json
    assert login == {"IdentityToken": "", "Status": "Login Succeeded"}


def test_one_network_is_found_by_name_and_by_id(api: Api) -> None:
    network = api.ask("GET", "/networks/none").json
    assert (network["Name"], network["Driver"]) == ("none", "null")
    assert api.ask("GET", f"/networks/{network['Id']}").json == network
    assert api.ask("GET", f"/networks/{network['Id'][:12]}").json == network


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nosuch", 404, "page not found"),
        ("GET", "/v1.51/nosuch", 404, "page not found"),
        ("PUT", "/containers/json", 404, "page not found"),
        ("GET", "/containers/create", 404, "page not found"),
        ("GET", "/v1.99/_ping", 400, "client version 1.99 is too new."),
        ("GET", "/containers/nosuch/json", 404, "No such container: nosuch"),
        ("GET", "/images/no/such/json", 404, "No such image: no/such:latest"),
        ("POST", "/containers/nosuch/start", 404, "No such container: nosuch"),
        ("GET", "/exec/nosuch/json", 404, "No such exec instance: nosuch"),
        ("GET", "/networks/nosuch", 404, "network nosuch not found"),
        ("DELETE", "/networks/nosuch", 404, "network nosuch not found"),
        ("DELETE", "/networks/host", 403, "host is a pre-defined network and cannot be removed"),
        ("GET", "/volumes/nosuch", 404, "get nosuch: no such volume"),
        ("DELETE", "/volumes/nosuch", 404, "get nosuch: no such volume"),
        ("GET", "/plugins/nosuch/json", 404, 'plugin "nosuch" not found'),
        ("GET", "/swarm", 503, "This node is not a swarm manager."),
        ("GET", "/nodes/nosuch", 503, "This node is not a swarm manager."),
        ("GET", "/services/nosuch", 503, "This node is not a swarm manager."),
        ("GET", "/secrets/nosuch", 503, "This node is not a swarm manager."),
        ("GET", "/configs/nosuch", 503, "This node is not a swarm manager."),
        ("GET", "/v1.40/tasks/x/logs", 503, "This node is not a swarm manager."),
        (
            "GET",
            "/containers/json?filters=%7B%22foo%22%3A%5B%22x%22%5D%7D",
            400,
            "invalid filter 'foo'",
        ),
        ("GET", "/containers/json?limit=abc", 400, "limit"),
        ("GET", "/images/json?filters=x", 400, "invalid filter"),
        ("GET", "/events?filters=%5B%5D", 400, "invalid filter"),
        ("GET", "/events?since=5&until=4", 400, "cannot be after"),
        ("GET", "/containers/x/logs", 400, "Bad parameters: you must choose at least one stream"),
        ("GET", "/containers/x/logs?stdout=1&since=yesterday", 400, "since"),
        ("GET", "/containers/x/archive", 400, "path"),
        ("POST", "/containers/x/wait?condition=foo", 400, 'invalid condition: "foo"'),
        ("POST", "/containers/x/resize?h=x&w=3", 400, 'invalid resize height "x": invalid syntax'),
        ("POST", "/containers/x/resize?h=1&w=99999", 400, "value out of range"),
        ("POST", "/containers/x/rename", 400, "Neither old nor new names may be empty"),
        ("POST", "/containers/x/stop?t=soon", 400, "t:"),
        ("GET", "/containers/x/stats?one-shot=1", 400, "cannot have stream=true and one-shot=true"),
        ("POST", "/containers/x/start?checkpoint=y", 501, "checkpoints"),
        ("POST", "/wherry/images/bootstrap", 400, "no name"),
        ("GET", "/images/get", 400, "no image was named"),
        ("GET", "/images/get?names=busybox&form=zip", 400, "unknown form"),
        ("GET", "/system/df?type=x", 400, "unknown object type: x"),
    ],
)
def test_refusals(api: Api, method: str, path: str, status: int, message: str) -> None:
    reply = api.ask(method, path)
    assert (reply.status, message in reply.message) == (status, True), reply


ENDLESS = "9" * 5000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v{ENDLESS}/info", 404),
        ("GET", f"/v1.{ENDLESS}/info", 404),
        ("POST", f"/containers/x/resize?h={ENDLESS}&w=1", 400),
        ("POST", "/containers/x/resize?h=%C2%B2&w=1", 400),
        ("GET", f"/containers/json?limit={ENDLESS}", 400),
    ],
)
def test_numbers_that_python_takes_for_none_are_refused(
    api: Api, method: str, path: str, status: int
) -> None:
    assert api.ask(method, path).status == status


def test_old_clients_get_plain_text(api: Api) -> None:
    reply = api.ask("GET", "/v1.10/info")
    assert reply.status == 400
    assert reply.headers["content-type"].startswith("text/plain")
    assert b"is too old" in reply.body


def test_options_is_answered(api: Api) -> None:
    assert api.ask("OPTIONS", "/info").status == 200


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain)"),
        (b"{}", None, "unsupported Content-Type header ()"),
        (b"", "application/json", "got EOF while reading request body"),
        (b"{} x", "application/json", "trailing characters"),
        (b"{}", "application/json; charset=utf-8", "config cannot be empty"),
    ],
)
def test_bodies_of_the_wrong_shape(api: Api, body: bytes, kind: str | None, message: str) -> None:
    headers = f"Content-Type: {kind}\r\n" if kind else ""
    reply = api.ask("POST", "/containers/create", body, headers)
    assert reply.status == 400
    assert message in reply.message


def last(api: Api, verb: str) -> tuple[Any, ...]:
    return next(call for call in reversed(api.containers.calls) if call[0] == verb)


def test_create(api: Api) -> None:
    body = {"Image": "busybox", "Cmd": "true", "HostConfig": {"Memory": 1 << 30}}
    reply = api.ask("POST", "/containers/create?name=%2Fwarned&platform=linux%2Famd64", body)
    assert reply.status == 201
    assert reply.json["Warnings"] == ["take care"]
    _, spec, name = last(api, "create")
    assert name == "/warned"
    assert spec.command == ("true",)
    assert spec.platform == "linux/amd64"
    assert spec.limits == Limits(memory=1 << 30)
    missing = api.ask("POST", "/containers/create", {"Image": "nosuch"})
    assert (missing.status, missing.message) == (404, "No such image: nosuch:latest")


def test_the_verbs_of_a_container(api: Api) -> None:
    container = api.made("sleep")
    one = f"/containers/{container}"
    assert api.ask("POST", f"{one}/start").status == 204
    assert api.ask("POST", f"{one}/start").status == 304
    assert api.ask("POST", f"{one}/kill?signal=TERM").status == 204
    assert last(api, "kill") == ("kill", container, "TERM")
    api.ask("POST", f"{one}/kill")
    assert last(api, "kill")[2] == "KILL"
    for verb in ("pause", "unpause"):
        assert api.ask("POST", f"{one}/{verb}").status == 204
    assert api.ask("POST", f"{one}/restart?t=0").status == 204
    assert last(api, "restart")[2:] == (0, "")
    assert api.ask("POST", f"{one}/resize?h=5&w=3").status == 200
    assert last(api, "resize")[2:] == (5, 3)
    assert api.ask("POST", f"{one}/rename?name=new").status == 204
    assert api.ask("POST", "/containers/new/stop?t=-1&signal=INT").status == 204
    assert last(api, "stop") == ("stop", "new", -1, "INT")
    assert api.ask("POST", f"{one}/stop").status == 304
    assert last(api, "stop")[2] is None
    assert api.ask("DELETE", f"{one}?force=1&v=true&link=0").status == 204
    assert last(api, "remove")[2:] == (True, True, False)


def test_a_start_that_fails_tells_the_client_which_exit_code(api: Api) -> None:
    api.containers.fail_start = StartFailed(
        'exec: "x": executable file not found in $PATH', exit_code=127
    )
    reply = api.ask("POST", f"/containers/{api.made()}/start")
    assert reply.status == 400
    assert "executable file not found" in reply.message


def test_update(api: Api) -> None:
    container = api.made()
    body = {"Memory": 5, "OomKillDisable": None, "RestartPolicy": {"Name": "always"}}
    reply = api.ask("POST", f"/containers/{container}/update", body)
    assert reply.json == {"Warnings": None}
    assert last(api, "update")[2:] == (Limits(memory=5), RestartPolicy("always"))
    api.ask("POST", f"/containers/{container}/update", {"RestartPolicy": {"Name": ""}})
    assert last(api, "update")[3] is None
    refused = api.ask("POST", f"/containers/{container}/update", {"Ulimits": [{"Name": "nofile"}]})
    assert refused.status == 501


@pytest.mark.parametrize(
    ("query", "everything", "limit"),
    [("", False, 0), ("?all=1", True, 0), ("?limit=3", True, 3), ("?all=0&limit=-1", False, -1)],
)
def test_list(api: Api, query: str, everything: bool, limit: int) -> None:
    api.made("sleep", Labels={"x": "y"})
    reply = api.ask("GET", f"/containers/json{query}")
    assert last(api, "list")[1:4] == (everything, limit, False)
    assert len(reply.json) == int(everything)


def test_list_filters(api: Api) -> None:
    filters = urllib.parse.quote(json.dumps({"label": {"a": True}, "status": ["exited"]}))
    api.ask("GET", f"/containers/json?size=1&filters={filters}")
    assert last(api, "list") == (
        "list", True, 0, True, {"label": ("a",), "status": ("exited",)},
    )  # fmt: skip


def test_inspect(api: Api) -> None:
    container = api.made("sleep", "1", HostConfig={"Binds": ["/tmp:/x:ro"], "NetworkMode": "none"})
    answer = api.ask("GET", f"/containers/{container[:12]}/json").json
    assert answer["Path"] == "sleep" and answer["Args"] == ["1"]
    assert answer["State"]["Status"] == "created"
    assert answer["HostConfig"]["Binds"] == ["/tmp:/x:ro"]
    assert answer["HostConfig"]["LogConfig"]["Type"] == "json-file"
    assert answer["GraphDriver"]["Data"]["LowerDir"] == "/a:/b"
    assert "SizeRw" not in answer
    assert api.ask("GET", f"/containers/{container}/json?size=1").json["SizeRootFs"] == 9
    no_command = api.ask("POST", "/containers/create", {"Image": "busybox"}).json["Id"]
    shown = api.ask("GET", f"/containers/{no_command}/json").json["Config"]
    assert (shown["Cmd"], shown["Entrypoint"]) == (["sh"], None)


def test_what_a_container_shows(api: Api) -> None:
    container = api.made()
    one = f"/containers/{container}"
    assert api.ask("GET", f"{one}/top?ps_args=-o+pid").json == {
        "Titles": ["PID", "CMD"],
        "Processes": [["1", "-o pid"]],
    }
    assert api.ask("GET", f"{one}/changes").json == [{"Path": "/new", "Kind": 1}]
    plan = api.ask("GET", f"/wherry/containers/{container}/plan")
    assert plan.headers["content-type"].startswith("text/plain")
    assert plan.body == f"clone {container}\n".encode()


def test_archives(api: Api) -> None:
    one = f"/containers/{api.made()}"
    head = api.ask("HEAD", f"{one}/archive?path=/etc/passwd")
    stat = head.headers["x-docker-container-path-stat"]
    assert json.loads(base64.b64decode(stat)) == {
        "name": "passwd",
        "size": 3,
        "mode": 420,
        "mtime": "2023-11-14T22:13:20Z",
        "linkTarget": "",
    }
    reply = api.ask("GET", f"{one}/archive?path=/etc")
    assert reply.body == b"tarball"
    assert reply.headers["content-type"] == "application/x-tar"
    assert "x-docker-container-path-stat" in reply.headers
    put = api.ask("PUT", f"{one}/archive?path=/&noOverwriteDirNonDir=true&copyUIDGID=1", b"data")
    assert put.status == 200
    assert last(api, "write_archive")[3:] == (True, True)
    assert api.containers.written == b"data"


def test_file_names_may_hold_any_byte(api: Api) -> None:
    one = f"/containers/{api.made()}"
    head = api.ask("HEAD", f"{one}/archive?path=/%ff%20+a%26b")
    stat = json.loads(base64.b64decode(head.headers["x-docker-container-path-stat"]))
    assert stat["name"] == "\ufffd  a&b"
    api.ask("PUT", f"{one}/archive?path=/%ff", b"")
    assert last(api, "write_archive")[2] == "/\udcff"
    # Where no file is named, odd bytes cannot get as far as a database.
    assert api.ask("GET", "/containers/%ff%00/json").message == "No such container: \ufffd\0"


def test_commit(api: Api) -> None:
    container = api.made()
    query = (
        f"container={container}&repo=r&tag=t&comment=c&author=a&pause=0&changes=ENV+a%3Db%0ACMD+x"
    )
    reply = api.ask("POST", f"/commit?{query}", {"Env": ["x=y"]})
    assert reply.status == 201 and reply.json == {"Id": str(DIGEST)}
    _, _, options, config = last(api, "commit")
    assert options == CommitOptions("r:t", "a", "c", False, ("ENV a=b\nCMD x",))
    assert config.env == ("x=y",)
    api.ask("POST", f"/commit?container={container}")
    assert last(api, "commit")[2:] == (CommitOptions(), None)


def test_prunes(api: Api) -> None:
    for path, answer in (
        ("/containers/prune", {"ContainersDeleted": None, "SpaceReclaimed": 0}),
        ("/images/prune", {"ImagesDeleted": None, "SpaceReclaimed": 0}),
        ("/volumes/prune", {"VolumesDeleted": ["a" * 64], "SpaceReclaimed": 7}),
        ("/networks/prune", {"NetworksDeleted": None}),
        ("/build/prune", {"CachesDeleted": None, "SpaceReclaimed": 0}),
    ):
        assert api.ask("POST", path).json == answer


def test_attach_options(api: Api) -> None:
    container = api.made()
    with api.connect() as raw:
        raw.send(
            f"POST /containers/{container}/attach?logs=1&stdout=1&detachKeys=ctrl-a HTTP/1.1\r\n\r\n".encode()
        )
        raw.head()
        raw.exactly(8)
    assert last(api, "attach")[2] == AttachOptions(
        stdout=True, logs=True, stream=False, detach_keys="ctrl-a"
    )


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("stdout=1", LogOptions(stderr=False)),
        ("stdout=1&stderr=true&tail=all", LogOptions()),
        ("stderr=1&tail=7&timestamps=1&details=1", LogOptions(False, tail=7, timestamps=True, details=True)),
        (f"stdout=1&tail={ENDLESS}", LogOptions(stderr=False)),
        ("stdout=1&tail=%C2%B2", LogOptions(stderr=False)),
        ("stdout=1&since=5.5&until=6&tail=x", LogOptions(stderr=False, since=5_500_000_000, until=6_000_000_000)),
    ],
)  # fmt: skip
def test_log_options(api: Api, query: str, options: LogOptions) -> None:
    container = api.made()
    reply = api.ask("GET", f"/containers/{container}/logs?{query}")
    assert last(api, "logs")[2] == options
    assert reply.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    assert reply.body == b"".join(api.containers.log_pieces)
    old = api.ask("GET", f"/v1.41/containers/{container}/logs?{query}")
    assert old.headers["content-type"] == "application/vnd.docker.raw-stream"


def test_stats(api: Api) -> None:
    container = api.made("sleep")
    stopped = api.ask("GET", f"/containers/{container}/stats?stream=0").json
    assert stopped["read"] == "0001-01-01T00:00:00Z" and stopped["memory_stats"] == {}
    api.ask("POST", f"/containers/{container}/start")
    shot = api.ask("GET", f"/containers/{container}/stats?stream=0&one-shot=1").json
    assert shot["cpu_stats"]["cpu_usage"] == {
        "total_usage": 5,
        "percpu_usage": [2, 3],
        "usage_in_kernelmode": 2,
        "usage_in_usermode": 3,
    }
    assert shot["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert shot["memory_stats"]["limit"] == 8 << 30
    assert shot["pids_stats"] == {"current": 2, "limit": 10}
    with api.connect() as raw:
        raw.send(f"GET /containers/{container}/stats HTTP/1.1\r\n\r\n".encode())
        raw.head()
        first, second = json.loads(raw.chunk()), json.loads(raw.chunk())
    assert first["preread"] == "0001-01-01T00:00:00Z"
    assert second["preread"] == first["read"]
    assert second["precpu_stats"]["system_cpu_usage"] == 77


def test_execs(api: Api) -> None:
    container = api.made("sleep")
    one = f"/containers/{container}/exec"
    assert api.ask("POST", one, {}).message == "No exec command specified"
    assert api.ask("POST", one, {"Cmd": ["x"], "ConsoleSize": [1, 2]}).status == 400
    body = {"Cmd": ["sh", "-c", "x"], "User": "0", "Tty": True, "AttachStdout": True}
    not_running = api.ask("POST", one, body)
    assert (not_running.status, not_running.message) == (
        409,
        f"container {container} is not running",
    )
    api.ask("POST", f"/containers/{container}/start")
    made = api.ask("POST", one, body)
    assert made.status == 201
    exec_id = made.json["Id"]
    assert api.ask("GET", f"/exec/{exec_id}/json").json == {
        "ID": exec_id,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {
            "tty": True,
            "entrypoint": "sh",
            "arguments": ["-c", "x"],
            "privileged": False,
            "user": "0",
        },
        "OpenStdin": False,
        "OpenStderr": False,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": container,
        "DetachKeys": "",
        "Pid": 7,
    }
    assert api.ask("POST", f"/exec/{exec_id}/resize?h=1&w=2").status == 200
    detached = api.ask("POST", f"/exec/{exec_id}/start", {"Detach": True, "ConsoleSize": [3, 4]})
    assert detached.status == 200
    assert last(api, "exec_start")[2:] == (True, True, (3, 4))


def test_images(api: Api) -> None:
    assert api.ask("GET", "/images/a%2Fb%2Fc/json").json["Id"] == str(DIGEST)
    assert api.ask("GET", "/images/a/b/c/json").json["Id"] == str(DIGEST)
    assert len(api.ask("GET", "/images/busybox/history").json) == 2
    assert api.ask("POST", "/images/busybox/tag?repo=r&tag=t").status == 201
    assert api.images.calls[-1] == ("tag", DIGEST, "r", "t")
    item = api.ask("GET", "/images/json?shared-size=1").json[0]
    assert (item["SharedSize"], item["Containers"]) == (0, 1)
    assert api.ask("GET", "/images/json").json[0]["SharedSize"] == -1
    api.ask("GET", "/v1.40/images/json?filter=busy*&all=1")
    assert api.images.calls[-1] == ("list", True, {"reference": ("busy*",)})
    assert api.ask("DELETE", "/images/busybox").json == [
        {"Untagged": "busybox"},
        {"Deleted": str(DIGEST)},
    ]
    arm = urllib.parse.quote('{"os":"linux","architecture":"arm64"}')
    assert api.ask("GET", f"/images/busybox/json?platform={arm}").status == 404
    amd = urllib.parse.quote('{"os":"linux","architecture":"amd64"}')
    assert api.ask("GET", f"/images/busybox/json?platform={amd}").status == 200


def test_images_in_and_out(api: Api) -> None:
    reply = api.ask("POST", "/images/load?quiet=1", b"x" * 1000)
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert lines[0] == {
        "status": "Loading layer",
        "progressDetail": {"current": 1, "total": 2},
        "id": "abc",
    }
    assert lines[-1] == {"stream": "Loaded image: busybox:latest\n"}
    imported = api.ask(
        "POST", "/images/create?fromSrc=-&repo=r&tag=t&message=m&changes=CMD+x", b"tar"
    )
    assert imported.json == {"status": str(DIGEST)}
    assert api.images.calls[-1] == ("import", "r", "t", "m", ("CMD x",), "")
    assert api.ask("POST", "/images/create?fromSrc=http://x/y.tar").status == 200
    assert api.images.calls[-2] == ("fetch", "http://x/y.tar")
    assert api.ask("GET", "/images/get?names=busybox&names=a/b/c").body == b"archive"
    assert api.images.calls[-1] == ("save", ("busybox", "a/b/c"), "docker", "")
    assert api.ask("GET", "/images/a/b/c/get?form=oci&compression=zstd").body == b"archive"
    assert api.images.calls[-1] == ("save", ("a/b/c",), "oci", "zstd")
    assert api.ask("GET", "/images/nosuch/get").status == 404
    boot = api.ask("POST", "/wherry/images/bootstrap?name=debian:bookworm&variant=minbase")
    assert boot.json == {"status": "done"}
    assert api.images.calls[-1] == ("bootstrap", "debian:bookworm", {"variant": "minbase"})


def test_errors_of_a_progress_stream(api: Api) -> None:
    api.images.broken = Invalid("broken archive")
    first = api.ask("POST", "/images/load", b"x")
    assert (first.status, first.message) == (400, "broken archive")
    assert late_error(api) == "broken archive"
    # What nobody expected ends a stream as orderly: a client waits for the end of its chunks.
    api.images.broken = OSError(errno.ENOSPC, "No space left on device", "/data/ingest/x")
    assert "no space left" in late_error(api)
    api.images.broken = ZeroDivisionError("a defect")
    assert late_error(api) == "internal error of wherry: ZeroDivisionError: a defect"


def late_error(api: Api) -> str:
    late = api.ask("POST", "/images/create?fromSrc=-", b"x")
    assert late.status == 200
    line = json.loads(late.body.splitlines()[-1])
    assert line["errorDetail"] == {"message": line["error"]}
    return str(line["error"])


def test_events(api: Api) -> None:
    reply = api.ask(
        "GET", "/events?since=1&until=2.5&filters=%7B%22type%22%3A%5B%22container%22%5D%7D"
    )
    assert reply.json == {
        "status": "start",
        "id": "abc",
        "from": "busybox",
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "abc", "Attributes": {"image": "busybox", "name": "x"}},
        "scope": "local",
        "time": 1,
        "timeNano": 1_000_000_007,
    }
    assert api.events.calls[-1] == (1_000_000_000, 2_500_000_000, {"type": ("container",)})
    api.ask("GET", "/events?since=0&until=0")
    assert api.events.calls[-1] == (1, 1, {})
    with api.connect() as raw:
        raw.send(b"GET /events HTTP/1.1\r\n\r\n")
        raw.head()
        raw.chunk()
        assert api.ask("GET", "/info").json["NEventsListener"] == 1


def test_system(api: Api) -> None:
    assert api.ask("GET", "/version").json["ApiVersion"] == "1.51"
    info = api.ask("GET", "/info").json
    assert (info["Containers"], info["NCPU"], info["NFd"] > 3) == (3, 2, True)
    usage = api.ask("GET", "/system/df").json
    assert usage["LayersSize"] == 200
    assert set(usage) == {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}
    some = api.ask("GET", "/system/df?type=volume&type=container").json
    assert {name for name in some if some[name] is not None} == {
        *("LayersSize", "Containers", "Volumes"),
    }
    assert [net["Name"] for net in api.ask("GET", "/networks").json] == ["host", "none"]
    volumes = api.ask("GET", "/volumes").json
    assert ([v["Name"] for v in volumes["Volumes"]], volumes["Warnings"]) == (
        ["data", "a" * 64],
        None,
    )
    assert usage["Volumes"][0]["UsageData"] == {"RefCount": 2, "Size": 5}


def test_platforms_that_are_asked_for(api: Api) -> None:
    half, other = ('{"os":"linux"}', '{"os":"linux","architecture":"s390x"}')
    for path in ("/images/busybox/get?", "/images/get?names=busybox&"):
        answer = api.ask("GET", f"{path}platform={urllib.parse.quote(other)}")
        assert answer.status == 404
        assert answer.json["message"].startswith("image with reference busybox was found")
    assert api.ask("DELETE", f"/images/busybox?platforms={urllib.parse.quote(other)}").status == 404
    assert api.ask("DELETE", f"/images/busybox?platforms={urllib.parse.quote(half)}").status == 400
    assert api.ask("POST", f"/images/load?platform={urllib.parse.quote(half)}", b"x").status == 400
    assert api.ask("POST", f"/images/load?platform={urllib.parse.quote(other)}", b"x").status == 200
    assert api.images.calls[-1] == ("load", False, Platform("linux", "s390x"))


def test_what_lists_count(api: Api) -> None:
    def first(version: str, query: str = "") -> tuple[int, int]:
        image = api.ask("GET", f"/{version}/images/json{query}").json[0]
        return image["Containers"], image["SharedSize"]

    assert first("v1.41", "?shared-size=1") == (-1, -1)
    assert first("v1.50", "?shared-size=1")[0] == -1
    assert first("v1.50", "?shared-size=1")[1] >= 0
    assert first("v1.51") == (1, -1)


def test_swarm_s_own_network_needs_one(api: Api) -> None:
    body = {"Name": "far", "Driver": "overlay"}
    answer = api.ask("POST", "/networks/create", body)
    assert (answer.status, "not a swarm manager" in answer.json["message"]) == (403, True)
    assert api.ask("POST", "/swarm/unlock", {"UnlockKey": "x"}).status == 503


def test_triggers_of_a_commit(api: Api) -> None:
    container = api.made("sleep", "1")
    body = {"OnBuild": ["RUN true"], "ArgsEscaped": True, "Shell": ["/x"]}
    answer = api.ask("POST", f"/commit?container={container}&changes=USER%20me", body)
    assert answer.status == 201
    options, config = api.containers.calls[-1][2:]
    assert options.changes == ("ONBUILD RUN true", "USER me")
    assert config.shell == ("/x",)


def test_a_volume_of_nobody_s_wishes(api: Api) -> None:
    assert api.ask("POST", "/volumes/create").status == 201
