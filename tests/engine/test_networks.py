"""Networks through the client and the API: the same answers, errors and effects as Docker's."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.boxes import eventually
from tests.engine.raw import Api
from tests.engine.webs import Webs
from tests.harness.clients import Client

SUBNET = "10.213.{}.0/24"


@pytest.fixture
def webs(docker: Client, busybox: str) -> Iterator[Webs]:
    """Networks and containers of one test, removed at its end."""
    with Webs(docker, busybox) as webs:
        yield webs


# What is shown


def test_the_networks_that_are_always_there(docker: Client) -> None:
    found = [
        line.split()
        for line in docker.line(
            "network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"
        ).splitlines()
    ]
    assert [line for line in found if line[0] in ("bridge", "host", "none")] == [
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]


def test_a_network_is_shown_as_it_was_made(webs: Webs, api: Api) -> None:
    flags = (
        *("--subnet", SUBNET.format(1), "--ip-range", "10.213.1.128/25"),
        *("--gateway", "10.213.1.1", "--aux-address", "printer=10.213.1.130"),
        *("--label", "a=b", "-o", "com.docker.network.bridge.enable_icc=false", "--attachable"),
        *("--internal", "--ipv6=false"),
    )
    name = webs.network(*flags)
    about = api("GET", f"/networks/{name}", version="v1.51").json()
    assert len(about.pop("Id")) == 64
    assert about.pop("Created").endswith("Z")
    assert about == {
        "Name": name,
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [
                {
                    "Subnet": "10.213.1.0/24",
                    "IPRange": "10.213.1.128/25",
                    "Gateway": "10.213.1.1",
                    "AuxiliaryAddresses": {"printer": "10.213.1.130"},
                }
            ],
        },
        "Internal": True,
        "Attachable": True,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {"com.docker.network.bridge.enable_icc": "false"},
        "Labels": {"a": "b"},
    }
    box = webs.sleeper("--network", name)
    # The first of the range, but for the address that is set aside.
    assert webs.endpoint(box, name)["IPAddress"] == "10.213.1.128"
    other = webs.sleeper("--network", name)
    third = webs.sleeper("--network", name)
    addresses = [webs.endpoint(one, name)["IPAddress"] for one in (other, third)]
    assert addresses == ["10.213.1.129", "10.213.1.131"]


def test_a_network_is_found_by_name_id_and_prefix(webs: Webs, docker: Client) -> None:
    name = webs.network()
    whole = docker.line("network", "inspect", "-f", "{{.Id}}", name)
    for ref in (whole, whole[:12], whole[:20]):
        assert docker.line("network", "inspect", "-f", "{{.Name}}", ref) == name


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (["name={name}"], True),
        (["name=^{name}$"], True),
        (["name={name}x"], False),
        (["driver=bridge"], True),
        (["driver=host"], False),
        (["label=color"], True),
        (["label=color=red"], True),
        (["label=color=blue"], False),
        (["type=custom"], True),
        (["type=builtin"], False),
        (["scope=local"], True),
        (["scope=swarm"], False),
        (["dangling=true"], True),
        (["dangling=false"], False),
        (["id={id}"], True),
        (["driver=bridge", "label=nope"], False),
    ],
)
def test_filters(
    module_webs: Webs, labelled: tuple[str, str], filters: list[str], shown: bool
) -> None:
    name, identifier = labelled
    flags = [
        w for text in filters for w in ("--filter", text.format(name=name, id=identifier[:16]))
    ]
    found = module_webs.docker.line("network", "ls", "-q", "--no-trunc", *flags).split()
    assert (identifier in found) is shown


@pytest.fixture(scope="module")
def module_webs(docker: Client, busybox: str) -> Iterator[Webs]:
    """Networks that several tests share."""
    with Webs(docker, busybox) as webs:
        yield webs


@pytest.fixture(scope="module")
def labelled(module_webs: Webs) -> tuple[str, str]:
    """A network with a label that nothing is in: name and id."""
    name = module_webs.network("--label", "color=red")
    return name, module_webs.about(name)["Id"]


# What is refused


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"Name": ""}, 400, "invalid name: name is empty"),
        ({"Name": "host"}, 403, "operation is not permitted on predefined host network "),
        ({"Name": "x", "Driver": "nope"}, 404, 'plugin "nope" not found'),
        ({"Name": "x", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        ({"Name": "x", "Driver": "null"}, 403, 'only one instance of "null" network is allowed'),
        (
            {"Name": "x", "Scope": "swarm"},
            403,
            "cannot create a swarm scoped network when swarm is not active",
        ),
        ({"Name": "x", "IPAM": {"Driver": "nope"}}, 404, 'plugin "nope" not found'),
        ({"Name": "x", "EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
        ({"Name": "x", "Ingress": True}, 403, "Ingress network can only be global scope network"),
        (
            {"Name": "x", "ConfigFrom": {"Network": "nope"}},
            404,
            'configuration network "nope" does not exist',
        ),
        (
            {"Name": "x", "Options": {"com.docker.network.driver.mtu": "zz"}},
            400,
            "failed to parse com.docker.network.driver.mtu value: zz",
        ),
        (
            {"Name": "x", "Options": {"com.docker.network.bridge.enable_icc": "zz"}},
            400,
            "failed to parse com.docker.network.bridge.enable_icc value: zz",
        ),
        (
            {"Name": "x", "Options": {"com.docker.network.bridge.gateway_mode_ipv4": "zz"}},
            400,
            "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: zz",
        ),
        (
            {"Name": "x", "Options": {"com.docker.network.bridge.host_binding_ipv4": "zz"}},
            400,
            "failed to parse com.docker.network.bridge.host_binding_ipv4 value: zz",
        ),
        (
            {
                "Name": "x",
                "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "10.9.1.0/24"}]},
            },
            403,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            {"Name": "x", "Driver": "macvlan", "Options": {"parent": "lo"}},
            400,
            "loopback interface is not a valid macvlan parent link",
        ),
        (
            {"Name": "x", "Driver": "ipvlan", "Options": {"ipvlan_flag": "zz"}},
            400,
            "requested ipvlan flag 'zz' is not valid, 'bridge' is the ipvlan driver default",
        ),
    ],
)
def test_create_refuses(api: Api, body: Any, status: int, message: str) -> None:
    answer = api("POST", "/networks/create", body, version="v1.51")
    assert answer.status == status, answer.body
    assert message in answer.message


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ({"Subnet": "10.9.0.0/33"}, "invalid subnet 10.9.0.0/33: invalid CIDR block notation"),
        ({"Subnet": "10.9.0.5/24"}, "invalid subnet 10.9.0.5/24: it should be 10.9.0.0/24"),
        ({"Gateway": "10.9.0.1"}, "invalid subnet : invalid CIDR block notation"),
        (
            {"Subnet": "10.9.0.0/24", "Gateway": "10.10.0.1"},
            "invalid gateway 10.10.0.1: parent subnet 10.9.0.0/24 doesn't contain this address",
        ),
        ({"Subnet": "10.9.0.0/24", "Gateway": "zz"}, "invalid gateway zz: invalid address"),
        (
            {"Subnet": "10.9.0.0/24", "IPRange": "10.10.0.0/25"},
            "invalid ip-range 10.10.0.0/25: parent subnet 10.9.0.0/24 doesn't contain ip-range",
        ),
        (
            {"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"a": "10.99.0.3"}},
            "invalid auxiliary address a: parent subnet 10.9.0.0/24 doesn't contain this address",
        ),
    ],
)
def test_subnets_are_checked(api: Api, pool: Any, message: str) -> None:
    answer = api("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [pool]}})
    assert answer.status == 400
    assert answer.message == f"invalid network config:\n{message}"


def test_overlap_is_refused(webs: Webs, api: Api) -> None:
    webs.network("--subnet", SUBNET.format(2))
    pools = [{"Subnet": "10.213.2.128/25"}]
    answer = api("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": pools}})
    assert answer.status == 403
    assert "overlap" in answer.message


def test_a_name_is_given_once(webs: Webs, api: Api) -> None:
    name = webs.network()
    for body in ({"Name": name}, {"Name": name, "CheckDuplicate": True}):
        answer = api("POST", "/networks/create", body)
        assert (answer.status, answer.message) == (
            409,
            f"network with name {name} already exists",
        )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/networks/nope", None, 404, "network nope not found"),
        ("DELETE", "/networks/nope", None, 404, "network nope not found"),
        (
            "DELETE",
            "/networks/bridge",
            None,
            403,
            "bridge is a pre-defined network and cannot be removed",
        ),
        ("POST", "/networks/bridge/connect", {"Container": "nope"}, 404, "No such container: nope"),
        ("POST", "/networks/nope/connect", {"Container": "nope"}, 404, "No such container: nope"),
        ("POST", "/networks/nope/connect", {}, 400, 'invalid name or ID supplied: ""'),
        (
            "POST",
            "/networks/bridge/disconnect",
            {"Container": "nope"},
            404,
            "No such container: nope",
        ),
        (
            "POST",
            "/networks/bridge/disconnect",
            {"Container": "nope", "Force": True},
            404,
            "endpoint nope not found",
        ),
    ],
)
def test_refusals(api: Api, method: str, path: str, body: Any, status: int, message: str) -> None:
    answer = api(method, path, body)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize(
    ("path", "filters", "message"),
    [
        ("/networks", '{"bad":["x"]}', "invalid filter 'bad'"),
        ("/networks", '{"dangling":["zz"]}', "invalid value for filter 'dangling'"),
        ("/networks/prune", '{"bad":["x"]}', "invalid filter 'bad'"),
        ("/networks/prune", '{"until":["zz"]}', "failed to parse value as time or duration"),
    ],
)
def test_filters_are_checked(api: Api, path: str, filters: str, message: str) -> None:
    answer = api("POST" if path.endswith("prune") else "GET", path, filters=filters)
    assert answer.status == 400
    assert message in answer.message


def test_a_network_in_use_stays(webs: Webs, api: Api) -> None:
    name = webs.network()
    box = webs.sleeper("--network", name)
    answer = api("DELETE", f"/networks/{name}")
    assert answer.status == 403
    wanted = f'error while removing network: network {name} has active endpoints (name:"{box}"'
    assert wanted in answer.message
    webs.docker("stop", "-t", "1", box)
    # A container that does not run is no hindrance, and cannot be started afterwards.
    webs.docker("network", "rm", name)
    done = webs.docker("start", box, check=False)
    assert done.returncode == 1
    assert "failed to set up container networking: network " in done.stderr
    assert "not found" in done.stderr


def test_prune_takes_what_nothing_runs_in(webs: Webs, docker: Client) -> None:
    used = webs.network("--label", "wt-prune")
    unused = webs.network("--label", "wt-prune")
    other = webs.network()
    webs.sleeper("--network", used)
    done = docker("network", "prune", "-f", "--filter", "label=wt-prune")
    assert done.stdout.split("\n") == ["Deleted Networks:", unused, "", ""]
    left = docker.line("network", "ls", "--format", "{{.Name}}").split()
    assert used in left
    assert other in left


# A container in a network


def test_where_aliases_are_shown(webs: Webs, api: Api) -> None:
    network = webs.network()
    box = webs.sleeper("--network", network, "--network-alias", "db", "--hostname", "hosty")

    def shown(path: str, version: str, **query: Any) -> Any:
        answer = api("GET", path, version=version, **query).json()
        about = answer[0] if isinstance(answer, list) else answer
        return about["NetworkSettings"]["Networks"][network]["Aliases"]

    # Twice each: an answer is kept for the next who asks.
    for _ in range(2):
        short = api("GET", f"/containers/{box}/json").json()["Id"][:12]
        assert shown(f"/containers/{box}/json", "v1.45") == ["db"]
        assert shown(f"/containers/{box}/json", "v1.44") == ["db", short, "hosty"]
    only = json.dumps({"name": [box]})
    assert shown("/containers/json", "v1.51", filters=only) is None


def test_an_endpoint_is_shown(webs: Webs, docker: Client) -> None:
    network = webs.network("--subnet", SUBNET.format(4), "--ipv6=false")
    box = webs.sleeper("--network", network, "--network-alias", "db", "--hostname", "hosty")
    identifier = docker.line("inspect", "-f", "{{.Id}}", box)
    endpoint = webs.endpoint(box, network)
    about = webs.about(network)
    mac = webs.exec(box, "cat /sys/class/net/eth0/address").strip()
    key = endpoint.pop("EndpointID")
    assert len(key) == 64
    assert endpoint == {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": ["db"],
        "MacAddress": mac,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": about["Id"],
        "Gateway": "10.213.4.1",
        "IPAddress": "10.213.4.2",
        "IPPrefixLen": 24,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": [box, "db", identifier[:12], "hosty"],
    }
    assert about["Containers"] == {
        identifier: {
            "Name": box,
            "EndpointID": key,
            "MacAddress": mac,
            "IPv4Address": "10.213.4.2/24",
            "IPv6Address": "",
        }
    }
    settings = webs.settings(box)
    assert settings["IPAddress"] == settings["EndpointID"] == settings["MacAddress"] == ""
    assert len(settings["SandboxID"]) == 64
    assert settings["SandboxKey"]
    assert webs.exec(box, "grep hosty /etc/hosts").split() == ["10.213.4.2", "hosty"]
    docker("stop", "-t", "1", box)
    stopped = webs.endpoint(box, network)
    assert (stopped["IPAddress"], stopped["EndpointID"], stopped["MacAddress"]) == ("", "", "")
    assert stopped["NetworkID"] == about["Id"]
    assert webs.about(network)["Containers"] == {}
    assert webs.settings(box)["SandboxID"] == ""


def test_the_default_bridge(webs: Webs, docker: Client) -> None:
    box = webs.sleeper()
    settings = webs.settings(box)
    endpoint = settings["Networks"]["bridge"]
    for field in ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "EndpointID"):
        assert settings[field] == endpoint[field]
        assert settings[field]
    assert endpoint["DNSNames"] is None
    assert docker.line("inspect", "-f", "{{.HostConfig.NetworkMode}}", box) == "bridge"
    assert f"default via {endpoint['Gateway']} dev eth0" in webs.routes(box)
    assert "127.0.0.11" not in webs.exec(box, "cat /etc/resolv.conf")
    assert docker.line("ps", "--filter", f"name={box}", "--format", "{{.Networks}}") == "bridge"


@pytest.mark.parametrize("mode", ["none", "host"])
def test_modes_without_an_address(webs: Webs, mode: str) -> None:
    box = webs.sleeper("--network", mode)
    settings = webs.settings(box)
    assert list(settings["Networks"]) == [mode]
    endpoint = settings["Networks"][mode]
    assert (endpoint["IPAddress"], endpoint["Gateway"], len(endpoint["EndpointID"])) == ("", "", 64)
    assert settings["Ports"] == {}
    assert box in json.dumps(webs.about(mode)["Containers"])


@pytest.mark.parametrize("modes", [("none", "bridge"), ("bridge", "none"), ("bridge", "host")])
def test_networks_that_do_not_go_together(
    webs: Webs, docker: Client, busybox: str, modes: tuple[str, str]
) -> None:
    words = ["run", "--rm", *(f"--network={mode}" for mode in modes), busybox, "true"]
    done = docker(*words, check=False)
    assert done.returncode == 125
    message = "created in host network mode" if "host" in modes else "in private (none) mode"
    assert message in done.stderr


def test_another_container_s_network(webs: Webs, docker: Client) -> None:
    owner = webs.sleeper("--network", webs.network())
    box = webs.sleeper("--network", f"container:{owner}")
    identifier = docker.line("inspect", "-f", "{{.Id}}", owner)
    mode = docker.line("inspect", "-f", "{{.HostConfig.NetworkMode}}", box)
    assert mode == f"container:{identifier}"
    assert webs.settings(box)["Networks"] == {}
    assert webs.exec(box, "cat /etc/hosts") == webs.exec(owner, "cat /etc/hosts")
    assert webs.exec(box, "ip addr") == webs.exec(owner, "ip addr")
    done = docker("network", "connect", webs.network(), box, check=False)
    assert "cannot be connected to any other network" in done.stderr


def test_another_s_network_that_cannot_be(webs: Webs, docker: Client) -> None:
    refused = docker("create", "--network", "container:", webs.image, check=False)
    assert "invalid network mode: invalid container format container:<name|id>" in refused.stderr
    flags = ("--network", "container:wt-nobody")
    refused = docker("create", *flags, "--ip", "10.9.9.9", webs.image, check=False)
    assert "invalid config for network container:wt-nobody: invalid endpoint" in refused.stderr
    assert "IP address is supported on user defined networks only" in refused.stderr
    done = docker("run", "--rm", *flags, webs.image, "true", check=False)
    assert "joining network namespace of container: No such container: wt-nobody" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-p", "80:80"], "port publishing and the container type network mode"),
        (["--expose", "80"], "port exposing and the container type network mode"),
        (["--link", "x"], "container type network can't be used with links"),
        (["--hostname", "x"], "hostname and the network mode"),
        (["--dns", "1.2.3.4"], "dns and the network mode"),
        (["--add-host", "a:1.2.3.4"], "custom host-to-IP mapping and the network mode"),
    ],
)
def test_contradictions_with_a_shared_network(
    docker: Client, busybox: str, flags: list[str], message: str
) -> None:
    done = docker("run", "--rm", "--network", "container:x", *flags, busybox, "true", check=False)
    assert done.returncode == 125
    assert f"conflicting options: {message}" in done.stderr


def test_wishes_for_an_address(webs: Webs) -> None:
    network = webs.network("--subnet", SUBNET.format(5), "--ipv6=false")
    box = webs.sleeper(
        *("--network", network, "--ip", "10.213.5.77", "--mac-address", "02:00:00:00:00:0a"),
        *("--link-local-ip", "169.254.9.9"),
    )
    endpoint = webs.endpoint(box, network)
    assert endpoint["IPAddress"] == "10.213.5.77"
    assert endpoint["MacAddress"] == "02:00:00:00:00:0a"
    assert endpoint["IPAMConfig"] == {
        "IPv4Address": "10.213.5.77",
        "LinkLocalIPs": ["169.254.9.9"],
    }
    inside = webs.exec(box, "ip addr show eth0")
    for text in ("10.213.5.77/24", "02:00:00:00:00:0a", "169.254.9.9/16"):
        assert text in inside
    taken = webs.docker(
        "run", "--rm", "--network", network, "--ip", "10.213.5.77", webs.image, "true", check=False
    )
    assert taken.returncode == 125
    assert "ddress already in use" in taken.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--ip", "10.214.0.1"],
            "no configured subnet or ip-range contain the IP address 10.214.0.1",
        ),
        (["--ip", "10.213.6.300"], "invalid IPv4 address: 10.213.6.300"),
        (
            ["--ip6", "2001:db8::5"],
            "user specified IP address is supported only when connecting to networks with user "
            "configured subnets",
        ),
        (["--link-local-ip", "10.213.6.9"], "invalid link-local IP address: 10.213.6.9"),
    ],
)
def test_addresses_that_cannot_be(webs: Webs, flags: list[str], message: str) -> None:
    network = webs.network("--subnet", SUBNET.format(6), "--ipv6=false")
    done = webs.docker("create", "--network", network, *flags, webs.image, check=False)
    assert f"invalid config for network {network}: invalid endpoint settings:" in done.stderr
    assert message in done.stderr


def test_wishes_that_need_a_network_of_one_s_own(webs: Webs) -> None:
    done = webs.docker("create", "--ip", "172.17.0.99", webs.image, check=False)
    assert "user specified IP address is supported on user defined networks only" in done.stderr
    done = webs.docker("run", "--rm", "--network", "wt-nope", webs.image, "true", check=False)
    assert done.returncode == 125
    assert "failed to set up container networking: network wt-nope not found" in done.stderr


def test_names_of_interfaces(webs: Webs) -> None:
    option = "driver-opt=com.docker.network.endpoint.ifname=left0"
    sysctl = "driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
    first = webs.network()
    prefixed = webs.network("-o", "com.docker.network.container_iface_prefix=lan")
    box = webs.sleeper("--network", f"name={first},{option},{sysctl}", "--network", prefixed)
    assert webs.links(box) == ["lan0", "left0"]
    assert webs.exec(box, "cat /proc/sys/net/ipv4/conf/left0/log_martians").strip() == "1"


# Several networks, while it runs


def test_the_way_out_follows_priority_then_name(webs: Webs) -> None:
    b, a = webs.network(prefix="b"), webs.network(prefix="a")
    gateways = {name: webs.about(name)["IPAM"]["Config"][0]["Gateway"] for name in (a, b)}
    box = webs.sleeper("--network", b, "--network", a)
    # Which of them is eth0 is chance with Docker.
    assert f"default via {gateways[a]} dev" in "\n".join(webs.routes(box))
    other = webs.sleeper("--network", f"name={b},gw-priority=1", "--network", a)
    assert f"default via {gateways[b]} dev eth0" in webs.routes(other)


def test_of_equals_the_way_out_is_where_both_families_go(webs: Webs) -> None:
    one = webs.network("--ipv6=false", prefix="a")
    both = webs.network("--ipv6", prefix="b")
    pools = [pool["Gateway"] for pool in webs.about(both)["IPAM"]["Config"]]
    gateway = next(text for text in pools if "." in text)
    box = webs.sleeper("--network", one, "--network", both)
    assert f"default via {gateway} dev" in "\n".join(webs.routes(box))


def test_ipv6_that_is_off_stays_off_whatever_the_subnets(webs: Webs) -> None:
    network = webs.network("--ipv6=false", "--subnet", "fd00:213:99::/64")
    assert webs.about(network)["EnableIPv6"] is False
    box = webs.sleeper("--network", network)
    assert webs.endpoint(box, network)["GlobalIPv6Address"] == ""
    assert webs.endpoint(box, network)["IPAddress"]


def test_connect_and_disconnect(webs: Webs, docker: Client) -> None:
    b, a = webs.network(prefix="b"), webs.network(prefix="a")
    gateways = {name: webs.about(name)["IPAM"]["Config"][0]["Gateway"] for name in (a, b)}
    box = webs.sleeper("--network", b)
    server = webs.server(80, "--network", a)
    assert webs.fetch(box, f"http://{webs.endpoint(server, a)['IPAddress']}/") == ""
    docker("network", "connect", "--alias", "joined", a, box)
    assert webs.links(box) == ["eth0", "eth1"]
    assert f"default via {gateways[a]} dev eth1" in webs.routes(box)
    assert webs.fetch(box, f"http://{server}/") == "hello"
    endpoint = webs.endpoint(box, a)
    assert endpoint["Aliases"] == ["joined"]
    assert endpoint["IPAddress"] in webs.exec(box, "cat /etc/hosts")
    again = docker("network", "connect", a, box, check=False)
    assert f"endpoint with name {box} already exists in network {a}" in again.stderr
    docker("network", "disconnect", a, box)
    webs.wait_links(box, ["eth0"])
    assert f"default via {gateways[b]} dev eth0" in webs.routes(box)
    assert endpoint["IPAddress"] not in webs.exec(box, "cat /etc/hosts")
    assert webs.fetch(box, f"http://{server}/") == ""
    gone = docker("network", "disconnect", a, box, check=False)
    assert "is not connected to network" in gone.stderr
    docker("network", "disconnect", b, box)
    assert webs.settings(box)["Networks"] == {}
    webs.wait_links(box, [])
    # It is in no network after the next start either, and can be in one again.
    docker("restart", "-t", "1", box)
    assert webs.settings(box)["Networks"] == {}
    docker("network", "connect", a, box)
    assert webs.fetch(box, f"http://{server}/") == "hello"


def test_connect_brings_names_to_the_default_bridge(webs: Webs, docker: Client) -> None:
    network = webs.network()
    server = webs.server(80, "--network", network)
    box = webs.sleeper()
    docker("network", "connect", network, box)
    assert "nameserver 127.0.0.11" in webs.exec(box, "cat /etc/resolv.conf")
    assert webs.fetch(box, f"http://{server}/") == "hello"
    # It asks there still when it has left, and is told nothing of its neighbours of before.
    docker("network", "disconnect", network, box)
    asked = f"nslookup -type=a {server} 127.0.0.11"
    assert "Address: " not in webs.exec(box, asked, check=False)
    webs.exec(box, "echo '# mine' >> /etc/resolv.conf")
    docker("network", "connect", network, box)
    address = webs.endpoint(server, network)["IPAddress"]
    assert address in webs.exec(box, asked)
    assert "# mine" in webs.exec(box, "cat /etc/resolv.conf")


def test_connect_while_it_does_not_run(webs: Webs, docker: Client) -> None:
    first, second = webs.network(), webs.network("--subnet", SUBNET.format(7))
    box = webs.create("--network", first, webs.image, "sleep", "60")
    docker("network", "connect", "--ip", "10.213.7.9", second, box)
    assert webs.endpoint(box, second)["IPAMConfig"] == {"IPv4Address": "10.213.7.9"}
    docker("network", "disconnect", first, box)
    docker("start", box)
    assert list(webs.settings(box)["Networks"]) == [second]
    assert webs.endpoint(box, second)["IPAddress"] == "10.213.7.9"
    assert webs.links(box) == ["eth0"]


def test_what_cannot_be_connected(webs: Webs, docker: Client) -> None:
    network = webs.network()
    box = webs.sleeper("--network", network)
    for words, message in (
        (("connect", "host", box), "container must be created in host network mode"),
        (("connect", "none", box), "one of the networks in private (none) mode"),
        (("connect", "--ip", "10.1.2.3", "bridge", box), "user defined networks only"),
        (("connect", "--alias", "x", "bridge", box), "network-scoped alias is supported only"),
    ):
        done = docker("network", *words, check=False)
        assert done.returncode == 1
        assert message in done.stderr
    hosted = webs.sleeper("--network", "host")
    done = docker("network", "disconnect", "host", hosted, check=False)
    assert "cannot disconnect container from host network" in done.stderr


def test_rename_renames_in_networks(webs: Webs, docker: Client) -> None:
    network = webs.network()
    server = webs.server(80, "--network", network)
    box = webs.sleeper("--network", network)
    renamed = webs.name()
    docker("rename", server, renamed)
    assert renamed in webs.endpoint(renamed, network)["DNSNames"]
    assert webs.fetch(box, f"http://{renamed}/") == "hello"
    assert webs.fetch(box, f"http://{server}/") == ""


def test_networks_keep_apart(webs: Webs) -> None:
    first, second = webs.network(), webs.network()
    inner = webs.network("--internal")
    server = webs.server(80, "--network", first)
    address = webs.endpoint(server, first)["IPAddress"]
    assert webs.fetch(webs.sleeper("--network", first), f"http://{address}/") == "hello"
    assert webs.fetch(webs.sleeper("--network", second), f"http://{address}/") == ""
    closed = webs.sleeper("--network", inner)
    assert not [route for route in webs.routes(closed) if route.startswith("default")]
    deaf = webs.network("-o", "com.docker.network.bridge.enable_icc=false")
    mute = webs.server(80, "--network", deaf)
    neighbour = webs.sleeper("--network", deaf)
    assert webs.fetch(neighbour, f"http://{webs.endpoint(mute, deaf)['IPAddress']}/") == ""


# Links of old, files, events


def test_legacy_links(webs: Webs, docker: Client) -> None:
    server = webs.server(80, "--expose", "80", "-e", "COLOR=red")
    address = webs.settings(server)["IPAddress"]
    box = webs.sleeper("--link", f"{server}:db")
    assert docker.line("inspect", "-f", "{{json .HostConfig.Links}}", box) == (
        f'["/{server}:/{box}/db"]'
    )
    short = docker.line("inspect", "-f", "{{.Id}}", server)[:12]
    line = next(x for x in webs.exec(box, "cat /etc/hosts").splitlines() if "db" in x.split())
    assert line.split() == [address, "db", short, server]
    env: dict[str, str] = {}
    for entry in webs.exec(box, "cat /proc/1/environ | tr '\\0' '\\n'").splitlines():
        key, _, value = entry.partition("=")
        env[key] = value
    assert env["DB_PORT"] == f"tcp://{address}:80"
    assert env["DB_PORT_80_TCP_ADDR"] == address
    assert env["DB_NAME"] == f"/{box}/db"
    assert env["DB_ENV_COLOR"] == "red"
    assert webs.fetch(box, "http://db/") == "hello"
    assert docker.line("inspect", "-f", "{{.Name}}", f"{box}/db") == f"/{server}"
    docker("rm", "--link", f"{box}/db")
    assert docker("inspect", f"{box}/db", check=False).returncode == 1
    elsewhere = webs.sleeper("--network", webs.network())
    done = docker("run", "--rm", "--link", f"{elsewhere}:x", webs.image, "true", check=False)
    assert re.search(r"container \w{64} not attached to default bridge network", done.stderr)
    docker("stop", "-t", "1", server)
    done = docker("run", "--rm", "--link", f"{server}:x", webs.image, "true", check=False)
    assert f"Cannot link to a non running container: /{server} AS" in done.stderr
    done = docker("create", "--link", "nope:x", webs.image, check=False)
    assert "could not get container for nope: No such container: nope" in done.stderr


def test_files_inside(webs: Webs) -> None:
    network = webs.network("--ipv6=false")
    gateway = webs.about("bridge")["IPAM"]["Config"][0]["Gateway"]
    box = webs.sleeper(
        *("--network", network, "--add-host", "gate:host-gateway", "--add-host", "six:::1"),
        *("--dns", "1.2.3.4", "--dns-search", "foo", "--dns-option", "ndots:3"),
        *("--hostname", "hh", "--domainname", "dd.ee"),
    )
    hosts = [line.split() for line in webs.exec(box, "cat /etc/hosts").splitlines()]
    assert hosts[-3:] == [
        [gateway, "gate"],
        ["::1", "six"],
        [webs.endpoint(box, network)["IPAddress"], "hh.dd.ee", "hh"],
    ]
    resolv = webs.exec(box, "grep -v '^#' /etc/resolv.conf").split("\n")
    assert [line for line in resolv if line] == [
        "nameserver 127.0.0.11",
        "search foo",
        "options ndots:3",
    ]
    plain = webs.sleeper("--dns", "1.2.3.4", "--dns-search", "foo", "--dns-option", "ndots:3")
    resolv = webs.exec(plain, "grep -v '^#' /etc/resolv.conf").split("\n")
    assert [line for line in resolv if line] == [
        "nameserver 1.2.3.4",
        "search foo",
        "options ndots:3",
    ]


def test_events(webs: Webs, docker: Client) -> None:
    since = str(time.time())
    network = webs.network()
    key = webs.about(network)["Id"]
    box = webs.sleeper("--network", network)
    docker("rm", "-f", box)
    docker("network", "rm", network)
    flags = ("--since", since, "--until", str(time.time()), "--filter", f"network={key}")
    found = [
        json.loads(line)
        for line in docker.line("events", *flags, "--format", "{{json .}}").splitlines()
    ]
    assert [event["Action"] for event in found] == ["create", "connect", "disconnect", "destroy"]
    assert found[0]["Actor"]["Attributes"] == {"name": network, "type": "bridge"}
    assert set(found[1]["Actor"]["Attributes"]) == {"container", "name", "type"}


# Published ports


def free_port(webs: Webs) -> str:
    """Return a port of the engine's host that was free a moment ago."""
    box = webs.sleeper("-p", "9999")
    port: str = webs.settings(box)["Ports"]["9999/tcp"][0]["HostPort"]
    webs.docker("rm", "-f", box)
    return port


def test_published_ports_are_shown(webs: Webs, docker: Client) -> None:
    first, second, third = (free_port(webs) for _ in range(3))
    network = webs.network("--ipv6=false")
    box = webs.sleeper(
        *("--network", network, "-p", f"{first}:80", "-p", f"127.0.0.1:{second}:81/udp"),
        *("--expose", "90", "-p", f"127.0.0.1:{third}:80"),
    )
    ports = webs.settings(box)["Ports"]
    assert {name: sorted(map(json.dumps, some or [])) for name, some in ports.items()} == {
        "80/tcp": sorted(
            json.dumps({"HostIp": address, "HostPort": port})
            for address, port in (("0.0.0.0", first), ("::", first), ("127.0.0.1", third))
        ),
        "81/udp": [json.dumps({"HostIp": "127.0.0.1", "HostPort": second})],
        "90/tcp": [],
    }
    assert ports["90/tcp"] is None
    assert sorted(docker.line("port", box).splitlines()) == sorted(
        [
            f"80/tcp -> 0.0.0.0:{first}",
            f"80/tcp -> [::]:{first}",
            f"80/tcp -> 127.0.0.1:{third}",
            f"81/udp -> 127.0.0.1:{second}",
        ]
    )
    assert docker.line("port", box, "81/udp") == f"127.0.0.1:{second}"
    assert "No public port '82" in docker("port", box, "82", check=False).stderr
    shown = docker.line("ps", "--filter", f"name={box}", "--format", "{{.Ports}}").split(", ")
    assert "90/tcp" in shown
    assert f"[::]:{first}->80/tcp" in shown
    for wanted, there in (
        (f"publish={first}", True),
        (f"publish={second}/udp", True),
        ("expose=90", True),
        ("publish=80", False),
    ):
        found = docker.line("ps", "-q", "--filter", f"name={box}", "--filter", wanted)
        assert bool(found) is there, wanted
    docker("stop", "-t", "1", box)
    assert webs.settings(box)["Ports"] == {}
    assert docker.line("ps", "-a", "--filter", f"name={box}", "--format", "{{.Ports}}") == ""


def test_all_exposed_ports(webs: Webs) -> None:
    box = webs.sleeper("-P", "--expose", "7000-7002", "--expose", "7003/udp")
    ports = webs.settings(box)["Ports"]
    assert set(ports) == {"7000/tcp", "7001/tcp", "7002/tcp", "7003/udp"}
    numbers = [int(some[0]["HostPort"]) for some in ports.values()]
    assert len(set(numbers)) == 4
    assert all(number >= 32768 for number in numbers)
    for some in ports.values():
        assert {one["HostPort"] for one in some} == {some[0]["HostPort"]}


def test_a_range_of_host_ports(webs: Webs) -> None:
    base = int(free_port(webs))
    boxes = [webs.sleeper("-p", f"{base}-{base + 1}:80") for _ in range(2)]
    found = {webs.settings(box)["Ports"]["80/tcp"][0]["HostPort"] for box in boxes}
    assert found == {str(base), str(base + 1)}
    done = webs.docker(
        "run", "--rm", "-p", f"{base}-{base + 1}:80", webs.image, "true", check=False
    )
    assert done.returncode == 125


def test_published_ports_reach_and_are_released(webs: Webs, docker: Client) -> None:
    port = free_port(webs)
    network, other = webs.network(), webs.network()
    server = webs.server(80, "--network", network, "-p", f"{port}:80")
    gateway = webs.about(network)["IPAM"]["Config"][0]["Gateway"]
    neighbour = webs.sleeper("--network", network)
    # By the host's address: from the outside, from a neighbour, from itself.
    for box in (neighbour, server):
        assert webs.fetch(box, f"http://{gateway}:{port}/") == "hello"
    far = webs.sleeper("--network", other)
    outer = webs.about(other)["IPAM"]["Config"][0]["Gateway"]
    assert webs.fetch(far, f"http://{outer}:{port}/") == "hello"
    taken = docker("run", "--rm", "-p", f"{port}:80", webs.image, "true", check=False)
    assert taken.returncode == 125
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in taken.stderr
    docker("restart", "-t", "1", server)
    eventually(lambda: webs.fetch(neighbour, f"http://{gateway}:{port}/") == "hello")
    docker("rm", "-f", server)
    again = webs.server(80, "-p", f"{port}:80")
    assert webs.settings(again)["Ports"]["80/tcp"][0]["HostPort"] == port


def test_a_port_that_is_taken_leaves_the_container_created(webs: Webs, docker: Client) -> None:
    port = free_port(webs)
    webs.sleeper("-p", f"{port}:80")
    name = webs.name()
    done = docker("run", "--name", name, "-p", f"{port}:80", webs.image, "true", check=False)
    assert done.returncode == 125
    state = json.loads(docker.line("inspect", "-f", "{{json .State}}", name))
    assert (state["Status"], state["ExitCode"]) == ("created", 128)
    assert "port is already allocated" in state["Error"]
    assert webs.endpoint(name, "bridge")["IPAddress"] == ""


@pytest.mark.parametrize("mode", ["none", "host"])
def test_publishing_nothing(docker: Client, busybox: str, mode: str) -> None:
    done = docker("run", "--rm", "--network", mode, "-p", "80:80", busybox, "true")
    discarded = "WARNING: Published ports are discarded when using host network mode"
    assert (discarded in done.stderr) is (mode == "host")


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        ({"80/tcp": [{"HostPort": "99999"}]}, 'invalid port specification: "99999"'),
        ({"80-81/tcp": [{"HostPort": "99"}]}, 'invalid port specification: "80-81"'),
        ({"abc/tcp": [{"HostPort": "99"}]}, 'invalid port specification: "abc"'),
    ],
)
def test_ports_that_are_none(api: Api, busybox: str, bindings: Any, message: str) -> None:
    body = {"Image": busybox, "HostConfig": {"PortBindings": bindings}}
    answer = api("POST", "/containers/create", body)
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize("mode", ["", "bridge", "none"])
def test_who_names_networks_gets_these_alone(webs: Webs, api: Api, mode: str) -> None:
    one, two = webs.network(), webs.network()
    whole = webs.about(two)["Id"]
    body = {
        "Image": webs.image,
        "Cmd": ["sleep", "60"],
        "HostConfig": {"NetworkMode": mode},
        "NetworkingConfig": {"EndpointsConfig": {one: {}, whole: {"Aliases": ["me"]}}},
    }
    name = webs.name()
    assert api("POST", "/containers/create", body, name=name).status == 201
    assert api("POST", f"/containers/{name}/start").status == 204
    shown = api("GET", f"/containers/{name}/json").json()
    assert set(shown["NetworkSettings"]["Networks"]) == {one, two}
    assert shown["HostConfig"]["NetworkMode"] == (mode or "bridge")


def test_stats_count_what_goes_through_each_interface(webs: Webs, api: Api) -> None:
    box = webs.sleeper("--network", webs.network("--subnet", "10.213.9.0/28"))
    friend = webs.sleeper("--network", f"container:{box}")
    webs.docker("network", "connect", webs.network(), box)

    def links(name: str) -> dict[str, dict[str, int]] | None:
        path = f"/containers/{name}/stats"
        return (
            api("GET", path, version="v1.51", search="stream=0&one-shot=1").json().get("networks")
        )

    before = links(box)
    assert before is not None and set(before) == {"eth0", "eth1"}
    assert set(before["eth0"]) == {
        f"{way}_{what}"
        for way in ("rx", "tx")
        for what in ("bytes", "packets", "errors", "dropped")
    }
    webs.docker("exec", friend, "ping", "-c1", "-s1000", "10.213.9.1")
    for after in (links(box), links(friend)):
        assert after is not None
        for way in ("rx", "tx"):
            assert after["eth0"][f"{way}_bytes"] >= before["eth0"][f"{way}_bytes"] + 1000
    for mode in ("none", "host"):
        assert links(webs.sleeper("--network", mode)) is None


def test_containers_come_and_go_without_a_trace(webs: Webs, docker: Client) -> None:
    network = webs.network("--subnet", "10.213.8.0/28", "--ipv6=false")
    for _ in range(20):  # there are thirteen addresses
        docker("run", "--rm", "--network", network, webs.image, "true")
    assert webs.about(network)["Containers"] == {}
