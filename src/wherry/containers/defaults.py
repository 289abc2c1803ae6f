"""What the daemon's options say for containers that say nothing: `--default-ipc-mode` and its like. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wherry.model.containers import ContainerSpec, Namespaces


@dataclass(frozen=True, slots=True)
class Defaults:
    """Empty fields leave the engine's own."""

    ipc: str = ""
    """private or shareable."""
    cgroupns: str = ""
    """private or host."""
    seccomp: str = ""
    """`unconfined`, or a profile's JSON. Privileged containers have none, as ever."""
    no_new_privileges: bool = False
    userns: str = ""
    """private or host. A container that joins another has the other's, whatever this says."""

    def applied(self, spec: ContainerSpec) -> ContainerSpec:
        """Return `spec` with these where it says nothing."""
        if self == _NOTHING_SAID:  # as usual, and on the way of every create
            return spec
        namespaces, security = spec.namespaces, spec.security
        options = list(security.options)
        if self.seccomp and not security.privileged and not _says(options, "seccomp"):
            options.append(f"seccomp={self.seccomp}")
        if self.no_new_privileges and not _says(options, "no-new-privileges"):
            options.append("no-new-privileges")
        return replace(
            spec,
            namespaces=replace(
                namespaces,
                user=namespaces.user or ("" if _joins(namespaces) else self.userns),
                ipc=namespaces.ipc or self.ipc,
                cgroup=namespaces.cgroup or self.cgroupns,
            ),
            security=replace(security, options=tuple(options)),
        )


_NOTHING_SAID = Defaults()


def _joins(modes: Namespaces) -> bool:
    return any(mode.startswith("container:") for mode in (modes.network, modes.pid, modes.ipc))


def _says(options: list[str], name: str) -> bool:
    return any(option == name or option.startswith((f"{name}=", f"{name}:")) for option in options)
