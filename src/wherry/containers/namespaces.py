"""Which namespaces a container gets: `--userns --pid --ipc --uts --cgroupns --network` resolved. Pure.

The host's user namespace comes with --privileged, --userns=host and with the host's pid, ipc or
network namespace: docs/decisions/0002-host-namespaces.md says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wherry.model.containers import ContainerSpec
from wherry.model.errors import Invalid, Unsupported
from wherry.model.oci import HOST, PRIVATE, NamespaceSet

_CONTAINER = "container:"
_UNDEFINED = "This would result in undefined behavior"
DISCARDED = "Published ports are discarded when using host network mode"


@dataclass(frozen=True, slots=True)
class Joined:
    """A running container whose namespaces are joined; `host_user` when it lives in the host's user namespace."""

    id: str
    pid: int
    host_user: bool
    hostname: str = ""
    domainname: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The namespaces of one start; `owner` is the container whose user namespace is joined."""

    namespaces: NamespaceSet
    owner: Joined | None = None
    network: Joined | None = None
    ipc: Joined | None = None
    joined: tuple[Joined, ...] = ()


def referenced(mode: str) -> str:
    """Return X of `container:X`, or an empty text."""
    return mode.removeprefix(_CONTAINER) if mode.startswith(_CONTAINER) else ""


def check_modes(spec: ContainerSpec) -> tuple[str, ...]:
    """Return warnings; raise Invalid or Unsupported, in Docker's words, for modes that cannot be."""
    modes = spec.namespaces
    _check(modes.pid, ("", HOST), "PID")
    _check(modes.ipc, ("", HOST, PRIVATE, "shareable", "none"), "IPC")
    if modes.uts not in ("", HOST):
        raise Invalid(f"invalid UTS mode: {modes.uts}")
    if modes.user not in ("", HOST, PRIVATE):
        raise Invalid(f"invalid USER mode: {modes.user}")
    if modes.cgroup not in ("", HOST, PRIVATE):
        raise Invalid(f"invalid cgroup namespace mode: {modes.cgroup}")
    if modes.user == PRIVATE and spec.security.privileged:
        raise Unsupported(
            "privileged mode is incompatible with user namespaces",
            hint="leave out --userns=private",
        )
    network = modes.network
    if network.startswith(_CONTAINER):
        _check(network, (), "network")
        if spec.hostname:
            raise Invalid("conflicting options: hostname and the network mode")
        if spec.extra_hosts:
            raise Invalid("conflicting options: custom host-to-IP mapping and the network mode")
        if spec.dns or spec.dns_search or spec.dns_options:
            raise Invalid("conflicting options: dns and the network mode")
        if spec.mac_address:
            raise Invalid("conflicting options: mac-address and the network mode")
        if spec.published or spec.publish_all:
            raise Invalid(
                "conflicting options: port publishing and the container type network mode"
            )
        if spec.exposed_ports:
            raise Invalid("conflicting options: port exposing and the container type network mode")
        if spec.links:
            raise Invalid(
                "conflicting options: container type network can't be used with links. "
                + _UNDEFINED
            )
    if network == HOST and spec.links:
        raise Invalid(
            f"conflicting options: host type networking can't be used with links. {_UNDEFINED}"
        )
    if modes.uts == HOST and (spec.hostname or spec.domainname):
        raise Invalid("conflicting options: hostname and the UTS mode")
    return (DISCARDED,) if network == HOST and spec.published else ()


def _check(mode: str, known: tuple[str, ...], noun: str) -> None:
    if mode in known:
        return
    if not mode.startswith(_CONTAINER):
        raise Invalid(f"invalid {noun} mode: {mode}")
    if mode == _CONTAINER:
        if noun == "network":
            raise Invalid("invalid network mode: invalid container format container:<name|id>")
        raise Invalid(f"invalid {noun} mode: {mode}", hint="container:NAME")


def needs_host_user(spec: ContainerSpec) -> bool:
    """Whether a container is in the host's user namespace by what it asks for itself: decision 0002."""
    modes = spec.namespaces
    wanted = (modes.user, modes.pid, modes.ipc, modes.network)
    return spec.security.privileged or HOST in wanted


def resolve_namespaces(spec: ContainerSpec, join: Callable[[str, str], Joined]) -> Resolved:
    """Return the namespaces of a container about to start.

    `join(ref, noun)` gives the running container that `container:ref` names, or raises. Raises
    Unsupported where two containers with user namespaces of their own would have to be joined.
    """
    modes = spec.namespaces
    joined: dict[str, Joined] = {}
    if ref := referenced(modes.pid):
        joined["pid"] = join(ref, "PID")
    if ref := referenced(modes.ipc):
        joined["ipc"] = join(ref, "IPC")
    if ref := referenced(modes.network):
        joined["network"] = join(ref, "network")
    host_user = needs_host_user(spec) or any(other.host_user for other in joined.values())
    owners = {other.id: other for other in joined.values() if not other.host_user}
    owner: Joined | None = None
    user = HOST if host_user else PRIVATE
    if owners and not host_user:
        if len(owners) > 1:
            raise Unsupported(
                f"cannot join namespaces of {' and '.join(sorted(key[:12] for key in owners))} at once: "
                "each has a user namespace of its own",
                hint="start them with --userns=host, or let one join the other",
            )
        if modes.user == PRIVATE:
            raise Invalid("conflicting options: --userns=private and container: namespaces")
        owner = next(iter(owners.values()))
        user = f"/proc/{owner.pid}/ns/user"

    def place(name: str, mode: str, file: str) -> str:
        if other := joined.get(name):
            return f"/proc/{other.pid}/ns/{file}"
        return HOST if mode == HOST else PRIVATE

    namespaces = NamespaceSet(
        user=user,
        pid=place("pid", modes.pid, "pid"),
        network=place("network", modes.network, "net"),
        ipc=place("ipc", modes.ipc, "ipc"),
        uts=place("uts", modes.uts, "uts"),
        cgroup=HOST if modes.cgroup == HOST else PRIVATE,
    )
    return Resolved(
        namespaces, owner, joined.get("network"), joined.get("ipc"), tuple(joined.values())
    )
