"""The local driver's options `type`, `device` and `o`: what a volume mounts instead of its directory.

Mounts are made detached (fsopen, fsmount): nobody but the containers that get them sees them, and they
are gone with the last descriptor. What may have to wait for a server or a disk (nfs, cifs, ext4, …) is
mounted by a process that can be given up on.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel
from wherry.kernel.linux import LINUX
from wherry.model.containers import Pairs
from wherry.model.errors import Invalid, StartFailed
from wherry.model.volumes import Volume

PATIENCE: Final = 120.0
"""Seconds that a server or disk has to answer in."""
_KNOWN: Final = ("type", "device", "o", "size")
_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_SHARES: Final = frozenset({"cifs", "smb3"})
_NETWORK: Final = frozenset({"nfs", "nfs4"}) | _SHARES
_UNRESOLVED: Final = "error resolving passed in network volume address"
_LONGEST: Final = 64 << 10
_SOURCE: Final = str(Path(__file__).parents[2])
_HELPER: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from wherry.storage.volume_mounts import serve; serve(sys.argv[2:])"
)


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """What is mounted: a new file system of `kind`, or a directory of the host where `bind`."""

    kind: str
    device: str
    words: tuple[str, ...] = ()

    @property
    def bind(self) -> bool:
        """Whether `device` is a directory of the host."""
        return "bind" in self.words or "rbind" in self.words


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Raise Invalid, in Docker's words, for options that the local driver does not take."""
    for key in options:
        if key not in _KNOWN:
            raise Invalid(f'create {name}: invalid option: "{key}"')
    if options.get("size"):
        raise Invalid(
            f"create {name}: quota size requested but no quota support",
            hint="a tmpfs is limited by o=size=…",
        )
    if any(key in options for key in ("type", "device", "o")):
        for key in ("device", "type"):
            if key not in options:
                raise Invalid(f'create {name}: missing required option: "{key}"')


def mount_of(options: Pairs | None) -> VolumeMount | None:
    """Return what a volume with these options mounts; None where it is its own directory. Pure."""
    found = dict(options or ())
    if not found.get("device") and not found.get("type"):
        return None
    words = tuple(word for word in found.get("o", "").split(",") if word)
    return VolumeMount(found.get("type", ""), found.get("device", ""), words)


def open_volume(k: Kernel, volume: Volume, place: str) -> int:
    """Return a detached mount of what `volume`'s options name; `place` is its path, for messages.

    Blocks, for PATIENCE seconds at most. Raises StartFailed in Docker's words.
    """
    wanted = mount_of(volume.options)
    assert wanted is not None
    try:
        if wanted.bind or wanted.kind in _MEMORY:
            return perform(k, wanted)
        return _ask_helper(wanted)
    except OSError as error:
        reason = error.strerror or str(error)
        if not reason.startswith(_UNRESOLVED):
            data = render_data(mount.parse_options(wanted.words).data)
            what = f"mount {wanted.device}:{place}{data and f', data: {data}'}"
            reason = f"failed to mount local volume: {what}: {reason.lower()}"
        raise StartFailed(
            f"error while mounting volume '{place}': {reason}",
            exit_code=127 if isinstance(error, FileNotFoundError) else 128,
            errno=error.errno or 0,
        ) from error


def perform(k: Kernel, wanted: VolumeMount) -> int:
    """Return the detached mount. Raises OSError."""
    options = mount.parse_options(wanted.words)
    if wanted.bind:
        if not os.path.isabs(wanted.device):
            raise FileNotFoundError(2, "not an absolute path", wanted.device)
        tree = mount.clone_tree(k, os.fsencode(wanted.device), recursive=options.recursive)
    else:
        data = resolved(wanted, options.data)
        if options.set_ & abi.MOUNT_ATTR_RDONLY and wanted.kind not in _MEMORY:
            # The file system itself, not this mount of it alone: a disk is not written to, its journal neither.
            data = (("ro", None), *data)
        tree = mount.new_filesystem(k, wanted.kind, data, options.set_, wanted.device)
    try:
        # A copy of a shared mount is its peer: what is mounted below would show on the host's side.
        mount.change(k, tree, propagation=abi.MS_PRIVATE, recursive=options.recursive)
        if wanted.bind and (options.set_ or options.clear):
            mount.change(k, tree, set_=options.set_, clear=options.clear)
        if options.recursive_set or options.recursive_clear:
            mount.change(
                k,
                tree,
                set_=options.recursive_set,
                clear=options.recursive_clear,
                recursive=True,
            )
    except BaseException:
        os.close(tree)
        raise
    return tree


def resolved(wanted: VolumeMount, data: Iterable[mount.Option]) -> tuple[mount.Option, ...]:
    """Return the options with the server's address, for the kernel knows no names. Raises OSError.

    It is in `addr`, or else in `device`: //server/share, server:/path. So mount.cifs(8) and mount.nfs(8)
    take it; Docker does so for cifs alone.
    """
    out = list(data)
    if wanted.kind not in _NETWORK:
        return tuple(out)
    share = wanted.kind in _SHARES
    for index, (key, value) in enumerate(out):
        if key == "addr" and value:
            out[index] = ("ip" if share else key, _address(value))
    key = "ip" if share else "addr"
    if share:
        server = wanted.device.replace("\\", "/").removeprefix("//").partition("/")[0]
    else:
        server = wanted.device.partition(":/")[0].strip("[]")
    if server and not any(one == key for one, _ in out):
        out.append((key, _address(server)))
    return tuple(out)


def render_data(data: Iterable[mount.Option]) -> str:
    """Return options as one text, for messages: no password in it."""
    shown = (
        (key, "********" if value and key.startswith("pass") else value) for key, value in data
    )
    return ",".join(key if value is None else f"{key}={value}" for key, value in shown)


def _address(server: str) -> str:
    try:
        # Where a server has addresses of both kinds, Docker takes the IPv4 one.
        found = sorted(socket.getaddrinfo(server, None), key=lambda one: one[0] != socket.AF_INET)
    except OSError as error:
        raise OSError(
            error.errno, f"{_UNRESOLVED}: lookup {server}: {error.strerror or error}"
        ) from error
    return str(found[0][4][0])


def _ask_helper(wanted: VolumeMount) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            number = theirs.fileno()
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _HELPER, _SOURCE, str(number)],
                stdin=subprocess.DEVNULL,
                pass_fds=(number,),
                cwd="/",
            )
        # Not by the command line, which everyone may read: passwords are among the options.
        ours.send(json.dumps([wanted.kind, wanted.device, list(wanted.words)]).encode())
        ours.settimeout(PATIENCE)
        try:
            text, fds, _, _ = socket.recv_fds(ours, 4096, 1)
        except TimeoutError as error:
            raise OSError(110, f"no answer within {PATIENCE:.0f} s") from error
        finally:
            process.kill()
            # One that hangs in the kernel is nobody's to wait for.
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                pass
    if fds:
        os.set_inheritable(fds[0], False)
        return fds[0]
    number, _, reason = text.decode("utf-8", "replace").partition(" ")
    raise OSError(int(number or 5), reason or "the mounting process ended without a word")


def serve(arguments: list[str]) -> None:
    """Be the helper: mount what is asked for on the socket that the argument is, and send it back."""
    with socket.socket(fileno=int(arguments[0])) as channel:
        kind, device, words = json.loads(channel.recv(_LONGEST))
        try:
            tree = perform(LINUX, VolumeMount(kind, device, tuple(words)))
        except OSError as error:
            channel.send(f"{error.errno or 5} {error.strerror or error}".encode())
        else:
            socket.send_fds(channel, [b"ok"], [tree])
