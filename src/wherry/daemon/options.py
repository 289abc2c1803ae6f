"""The table of wherryd's options: one row is a flag, a key of daemon.json, or both. Names are Docker's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a value looks like."""

    TEXT = "string"
    SWITCH = "bool"
    NUMBER = "int"
    SIZE = "bytes"
    LIST = "list"
    PAIRS = "map"
    ULIMITS = "ulimit"


@dataclass(frozen=True, slots=True)
class Option:
    """`flag` has no dashes; `key` is daemon.json's name, empty where it may not be there."""

    flag: str
    kind: Kind
    help: str
    key: str = ""
    short: str = ""
    reloads: bool = False
    """SIGHUP applies a change."""

    @property
    def name(self) -> str:
        """The name that both ways share."""
        return self.key or self.flag


OPTIONS = (
    Option(
        "host", Kind.LIST, "Socket to listen on: unix://PATH, tcp://HOST:PORT, fd://", "hosts", "H"
    ),
    Option("data-root", Kind.TEXT, "Root of what is kept", "data-root"),
    Option("exec-root", Kind.TEXT, "Root of what lives while the machine is up", "exec-root"),
    Option("pidfile", Kind.TEXT, "File for the daemon's pid", "pidfile", "p"),
    Option("config-file", Kind.TEXT, "Configuration file (/etc/wherry/daemon.json)"),
    Option("group", Kind.TEXT, "Group that may use the unix socket", "group", "G"),
    Option("log-level", Kind.TEXT, "debug, info, warn, error, fatal", "log-level", "l", True),
    Option("log-driver", Kind.TEXT, "Containers' default: json-file, local, none", "log-driver"),
    Option("log-opt", Kind.PAIRS, "Containers' default log options", "log-opts"),
    Option("log-format", Kind.TEXT, "The daemon's own log: text or json", "log-format"),
    Option("metrics-addr", Kind.TEXT, "HOST:PORT for Prometheus to ask", "metrics-addr"),
    Option("debug", Kind.SWITCH, "Same as --log-level debug", "debug", "D", True),
    Option(
        "bridge", Kind.TEXT, "Bridge for containers; none is all this version has", "bridge", "b"
    ),
    Option("bip", Kind.TEXT, "Address of the bridge", "bip"),
    Option("tls", Kind.SWITCH, "Use TLS on TCP sockets; implied by --tlsverify", "tls"),
    Option("tlsverify", Kind.SWITCH, "Use TLS and verify the client", "tlsverify"),
    Option("tlscacert", Kind.TEXT, "Trust clients whose certificate this CA signed", "tlscacert"),
    Option("tlscert", Kind.TEXT, "The daemon's TLS certificate", "tlscert"),
    Option("tlskey", Kind.TEXT, "The certificate's key", "tlskey"),
    Option("live-restore", Kind.SWITCH, "Leave containers running", "live-restore", reloads=True),
    Option("shutdown-timeout", Kind.NUMBER, "Seconds", "shutdown-timeout", reloads=True),
    Option("default-shm-size", Kind.SIZE, "Containers' /dev/shm (64M)", "default-shm-size"),
    Option("default-ulimit", Kind.ULIMITS, "Containers' limits, name=soft:hard", "default-ulimits"),
    Option("label", Kind.LIST, "key=value that `info` shows", "labels"),
    Option("userns-remap", Kind.TEXT, "default: each container has ids of its own", "userns-remap"),
    Option("cgroup-parent", Kind.TEXT, "Where containers' cgroups are made", "cgroup-parent"),
    Option("init", Kind.SWITCH, "Run an init in every container", "init"),
    Option("storage-driver", Kind.TEXT, "overlay2 is the only one", "storage-driver", "s"),
    Option("validate", Kind.SWITCH, "Check the configuration and exit"),
    Option("version", Kind.SWITCH, "Print the version and exit", short="v"),
    Option("help", Kind.SWITCH, "Print this and exit", short="h"),
)
BY_FLAG = {option.flag: option for option in OPTIONS}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_KEY = {option.key: option for option in OPTIONS if option.key}

# daemon.json keys that Docker has and this version has not. A value that asks for nothing is let
# pass; any other is an error, so that nothing is silently ignored.
NOT_YET = frozenset(
    "allow-direct-routing authorization-plugins builder cdi-spec-dirs containerd containerd-namespace "
    "containerd-plugins-namespace cpu-rt-period cpu-rt-runtime cri-containerd default-address-pools "
    "default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-network-opts "
    "default-runtime dns dns-opts dns-search exec-opts experimental features fixed-cidr fixed-cidr-v6 "
    "firewall-backend host-gateway-ip host-gateway-ips http-proxy https-proxy icc init-path "
    "insecure-registries ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 "
    "max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu "
    "network-control-plane-mtu no-new-privileges no-proxy node-generic-resources oom-score-adjust "
    "proxies raw-logs registry-mirrors runtimes seccomp-profile selinux-enabled storage-opts "
    "swarm-default-advertise-addr userland-proxy "
    "userland-proxy-path validate".split()
)
