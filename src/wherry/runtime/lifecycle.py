"""What wherry-runtime does: create, start, kill, delete, exec. Source: OCI runtime-spec 1.2, runtime.md.

create  the container's first process is made, performs its plan and waits at the gate (a FIFO)
start   one byte into the FIFO: the process execs
delete  cgroups and state go; with force, whatever still runs is killed first
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from wherry.kernel import abi
from wherry.kernel.calls import Kernel
from wherry.kernel.processes import wait_readable
from wherry.kernel.rights import passing
from wherry.model.errors import Conflict, Invalid, NotFound, StartFailed
from wherry.model.oci import Process
from wherry.runtime import slots
from wherry.runtime.bundle import Json, parse_limits, parse_process, parse_spec, read_config
from wherry.runtime.cgroups import CgroupDriver, Handle, open_cgroups
from wherry.runtime.host import Host, cgroup_mounts
from wherry.runtime.plan import Plan, plan_launch
from wherry.runtime.slots import Slot
from wherry.runtime.state import State, States, start_time

_PARENT = "wherry-runtime"
_PATIENCE = 10.0
_ANY_CHILD = 0x40000000
"""__WALL: also a child whose exit signal is not SIGCHLD (wait(2))."""
_GATE = "gate"


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where a terminal's master goes: an AF_UNIX socket that takes the descriptor."""

    socket_path: str = ""


class Runtime:
    """The verbs. One object per call of the command."""

    def __init__(self, k: Kernel, states: States) -> None:
        self._k = k
        self._states = states
        self._host = Host(k, "/", None)

    def create(
        self, identifier: str, bundle: str, terminal: Terminal, pid_file: str, *, own: bool = False
    ) -> State:
        """Make a container that waits to be started; its process is the caller's parent's, or our `own` child.

        Raises Conflict, Invalid, StartFailed, Unsupported.
        """
        bundle = os.path.abspath(bundle)
        config = read_config(bundle)
        spec = parse_spec(identifier, bundle, config)
        folder = self._states.reserve(identifier)
        try:
            driver, path = _cgroups_for(spec.cgroup_path, identifier)
            plan = replace(plan_launch(spec), cgroup_path=path)
            slot = self._make_slot(plan, driver, own=own)
            try:
                state = State(
                    identifier,
                    bundle,
                    slot.pid,
                    start_time(slot.pid),
                    datetime.datetime.now(datetime.UTC).isoformat(),
                    annotations=dict(config.get("annotations") or {}),
                    facts={
                        "cgroup": [path, path],
                        "namespaces": slots.namespace_flags(plan.profile),
                        "owner": [slot.owner, slot.group],
                    },
                )
                self._states.write(state)
                _run_hooks(config, ("prestart", "createRuntime"), state)
                self._perform(plan, slot, _make_gate(os.path.join(folder, _GATE)), terminal)
            except BaseException:
                self._kill(slot, driver, Handle(path, path))
                raise
        except BaseException:
            self._states.forget(identifier)
            raise
        if pid_file:
            with open(pid_file + ".new", "w", encoding="ascii") as file:
                file.write(str(state.pid))
            os.rename(pid_file + ".new", pid_file)
        return state

    def _make_slot(self, plan: Plan, driver: CgroupDriver, *, own: bool) -> Slot:
        """Return a slot with its maps and cgroup, told to go on."""
        mounts = cgroup_mounts(_read("/proc/self/mountinfo"))
        parent = 0 if own else abi.CLONE_PARENT
        handle = driver.create(plan.cgroup_path)
        try:
            driver.apply(handle, plan.limits)
            entrances = driver.entrances(handle)
            try:
                slot = slots.spawn_slot(self._k, plan.profile, mounts, entrances, parent=parent)
            finally:
                entrances.close()
        except BaseException:
            _remove(driver, handle)
            raise
        try:
            if plan.profile.uid_maps:
                slots.map_ids(slot, plan.profile.uid_maps, plan.profile.gid_maps)
            # A bundle's files have the owners that its maps say already: nothing is idmapped (config.md).
            self._host.go(slot, (), tell=True)
        except BaseException:
            self._kill(slot, driver, handle)
            raise
        return slot

    def _perform(self, plan: Plan, slot: Slot, gate: int, terminal: Terminal) -> None:
        """Have the child perform the plan up to the gate."""
        host = self._host
        host.send_plan(slot, plan, (0, 1, 2), -1, gate)
        if plan.process.terminal:
            _send_terminal(terminal.socket_path, host.take_terminal(slot))
        host.finish(slot)

    def _kill(self, slot: Slot, driver: CgroupDriver, handle: Handle) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(slot.pidfd, signal.SIGKILL)
        wait_readable(slot.pidfd, _PATIENCE)
        _remove(driver, handle)

    def start(self, identifier: str) -> None:
        """Let a created container's process go. Raises Conflict, NotFound."""
        state = self._states.read(identifier)
        if state.status() != "created":
            raise Conflict(f"cannot start a container in the {state.status()} state")
        config = read_config(state.bundle)
        path = os.path.join(self._states.folder(identifier), _GATE)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Conflict(f"container {identifier} does not wait to be started") from error
        self._states.write(replace(state, started=True))
        os.write(fd, b"0")
        os.close(fd)
        os.unlink(path)
        _run_hooks(config, ("poststart",), state)

    def kill(self, identifier: str, number: int, *, everyone: bool) -> None:
        """Send a signal to the container's first process, or to all. Raises Conflict, NotFound."""
        state = self._states.read(identifier)
        if everyone:
            driver, handle = _held(state)
            driver.kill_all(handle, number)
            return
        if state.status() == "stopped":
            raise Conflict(f"container {identifier} is not running")
        pidfd = os.pidfd_open(state.pid)
        try:
            signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)

    def delete(self, identifier: str, *, force: bool) -> None:
        """Remove a stopped container; with `force` any, and none is fine. Raises Conflict, NotFound."""
        try:
            state = self._states.read(identifier)
        except NotFound:
            if force:
                return
            raise
        if state.status() != "stopped" and not force:
            raise Conflict(
                f"cannot delete container {identifier} that is not stopped: {state.status()}",
                hint="stop it first, or use --force",
            )
        driver, handle = _held(state)
        driver.kill_all(handle, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE
        while state.status() != "stopped" and time.monotonic() < deadline:
            time.sleep(0.005)
        _remove(driver, handle)
        self._states.forget(identifier)
        with contextlib.suppress(Exception):
            _run_hooks(read_config(state.bundle), ("poststop",), state)

    def execute(
        self,
        identifier: str,
        process_data: Json,
        terminal: Terminal,
        pid_file: str,
        *,
        detach: bool,
    ) -> int:
        """Run a process in a running container; return its exit status, 0 when detached."""
        state = self._states.read(identifier)
        if state.status() != "running":
            raise Conflict(f"cannot exec in a {state.status()} container")
        config = read_config(state.bundle)
        process = parse_process(process_data, config.get("linux") or {})
        driver, handle = _held(state)
        pidfd = os.pidfd_open(state.pid)
        entrances = driver.entrances(handle)
        try:
            parent = abi.CLONE_PARENT if detach else 0
            spaces = int(state.facts["namespaces"])
            slot = slots.spawn_joining(self._k, pidfd, spaces, entrances, parent=parent)
        finally:
            entrances.close()
            os.close(pidfd)
        slot.owner, slot.group = state.facts["owner"]
        host = self._host
        console = master = -1
        if process.terminal:
            master, console = host.open_pty(slot)
        stdio = (console, console, console) if console >= 0 else (0, 1, 2)
        host.send_process(slot, process, stdio, console)
        host.finish(slot)
        if master >= 0:
            _send_terminal(terminal.socket_path, master)
        if pid_file:
            with open(pid_file, "w", encoding="ascii") as file:
                file.write(str(slot.pid))
        return 0 if detach else wait_for(slot.pidfd)

    def pause(self, identifier: str, *, frozen: bool) -> None:
        """Freeze or thaw all processes of a container."""
        driver, handle = _held(self._states.read(identifier))
        if frozen:
            driver.freeze(handle)
        else:
            driver.thaw(handle)

    def update(self, identifier: str, resources: Json) -> None:
        """Set limits, written as `linux.resources`; those that are not named stay. Raises NotFound, Invalid."""
        driver, handle = _held(self._states.read(identifier))
        driver.apply(handle, replace(parse_limits(resources), devices=()))

    def pids(self, identifier: str) -> list[int]:
        """Return the host's pids of a container's processes."""
        driver, handle = _held(self._states.read(identifier))
        return driver.pids(handle)


def wait_for(pidfd: int) -> int:
    """Return the exit status of a child of this process, 128+n for a signal."""
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | _ANY_CHILD)
    if status is None:
        return 0
    return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _remove(driver: CgroupDriver, handle: Handle) -> None:
    """Remove a container's cgroups, and our own parent with the last of them; others' parents stay."""
    driver.remove(handle)
    if driver.parent == _PARENT:
        driver.close()


def _cgroups_for(wanted: str, identifier: str) -> tuple[CgroupDriver, str]:
    """Return the driver and the path for `linux.cgroupsPath`; systemd's `slice:prefix:name` is written as a path."""
    if ":" in wanted:
        _, prefix, name = wanted.split(":", 2)
        wanted = f"/{_PARENT}/{prefix}-{name}"
    path = wanted.strip("/") or f"{_PARENT}/{identifier}"
    parent = path.rpartition("/")[0] or _PARENT
    if parent == path or "/" not in path:
        path = f"{parent}/{path}"
    return open_cgroups(parent), path


def _held(state: State) -> tuple[CgroupDriver, Handle]:
    path, unified = state.facts["cgroup"]
    return open_cgroups(str(path).rpartition("/")[0]), Handle(str(path), str(unified))


def _make_gate(path: str) -> int:
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _send_terminal(path: str, master: int) -> None:
    if not path:
        raise Invalid("a terminal needs --console-socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.connect(path)
        end.sendmsg([b"/dev/ptmx"], passing([master]))
    os.close(master)


def _run_hooks(config: Json, names: Sequence[str], state: State) -> None:
    hooks: dict[str, Any] = config.get("hooks") or {}
    for refused in ("createContainer", "startContainer"):
        if hooks.get(refused):
            raise StartFailed(f"hooks.{refused} is not in this version of wherry-runtime")
    for name in names:
        for hook in hooks.get(name) or ():
            result = subprocess.run(
                hook.get("args") or [hook["path"]],
                executable=hook["path"],
                env=dict(word.split("=", 1) for word in hook.get("env") or ()),
                input=json.dumps(render(state)).encode(),
                capture_output=True,
                timeout=hook.get("timeout"),
                check=False,
            )
            if result.returncode and name != "poststart":
                text = result.stderr.decode(errors="replace").strip()
                raise StartFailed(f"the {name} hook {hook['path']} failed: {text}")


def render(state: State) -> dict[str, Any]:
    """Return a state as the specification writes it."""
    status = state.status()
    return {
        "ociVersion": "1.2.0",
        "id": state.id,
        "status": status,
        "pid": state.pid if status != "stopped" else 0,
        "bundle": state.bundle,
        "annotations": state.annotations,
    }


__all__ = ["Process", "Runtime", "Terminal", "render", "wait_for"]
