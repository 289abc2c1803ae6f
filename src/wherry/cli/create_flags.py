"""The flags that `run` and `create` share, in the sections that help shows them under."""

from __future__ import annotations

from wherry.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Section:
    """Makes flags of one section of the help."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __call__(self, name: str, kind: str, text: str, **more: Any) -> Flag:
        return Flag(name, kind, text, section=self.title, **more)

    def many(self, name: str, kind: str, text: str, **more: Any) -> Flag:
        return Flag(name, kind, text, section=self.title, many=True, **more)


_common = _Section("Common")
_process = _Section("Process")
_resources = _Section("Resource")
_storage = _Section("Storage")
_network = _Section("Network")
_isolation = _Section("Isolation")
_health = _Section("Health and logging")
_other = _Section("Other")

CREATE_FLAGS: tuple[Flag, ...] = (
    _common("interactive", "bool", "Keep STDIN open even if not attached", short="i"),
    _common("tty", "bool", "Allocate a pseudo-TTY", short="t"),
    _common("name", "string", "Assign a name to the container"),
    _common("rm", "bool", "Remove the container and its anonymous volumes when it exits"),
    _common.many("env", "env", "Set environment variables", short="e"),
    _common.many("env-file", "string", "Read in a file of environment variables"),
    _common.many("volume", "string", "Bind mount a volume", short="v"),
    _common.many("publish", "string", "Publish a container's port(s) to the host", short="p"),
    _common("network", "network", "Connect the container to a network", many=True, label="network"),
    Flag("net", "network", "Connect the container to a network", many=True, hidden=True),
    _common("restart", "string", "Restart policy to apply when the container exits", default="no"),
    _process.many("attach", "stream", "Attach to STDIN, STDOUT or STDERR", short="a"),
    _process("entrypoint", "string", "Overwrite the default ENTRYPOINT of the image"),
    _process("workdir", "string", "Working directory inside the container", short="w"),
    _process("user", "string", "Username or UID (<name|uid>[:<group|gid>])", short="u"),
    _process.many("group-add", "string", "Add additional groups to join"),
    _process("init", "bool", "Run an init inside that forwards signals and reaps processes"),
    _process("stop-signal", "string", "Signal to stop the container"),
    _process("stop-timeout", "int", "Timeout (in seconds) to stop the container"),
    _process.many("ulimit", "ulimit", "Ulimit options (name=soft[:hard])", label="ulimit"),
    _process("oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    _process.many("sysctl", "sysctl", "Sysctl options", label="map"),
    _resources("memory", "bytes", "Memory limit", short="m"),
    _resources("memory-reservation", "bytes", "Memory soft limit"),
    _resources("memory-swap", "swap", "Memory plus swap limit; -1 is unlimited", label="bytes"),
    _resources("memory-swappiness", "int", "Tune memory swappiness (0 to 100)", default=-1),
    _resources("oom-kill-disable", "bool", "Disable OOM Killer"),
    _resources("cpus", "decimal", "Number of CPUs"),
    _resources("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
    _resources("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    _resources("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    _resources("cpu-rt-period", "int", "Limit CPU real-time period in microseconds"),
    _resources("cpu-rt-runtime", "int", "Limit CPU real-time runtime in microseconds"),
    _resources("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    _resources("cpuset-mems", "string", "Memory nodes in which to allow execution (0-3, 0,1)"),
    _resources("pids-limit", "int", "Tune the pids limit (-1 is unlimited)"),
    _resources("blkio-weight", "uint16", "Block IO weight, 10 to 1000, or 0 to disable"),
    _resources.many("blkio-weight-device", "device-weight", "Block IO weight of a device"),
    _resources.many("device-read-bps", "byte-rate", "Limit read rate (bytes a second)"),
    _resources.many("device-read-iops", "operation-rate", "Limit read rate (IO a second)"),
    _resources.many("device-write-bps", "byte-rate", "Limit write rate (bytes a second)"),
    _resources.many("device-write-iops", "operation-rate", "Limit write rate (IO a second)"),
    _resources("shm-size", "bytes", "Size of /dev/shm"),
    _resources("kernel-memory", "bytes", "Kernel memory limit", hidden=True),
    _resources("cgroup-parent", "string", "Optional parent cgroup for the container"),
    _resources(
        "gpus", "gpus", "GPU devices to add ('all' for all)", many=True, label="gpu-request"
    ),
    _storage.many("mount", "mount", "Attach a filesystem mount", label="mount"),
    _storage.many("tmpfs", "string", "Mount a tmpfs directory"),
    _storage("read-only", "bool", "Mount the container's root filesystem as read only"),
    _storage.many("volumes-from", "string", "Mount volumes from the specified container(s)"),
    _storage("volume-driver", "string", "Optional volume driver for the container"),
    _storage.many("storage-opt", "string", "Storage driver options for the container"),
    _network("publish-all", "bool", "Publish all exposed ports to random ports", short="P"),
    _network.many("expose", "string", "Expose a port or a range of ports"),
    _network("hostname", "string", "Container host name", short="h"),
    _network("domainname", "string", "Container NIS domain name"),
    _network.many("add-host", "host", "Add a custom host-to-IP mapping (host:ip)"),
    _network.many("dns", "address", "Set custom DNS servers"),
    _network.many("dns-search", "domain", "Set custom DNS search domains"),
    _network.many("dns-option", "string", "Set DNS options"),
    Flag("dns-opt", "string", "Set DNS options", many=True, hidden=True),
    _network.many("network-alias", "string", "Add network-scoped alias for the container"),
    Flag("net-alias", "string", "Add network-scoped alias", many=True, hidden=True),
    _network("ip", "string", "IPv4 address (e.g., 172.30.100.104)"),
    _network("ip6", "string", "IPv6 address (e.g., 2001:db8::33)"),
    _network.many("link-local-ip", "string", "Container IPv4/IPv6 link-local addresses"),
    _network("mac-address", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    _network.many("link", "link", "Add link to another container"),
    _isolation("privileged", "bool", "Give extended privileges to the container"),
    _isolation.many("cap-add", "string", "Add Linux capabilities"),
    _isolation.many("cap-drop", "string", "Drop Linux capabilities"),
    _isolation.many("security-opt", "string", "Security Options"),
    _isolation.many("device", "string", "Add a host device to the container"),
    _isolation.many("device-cgroup-rule", "device-rule", "Add a rule to the allowed devices list"),
    _isolation("userns", "string", "User namespace to use"),
    _isolation("pid", "string", "PID namespace to use"),
    _isolation("ipc", "string", "IPC mode to use"),
    _isolation("uts", "string", "UTS namespace to use"),
    _isolation("cgroupns", "string", "Cgroup namespace to use (host|private)"),
    _isolation("runtime", "string", "Runtime to use for this container"),
    _isolation("isolation", "string", "Container isolation technology"),
    _health("health-cmd", "string", "Command to run to check health"),
    _health("health-interval", "duration", "Time between running the check (ms|s|m|h)"),
    _health("health-retries", "int", "Consecutive failures needed to report unhealthy"),
    _health("health-start-interval", "duration", "Time between checks during the start period"),
    _health("health-start-period", "duration", "Time to initialize before retries count down"),
    _health("health-timeout", "duration", "Maximum time to allow one check to run (ms|s|m|h)"),
    _health("no-healthcheck", "bool", "Disable any container-specified HEALTHCHECK"),
    _health("log-driver", "string", "Logging driver for the container"),
    _health.many("log-opt", "string", "Log driver options"),
    _other.many("label", "label", "Set meta data on the container", short="l"),
    _other.many("label-file", "string", "Read in a line delimited file of labels"),
    _other.many("annotation", "string", "Add an annotation for the OCI runtime", label="map"),
    _other("cidfile", "string", "Write the container ID to the file"),
    _other("platform", "string", "Set platform if server is multi-platform capable"),
    _other("pull", "string", 'Pull image first ("always", "missing", "never")', default="missing"),
    _other("quiet", "bool", "Suppress the pull output", short="q"),
    _other("use-api-socket", "bool", "Bind mount the API's socket, and take its credentials along"),
    Flag("disable-content-trust", "bool", "Skip image verification", default=True, hidden=True),
    Flag("cpu-count", "int", "CPU count (Windows only)", hidden=True),
    Flag("cpu-percent", "int", "CPU percent (Windows only)", hidden=True),
    Flag("io-maxbandwidth", "bytes", "Maximum IO bandwidth (Windows only)", hidden=True),
    Flag("io-maxiops", "uint", "Maximum IOps (Windows only)", hidden=True),
)

ALIASES = {"net": "network", "dns-opt": "dns-option", "net-alias": "network-alias"}
WINDOWS_ONLY = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")
