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
    POOLS = "pool"
    """base=PREFIX,size=LENGTH"""
    PAIRS_BY = "group=key=value"
    """JSON: an object of objects"""


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
    Option("log-driver", Kind.TEXT, "Containers' default log driver", "log-driver"),
    Option("log-opt", Kind.PAIRS, "Containers' default log options", "log-opts"),
    Option("log-format", Kind.TEXT, "The daemon's own log: text or json", "log-format"),
    Option("metrics-addr", Kind.TEXT, "HOST:PORT for Prometheus to ask", "metrics-addr"),
    Option("debug", Kind.SWITCH, "Same as --log-level debug", "debug", "D", True),
    Option("bridge", Kind.TEXT, "Link to use as the default bridge, or none", "bridge", "b"),
    Option("bip", Kind.TEXT, "IPv4 address of the default bridge, 172.30.0.1/16", "bip"),
    Option("bip6", Kind.TEXT, "IPv6 address of the default bridge", "bip6"),
    Option("fixed-cidr", Kind.TEXT, "IPv4 range of containers on it", "fixed-cidr"),
    Option("fixed-cidr-v6", Kind.TEXT, "IPv6 range of containers on it", "fixed-cidr-v6"),
    Option("default-gateway", Kind.TEXT, "Its containers' IPv4 gateway", "default-gateway"),
    Option("default-gateway-v6", Kind.TEXT, "Their IPv6 gateway", "default-gateway-v6"),
    Option("icc", Kind.SWITCH, "Its containers may talk to each other", "icc"),
    Option("mtu", Kind.NUMBER, "Its links' MTU", "mtu"),
    Option("ip", Kind.TEXT, "Address that ports are published on (0.0.0.0)", "ip"),
    Option("ipv6", Kind.SWITCH, "IPv6 in networks (where the host has it)", "ipv6"),
    Option(
        "default-address-pool", Kind.POOLS, "Where subnets are taken from", "default-address-pools"
    ),
    Option("tls", Kind.SWITCH, "Use TLS on TCP sockets; implied by --tlsverify", "tls"),
    Option("tlsverify", Kind.SWITCH, "Use TLS and verify the client", "tlsverify"),
    Option("tlscacert", Kind.TEXT, "Trust clients whose certificate this CA signed", "tlscacert"),
    Option("tlscert", Kind.TEXT, "The daemon's TLS certificate", "tlscert"),
    Option("tlskey", Kind.TEXT, "The certificate's key", "tlskey"),
    Option("dns", Kind.LIST, "Containers' resolvers", "dns"),
    Option("dns-opt", Kind.LIST, "Their options", "dns-opts"),
    Option("dns-search", Kind.LIST, "Their search domains", "dns-search"),
    Option("host-gateway-ip", Kind.LIST, "What host-gateway stands for", "host-gateway-ips"),
    Option(
        "default-network-opt",
        Kind.PAIRS_BY,
        "New networks' options, by driver: bridge=OPTION=VALUE",
        "default-network-opts",
    ),
    Option("iptables", Kind.SWITCH, "Load rules into nftables", "iptables"),
    Option("ip6tables", Kind.SWITCH, "Docker's; as --iptables says", "ip6tables"),
    Option("firewall-backend", Kind.TEXT, "nftables is the only one", "firewall-backend"),
    Option(
        "allow-direct-routing",
        Kind.SWITCH,
        "Published ports are reached by containers' own addresses too",
        "allow-direct-routing",
    ),
    Option("ip-forward", Kind.SWITCH, "Let the host forward packets", "ip-forward"),
    Option("ip-forward-no-drop", Kind.SWITCH, "Others' packets too", "ip-forward-no-drop"),
    Option("ip-masq", Kind.SWITCH, "Masquerade the default bridge", "ip-masq"),
    Option(
        "firewall-allow-forward",
        Kind.SWITCH,
        "Let others' chains that drop by policy accept containers' traffic",
        "firewall-allow-forward",
    ),
    Option("userland-proxy", Kind.SWITCH, "Docker's; no port has a proxy", "userland-proxy"),
    Option("live-restore", Kind.SWITCH, "Leave containers running", "live-restore", reloads=True),
    Option("shutdown-timeout", Kind.NUMBER, "Seconds", "shutdown-timeout", reloads=True),
    Option("default-shm-size", Kind.SIZE, "Containers' /dev/shm (64M)", "default-shm-size"),
    Option("default-ulimit", Kind.ULIMITS, "Containers' limits, name=soft:hard", "default-ulimits"),
    Option("label", Kind.LIST, "key=value that `info` shows", "labels", reloads=True),
    Option(
        "userns-remap",
        Kind.TEXT,
        "default: each container has ids of its own; host: none has",
        "userns-remap",
    ),
    Option("cgroup-parent", Kind.TEXT, "Where containers' cgroups are made", "cgroup-parent"),
    Option("init", Kind.SWITCH, "Run an init in every container", "init"),
    Option("init-path", Kind.TEXT, "That init (tini, docker-init)", "init-path"),
    Option(
        "default-ipc-mode", Kind.TEXT, "Containers' --ipc: private, shareable", "default-ipc-mode"
    ),
    Option(
        "default-cgroupns-mode",
        Kind.TEXT,
        "Containers' --cgroupns: private, host",
        "default-cgroupns-mode",
    ),
    Option(
        "no-new-privileges",
        Kind.SWITCH,
        "Containers gain no privileges by set-uid programs",
        "no-new-privileges",
    ),
    Option(
        "seccomp-profile",
        Kind.TEXT,
        "Containers' profile: a file, builtin, unconfined",
        "seccomp-profile",
    ),
    Option("experimental", Kind.SWITCH, "Docker's; shown by `info`", "experimental"),
    Option("raw-logs", Kind.SWITCH, "Docker's; the log is never coloured", "raw-logs"),
    Option("storage-driver", Kind.TEXT, "overlay2 is the only one", "storage-driver", "s"),
    Option(
        "registry-mirror",
        Kind.LIST,
        "Mirror of Docker Hub, tried first",
        "registry-mirrors",
        reloads=True,
    ),
    Option(
        "insecure-registry",
        Kind.LIST,
        "Registry (HOST[:PORT] or CIDR) that TLS may be missing or unverified at",
        "insecure-registries",
        reloads=True,
    ),
    Option("registry-hosts", Kind.LIST, "Folder of HOST/hosts.toml, HOST/ca.crt", "registry-hosts"),
    Option(
        "max-concurrent-downloads",
        Kind.NUMBER,
        "Layers (3)",
        "max-concurrent-downloads",
        reloads=True,
    ),
    Option(
        "max-concurrent-uploads", Kind.NUMBER, "Layers (5)", "max-concurrent-uploads", reloads=True
    ),
    Option(
        "max-download-attempts",
        Kind.NUMBER,
        "For a layer (5)",
        "max-download-attempts",
        reloads=True,
    ),
    Option("http-proxy", Kind.TEXT, "Proxy for registries without TLS", "http-proxy"),
    Option("https-proxy", Kind.TEXT, "Proxy for registries with TLS", "https-proxy"),
    Option("no-proxy", Kind.TEXT, "Hosts that are reached without a proxy", "no-proxy"),
    Option("proxy", Kind.PAIRS, "The three above, as in daemon.json", "proxies"),
    Option("validate", Kind.SWITCH, "Check the configuration and exit"),
    Option("version", Kind.SWITCH, "Print the version and exit", short="v"),
    Option("help", Kind.SWITCH, "Print this and exit", short="h"),
)
BY_FLAG = {option.flag: option for option in OPTIONS}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_KEY = {option.key: option for option in OPTIONS if option.key}
