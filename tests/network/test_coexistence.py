"""Beside firewalls of others: Docker's, ufw's and firewalld's ways, an administrator's own rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.hosts import Host, Site, talk
from tests.network.rig import Box, Rig, tcp
from wherry.network import options, rules

DOCKERS = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-FORWARD -o docker0 -j DOCKER
-A DOCKER-FORWARD -i docker0 -j ACCEPT
COMMIT
"""
"""As Docker 28.5 leaves it, shortened."""
UFWS = """*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-forward - [0:0]
-A INPUT -p icmp -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""
REJECTS = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j REJECT --reject-with icmp-host-prohibited
COMMIT
"""
FIREWALLDS = """
table inet office {
    chain forwarding {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname "lo" accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
}
"""


def iptables(host: Host, script: str) -> None:
    for program in ("iptables-nft-restore", "ip6tables-nft-restore"):
        if program.startswith("ip6"):
            script = script.replace("icmp-host", "icmp6-adm").replace("-p icmp", "-p ipv6-icmp")
        host.run(program, stdin=script)


def check_traffic(site: Site, box: Box, neighbour: Box) -> None:
    with site.outside.listen(site.OUTSIDE, 80) as server:
        talk(box.connect(site.OUTSIDE, 80), server)
    with site.outside.listen(site.OUTSIDE6, 80) as server:
        talk(box.connect(site.OUTSIDE6, 80), server)
    with box.listen("0.0.0.0", 80) as server:
        talk(site.outside.connect(site.HOST, 8080), server)
        talk(neighbour.connect(box.ipv4, 80), server)
        talk(neighbour.connect(site.HOST, 8080), server)
        talk(site.host.connect("127.0.0.1", 8080), server)
    with box.listen("::", 80) as server:
        talk(site.outside.connect(site.HOST6, 8080), server)
        talk(neighbour.connect(box.ipv6, 80), server)


@pytest.mark.parametrize("name", ["docker", "ufw", "reject", "firewalld-style"])
def test_beside_a_firewall_that_denies_by_default(
    site: Site, new_rig: Callable[..., Rig], name: str
) -> None:
    match name:
        case "docker":
            iptables(site.host, DOCKERS)
        case "ufw":
            iptables(site.host, UFWS)
        case "reject":
            iptables(site.host, REJECTS)
        case _:
            site.host.nft(FIREWALLDS)
    before = site.host.run("nft", "list", "ruleset")
    rig = new_rig()
    network = rig.network("net")
    box, neighbour = rig.box("box", network, ports=(tcp(80, 8080),)), rig.box("n", network)
    check_traffic(site, box, neighbour)
    # Looking again adds nothing; leaving takes everything away.
    assert rig.do(rig.networks.repair()).done == ()
    rig.do(rig.networks.close(remove=True))
    assert _uncounted(site.host.run("nft", "list", "ruleset")) == _uncounted(before)


def _uncounted(text: str) -> str:
    words = text.split()
    return " ".join(w for n, w in enumerate(words) if words[n - 1] not in ("packets", "bytes"))


def test_iptables_can_still_list_its_rules(site: Site, new_rig: Callable[..., Rig]) -> None:
    iptables(site.host, DOCKERS)
    rig = new_rig()
    rig.network("net", (options.NAME, "custom0"))
    listed = site.host.run("iptables-nft", "-S", "FORWARD").splitlines()
    mark = f'-m comment --comment "wherry {rig.engine_id}" -j ACCEPT'
    assert listed == [
        "-P FORWARD DROP",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DOCKER-FORWARD",
        *(
            f"-A FORWARD {flag} {link} {mark}"
            for link in ("wh-+", "wherry+", "custom0")
            for flag in ("-i", "-o")
        ),
    ]


def test_explicit_denials_stay(site: Site, new_rig: Callable[..., Rig]) -> None:
    iptables(site.host, DOCKERS)
    site.host.run("iptables-nft", "-A", "DOCKER-USER", "-s", site.OUTSIDE, "-j", "DROP")
    rig = new_rig()
    box = rig.box("box", rig.network("net"), ports=(tcp(80, 8080),))
    with box.listen("0.0.0.0", 80) as server:
        assert not site.outside.reaches(site.HOST, 8080)
        talk(site.host.connect("127.0.0.1", 8080), server)


def test_forwarding_may_be_left_to_the_administrator(
    site: Site, new_rig: Callable[..., Rig]
) -> None:
    iptables(site.host, DOCKERS)
    rig = new_rig(forward_accept=False)
    box = rig.box("box", rig.network("net"))
    with site.outside.listen("0.0.0.0", 80) as server:
        assert not box.reaches(site.OUTSIDE, 80)
        (warning,) = (w for w in rig.networks.warnings() if "ip filter FORWARD" in w)
        for command in warning.partition("run: ")[2].split("; "):
            site.host.run("sh", "-c", command)
        talk(box.connect(site.OUTSIDE, 80), server)


def test_rules_that_others_flush_come_back(site: Site, new_rig: Callable[..., Rig]) -> None:
    iptables(site.host, DOCKERS)
    rig = new_rig()
    network = rig.network("net")
    box, neighbour = rig.box("box", network, ports=(tcp(80, 8080),)), rig.box("n", network)
    iptables(site.host, DOCKERS)  # as iptables-restore does at a firewall's restart
    assert not neighbour.reaches(box.ipv4, 80) and not box.reaches(site.OUTSIDE, 80)
    assert any("FORWARD" in line for line in rig.do(rig.networks.repair()).done)
    check_traffic(site, box, neighbour)
    site.host.run("nft", "flush", "ruleset")
    assert not site.outside.reaches(site.HOST, 8080)
    assert rig.do(rig.networks.repair()).done == (f"made the table wherry-{rig.engine_id[:8]}",)
    check_traffic(site, box, neighbour)


def test_the_administrators_chains_come_first_and_stay(rig: Rig, site: Site) -> None:
    box = rig.box("box", rig.network("net"), ports=(tcp(80, 8080), tcp(81, 8081)))
    table = f"inet wherry-{rig.engine_id[:8]}"
    # With the port as the outsider knows it, and before anything is accepted.
    site.host.nft(f"add rule {table} {rules.ADMIN_PREROUTING} tcp dport 8080 drop")
    original = "meta l4proto tcp ct original proto-dst 8081"
    site.host.nft(f"add rule {table} {rules.ADMIN_FORWARD} ip saddr {site.OUTSIDE} {original} drop")
    for _ in range(2):
        with box.listen("0.0.0.0", 80) as server, box.listen("0.0.0.0", 81) as other:
            assert not site.outside.reaches(site.HOST, 8080)
            assert not site.outside.reaches(site.HOST, 8081)
            talk(site.host.connect("127.0.0.1", 8080), server)
            talk(site.host.connect("127.0.0.1", 8081), other)
        rig.reopen()


def test_a_table_of_the_administrators_own_denies_too(rig: Rig, site: Site) -> None:
    box = rig.box("box", rig.network("net"), ports=(tcp(80, 8080),))
    site.host.nft(
        """table inet mine { chain early { type filter hook prerouting priority mangle;
        iifname "up0" tcp dport 8080 drop; }; }"""
    )
    with box.listen("0.0.0.0", 80):
        assert not site.outside.reaches(site.HOST, 8080)


def test_an_owned_table_is_told_of(site: Site, new_rig: Callable[..., Rig]) -> None:
    # firewalld's table is known by its name: its zones decide, and only it may change them.
    site.host.nft(FIREWALLDS.replace("office", "firewalld"))
    rig = new_rig()
    rig.default()
    (warning,) = rig.do(rig.networks.repair()).warnings
    assert "firewall-cmd --permanent --zone=trusted --add-interface=wherry0" in warning
