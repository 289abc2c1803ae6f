"""What a body means in the version of the API that it was written for.

A field that came later is passed over, as an engine of that version would have; one whose loss would make a
container something else than was asked for is refused. Defaults that changed are the ones of then.
Source: Engine API version history; what Docker Engine 28.5 answers at every version
(`tests/engine/recorded/versions.json`).
"""

from __future__ import annotations

from typing import cast

from wherry.api.versions import Version
from wherry.api.wire.bodies import CreateBody, HostConfig, Mount, UpdateBody
from wherry.model.errors import Invalid

_NO_KERNEL_MEMORY = (
    "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted."
    " Limitation discarded."
)
_NO_KERNEL_MEMORY_TCP = (
    "Your kernel does not support kernel memory TCP limit capabilities or the cgroup is not mounted."
    " Limitation discarded."
)


def adapt_create(body: CreateBody, version: Version) -> tuple[str, ...]:
    """Change `body` to what `version` reads in it; return warnings. Raises Invalid."""
    warnings: list[str] = []
    if body.HostConfig is None:
        body.HostConfig = HostConfig()
    host = body.HostConfig
    _adapt_defaults(host, version)
    if host.KernelMemory and version < (1, 42):
        warnings.append(_NO_KERNEL_MEMORY)
    if host.KernelMemoryTCP and version >= (1, 40):
        warnings.append(_NO_KERNEL_MEMORY_TCP)
    # Linux has given both up (5.16); Docker passes them over since API 1.42.
    host.KernelMemory = host.KernelMemoryTCP = None
    for mount in host.Mounts or ():
        _adapt_mount(mount, version)
    if version < (1, 44):
        if body.Healthcheck is not None:
            body.Healthcheck.StartInterval = None
        networks = (body.NetworkingConfig and body.NetworkingConfig.EndpointsConfig) or {}
        if len(networks) > 1:
            raise Invalid(
                "Container cannot be created with multiple network endpoints: "
                + ", ".join(sorted(networks))
            )
    elif body.MacAddress:
        warnings.append(
            "The container-wide MacAddress field is now deprecated. "
            "It should be specified in EndpointsConfig instead."
        )
    _adapt_mac_address(body, host.NetworkMode or "default", version)
    return tuple(warnings)


def _adapt_mac_address(body: CreateBody, mode: str, version: Version) -> None:
    """Read the container's MAC address, and those of its endpoints, which came with 1.44."""
    networks = (body.NetworkingConfig and body.NetworkingConfig.EndpointsConfig) or {}
    unlinked = mode in ("host", "none") or mode.startswith("container:")
    if version < (1, 44):
        for endpoint in networks.values():
            if endpoint is not None:
                endpoint.MacAddress = None
        if body.MacAddress and unlinked:
            raise Invalid("conflicting options: mac-address and the network mode")
    elif unlinked:
        body.MacAddress = None
    elif body.MacAddress and networks and not (networks.keys() & _same_as(mode)):
        raise Invalid(
            "unable to migrate container-wide MAC address to a specific network: "
            "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"
        )


def _same_as(mode: str) -> set[str]:
    return {"default", "bridge"} if mode in ("default", "bridge") else {mode}


def _adapt_defaults(host: HostConfig, version: Version) -> None:
    if version < (1, 25):
        # It was the client's own work.
        host.AutoRemove = None
    if version < (1, 40) and not host.IpcMode:
        host.IpcMode = "shareable"
    if version < (1, 41) and not host.CgroupnsMode:
        host.CgroupnsMode = "host"
    if version < (1, 42):
        host.ConsoleSize = None
    if version < (1, 43):
        host.Annotations = None


def _adapt_mount(mount: Mount, version: Version) -> None:
    bind = mount.BindOptions
    if bind is not None:
        if version < (1, 40):
            bind.NonRecursive = None
        if version < (1, 42):
            bind.CreateMountpoint = None
        if version < (1, 44) and bind.ReadOnlyForceRecursive:
            raise Invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if version < (1, 45) and mount.VolumeOptions is not None and mount.VolumeOptions.Subpath:
        raise Invalid("VolumeOptions.Subpath needs API v1.45 or newer")
    if version < (1, 48) and mount.Type == "image":
        raise Invalid('Mount type "Image" needs API v1.48 or newer')


def adapt_update(body: UpdateBody, version: Version) -> None:
    """Change `body` to what `version` reads in it."""
    if version < (1, 40):
        body.PidsLimit = None
    body.KernelMemory = body.KernelMemoryTCP = None


def adapt_info(answer: dict[str, object], version: Version) -> None:
    """Change the answer to GET /info to what `version` shows."""
    if version < (1, 42):
        answer["KernelMemory"] = False
    if version < (1, 47):
        registries = cast(dict[str, object], answer["RegistryConfig"])
        answer["RegistryConfig"] = {
            "AllowNondistributableArtifactsCIDRs": None,
            "AllowNondistributableArtifactsHostnames": None,
            **registries,
        }
    if version < (1, 49):
        answer.pop("FirewallBackend", None)
        commit = cast(dict[str, object], answer["RuncCommit"])
        answer["RuncCommit"] = {**commit, "Expected": commit["ID"]}
    if version < (1, 50):
        answer |= {"BridgeNfIptables": True, "BridgeNfIp6tables": True}
