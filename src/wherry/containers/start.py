"""Starting a container: its root prepared, its files written, its plan made and sent."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from wherry.containers import hostfiles
from wherry.containers.events import Recorder, container_event
from wherry.containers.held_roots import HeldRoots
from wherry.containers.legacy_links import host_lines, variables
from wherry.containers.live import Live
from wherry.containers.log_settings import check_ready, parse_log_config
from wherry.containers.merge import merge_env
from wherry.containers.mount_checks import check_propagation, create_missing_sources
from wherry.containers.namespaces import Joined, Resolved, resolve_namespaces
from wherry.containers.networking import NETWORK_FAILED, Networking
from wherry.containers.runtime_spec import HostFacts, View, build_spec, plan_mount, read_devices
from wherry.containers.security import SecurityPlan, plan_security, seccomp_program
from wherry.containers.store import ContainerStore
from wherry.containers.transitions import ALIVE, move
from wherry.containers.undo import Undo
from wherry.kernel.durable import full
from wherry.kernel.paths import remove_path
from wherry.kernel.space import no_room
from wherry.model.containers import (
    Container,
    ContainerSpec,
    LogConfig,
    MountKind,
    MountSpec,
    Status,
)
from wherry.model.errors import (
    Conflict,
    Invalid,
    NotFound,
    StartFailed,
    Unsupported,
    WherryError,
)
from wherry.model.ids import Digest
from wherry.model.oci import HOST, Emulator, IdMap, Mount, RuntimeSpec
from wherry.model.wiring import Wiring
from wherry.runtime import capabilities
from wherry.runtime.emulation import choose_emulator
from wherry.runtime.plan import Plan
from wherry.supervisor.messages import Launch, LogSettings, Started

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_WIRING = Wiring()
_WHOLE = 0xFFFFFFFF
"""Ids in the first user namespace's map, user_namespaces(7)."""

MOST_HELD = 32
"""Mounts that are handed over with one start; a message bears 64 descriptors."""


class Snapshots(Protocol):
    """What is used of the snapshotter."""

    def prepare(self, key: str, chain: Sequence[Digest]) -> View: ...


class Supervisor(Protocol):
    """What is used of the supervisor's client."""

    async def start(self, launch: Launch, mounts: Sequence[int] = ()) -> Started: ...
    async def forget(self, key: str) -> None: ...


class Furnisher(Protocol):
    """Who sees to volumes."""

    def plan(self, mount: MountSpec, *, mapped: bool) -> Mount: ...
    async def open(self, names: Sequence[str]) -> list[int]: ...


class Volumes(Protocol):
    """Who is told of volumes that are mounted."""

    def tell_mounted(self, container: Container) -> None: ...


@dataclass(frozen=True, slots=True)
class Platform:
    """What programs are compiled for."""

    arch: str
    kernel: tuple[int, int]


class Starter:
    """Turns a container into a running process. The caller holds the container's lock."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        snapshots: Snapshots,
        supervisor: Supervisor,
        events: Recorder,
        plan: Callable[[RuntimeSpec], Plan],
        folder: Callable[[str], Path],
        facts: HostFacts,
        platform: Platform,
        log_default: LogConfig,
        check_logs: Callable[[Container], Awaitable[None]],
        networking: Networking,
        host_gateways: Callable[[], Sequence[str]],
        dns: hostfiles.DnsDefaults,
        furnisher: Furnisher,
        volumes: Volumes,
        held: HeldRoots,
    ) -> None:
        """`folder(container_id)` is where a container's own files are.

        `host_gateways` gives the addresses that `host-gateway` stands for.
        """
        self._store = store
        self._snapshots = snapshots
        self._supervisor = supervisor
        self._events = events
        self._plan = plan
        self._folder = folder
        self._facts = facts
        self._platform = platform
        self._log_default = log_default
        self._networking = networking
        self._host_gateways = host_gateways
        self._dns = dns
        self._furnisher = furnisher
        self._check_logs = check_logs
        self._volumes = volumes
        self._held = held

    async def start(self, container: Container, live: Live, *, restarts: int = 0) -> Container:
        """Start `container` and return it running; `restarts` is how often a policy did so before.

        Raises StartFailed and whatever the plan ran into; the container keeps the error.
        """
        before = container
        try:
            check_ready(container.spec.log, self._log_default)
            await self._check_logs(container)
            await self._held.settled(container.id)
            async with Undo() as undo:
                prepared = await self._networking.attach(container)
                container = self._keep(before, prepared.container)
                undo.push(self._networking.release, container)
                launch = self.prepare(container, prepared.wiring)
                # What is volatile is not written to the disk at the end.
                launch = replace(launch, keep_root=not container.spec.auto_remove)
                self._networking.attached(container)
                if live.unforgotten:
                    live.unforgotten = False
                    await self._supervisor.forget(container.id)
                undo.push(self._networking.ended, container)
                with naming_full_disk(container.name, self._folder(container.id)):
                    started = await self._launch(launch)
                undo.keep()
        except Exception as error:
            if isinstance(error, StartFailed) and error.step == "network":
                error.message = NETWORK_FAILED + error.message
            code = error.exit_code if isinstance(error, StartFailed) else 128
            text = error.message if isinstance(error, WherryError) else str(error)
            state = replace(before.state, exit_code=code, error=text)
            if before.state.status is Status.RESTARTING:
                state = move(state, Status.EXITED, finished_at=time.time_ns())
            self._store.observe(container.id, state)
            raise
        live.attached = False
        self._held.hold(container.id, started.root)
        state = move(
            container.state,
            Status.RUNNING,
            pid=started.pid,
            started_at=started.started_at,
            exit_code=0,
            error="",
            oom_killed=False,
            restart_count=restarts,
            stopped_by_user=False,
        )
        container = self._store.observe(container.id, state)
        self._networking.started(container, started.descriptors)
        if container.points:
            self._volumes.tell_mounted(container)
        self._events.record(container_event(container, "start"))
        return container

    def _keep(self, before: Container, prepared: Container) -> Container:
        """Keep what was reserved before it is used: a daemon that dies finds it again."""
        if prepared.spec != before.spec:
            self._store.save(prepared)
            return prepared
        attachments = prepared.state.attachments
        if not attachments.ports and not any(one.interface for one in attachments.endpoints):
            # Nothing that would have to be given back: the row that tells that it runs has it.
            return self._store.save_volatile(prepared.id, prepared.state)
        return self._store.save_state(prepared.id, prepared.state)

    async def _launch(self, launch: Launch) -> Started:
        if not launch.held:
            return await self._supervisor.start(launch)
        if len(launch.held) > MOST_HELD:
            raise StartFailed(
                f"{len(launch.held)} volumes with a file system of their own are too many",
                hint=f"at most {MOST_HELD} fit one container",
            )
        mounts = await self._furnisher.open(launch.held)
        try:
            return await self._supervisor.start(launch, mounts)
        finally:
            for fd in mounts:
                os.close(fd)

    def prepare(
        self, container: Container, wiring: Wiring = _NO_WIRING, extra: Sequence[Mount] = ()
    ) -> Launch:
        """Make what has to be there before a start, and return what the supervisor is asked for.

        `extra` are mounts that no spec of a container can say.
        """
        spec = container.spec
        with full(f"container {container.name}", self._folder(container.id)):
            plan = self._plan(self.runtime_spec(container, extra))
        policy = parse_log_config(spec.log, self._log_default)
        rows, columns = spec.console_size
        return Launch(
            id=container.id,
            plan=plan,
            tty=spec.tty,
            open_stdin=spec.open_stdin,
            stdin_once=spec.stdin_once,
            log=LogSettings(
                driver=policy.driver,
                directory=str(self._folder(container.id) / "logs"),
                max_size=policy.max_size,
                max_files=policy.max_files,
            ),
            rows=rows,
            columns=columns,
            wiring=wiring,
            joins=tuple((other.id, other.pid) for other in self._resolve(spec).joined),
            held=tuple(dict.fromkeys(tree.held for tree in plan.trees if tree.held)),
        )

    def describe(self, container: Container) -> str:
        """Return the start plan as text, a step a line."""
        return self._plan(self.runtime_spec(container)).describe()

    def runtime_spec(self, container: Container, extra: Sequence[Mount] = ()) -> RuntimeSpec:
        """Return what the runtime is given, the container's directories and files being made."""
        spec = container.spec
        resolved = self._resolve(spec)
        if resolved.network is not None:
            other = resolved.network
            container = replace(
                container,
                hostname=other.hostname,
                spec=replace(spec, domainname=other.domainname),
            )
        if links := self._networking.links_of(spec):
            env = merge_env(container.env, variables(container.name, links))
            container = replace(container, env=env)
        security = self.security(container, resolved)
        create_missing_sources(container.mounts)
        if any(mount.propagation.endswith(("shared", "slave")) for mount in container.mounts):
            text = Path("/proc/self/mountinfo").read_text(errors="replace")
            check_propagation(container.mounts, text)
        view = self._snapshots.prepare(container.id, container.chain)
        if spec.auto_remove:
            clear_volatile(view)
        own = resolved.namespaces.user != HOST
        emulator: Emulator | None = None
        # As with Docker, it is exec that fails then: what an image says of itself may be wrong.
        with suppress(Unsupported):
            emulator = choose_emulator(container.architecture, own=own)
        return build_spec(
            container,
            view=view,
            files=self._files(container, resolved),
            resolved=resolved,
            owner_maps=_maps_of(resolved.owner),
            security=security,
            seccomp=seccomp_program(
                security, arch=self._platform.arch, kernel=self._platform.kernel
            ),
            facts=self._facts,
            devices=read_devices(container) if spec.devices else (),
            mounts=[*self._mounts(container, mapped=own), *extra],
            emulator=emulator,
        )

    def _mounts(self, container: Container, *, mapped: bool) -> list[Mount]:
        return [
            self._furnisher.plan(mount, mapped=mapped)
            if mount.kind in (MountKind.VOLUME, MountKind.IMAGE)
            else plan_mount(mount)
            for mount in container.mounts
        ]

    def security(self, container: Container, resolved: Resolved | None = None) -> SecurityPlan:
        """Return the security of `container`, bounded by what the engine itself may do."""
        if resolved is None:
            resolved = self._resolve(container.spec)
        own = resolved.namespaces.user != HOST
        available = capabilities.ALL if own else self._facts.capabilities
        return plan_security(container.spec.security, available=available)

    def _resolve(self, spec: ContainerSpec) -> Resolved:
        return resolve_namespaces(spec, self._join)

    def _files(self, container: Container, resolved: Resolved) -> hostfiles.HostFiles:
        if resolved.network is not None:
            return hostfiles.place_files(self._folder(resolved.network.id))
        endpoints = container.state.attachments.endpoints
        resolving = hostfiles.Resolving.DIRECT
        if resolved.namespaces.network == HOST:
            resolving = hostfiles.Resolving.HOST
        elif any(endpoint.names for endpoint in endpoints):
            resolving = hostfiles.Resolving.SERVICE
        wanted = any(entry.endswith(hostfiles.HOST_GATEWAY) for entry in container.spec.extra_hosts)
        return hostfiles.write_files(
            self._folder(container.id),
            replace(container, spec=self._dns.applied(container.spec)),
            resolving,
            gateways=self._host_gateways() if wanted else (),
            lines=[
                *host_lines(self._networking.links_of(container.spec)),
                *hostfiles.own_lines(container, endpoints),
            ],
        )

    def _join(self, ref: str, noun: str) -> Joined:
        try:
            other = self._store.resolve(ref)
        except NotFound as error:
            if noun == "network":
                error.message = f"joining network namespace of container: {error.message}"
            raise
        if other.state.status not in ALIVE:
            if noun == "network":
                raise Conflict(
                    "cannot join network namespace of a non running container: "
                    f"container {other.name} is {other.state.status}"
                )
            raise Conflict(f"failed to join {noun} namespace: container {other.id} is not running")
        if noun == "IPC" and other.spec.namespaces.ipc not in ("shareable", HOST):
            raise Invalid(
                f"cannot join IPC of a container {other.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
        return Joined(
            id=other.id,
            pid=other.state.pid,
            host_user=in_host_user_namespace(other.state.pid),
            hostname=other.hostname,
            domainname=other.spec.domainname,
        )


@contextmanager
def naming_full_disk(name: str, folder: Path) -> Generator[None]:
    """Turn a start that found no space (StartFailed) into Full; `folder` is on the disk it is about."""
    try:
        yield
    except StartFailed as error:
        # Without a step, or in the network, it is a cgroup or a device that has no room.
        if error.errno not in _NO_ROOM or error.step in ("", "network"):
            raise
        raise no_room(f"container {name}, {error.step}", folder) from error


def clear_volatile(view: View) -> None:
    """Take away the mark of an earlier `volatile` mount, which overlay refuses to mount over (EINVAL).

    It stands for what a crash of the machine may have lost; a container of --rm does not outlive one.
    Source: Documentation/filesystems/overlayfs, "Volatile mount".
    """
    if view.work is not None:
        remove_path(Path(view.work) / "work" / "incompat" / "volatile")


def _maps_of(owner: Joined | None) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...]]:
    return _read_maps(owner.pid) if owner is not None else ((), ())


def _read_maps(pid: int) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...]]:
    try:
        uid_map = Path(f"/proc/{pid}/uid_map").read_text()
        return parse_map(uid_map), parse_map(Path(f"/proc/{pid}/gid_map").read_text())
    except OSError as error:
        raise Conflict("the container has just ended") from error


def in_host_user_namespace(pid: int) -> bool:
    """Return whether a process is in the first user namespace. Raises Conflict where it has ended."""
    uid_maps, _ = _read_maps(pid)
    return uid_maps == (IdMap(0, 0, _WHOLE),)


def parse_map(text: str) -> tuple[IdMap, ...]:
    """Return the lines of a uid_map or gid_map, user_namespaces(7)."""
    rows = (line.split() for line in text.splitlines())
    return tuple(IdMap(int(inside), int(outside), int(size)) for inside, outside, size in rows)
