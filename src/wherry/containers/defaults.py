"""What the daemon's options say for containers that say nothing: `--default-ipc-mode` and its like. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wherry.model.containers import ContainerSpec


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

    def applied(self, spec: ContainerSpec) -> ContainerSpec:
        """Return `spec` with these where it says nothing."""
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
                ipc=namespaces.ipc or self.ipc,
                cgroup=namespaces.cgroup or self.cgroupns,
            ),
            security=replace(security, options=tuple(options)),
        )


def _says(options: list[str], name: str) -> bool:
    return any(option == name or option.startswith((f"{name}=", f"{name}:")) for option in options)
