"""The mounts of a container that does not run, opened for docker cp: detached, and seen by nobody else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from wherry.containers.runtime_spec import View
from wherry.kernel import abi, mount
from wherry.kernel.calls import Kernel
from wherry.kernel.overlays import Overlay, open_overlay
from wherry.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, open_in_root
from wherry.kernel.workshop import attached, copy_part
from wherry.model.containers import MountKind, MountSpec
from wherry.model.errors import WherryError
from wherry.model.ids import Digest
from wherry.model.volumes import Volume
from wherry.runtime.stage import Stage, is_directory, place
from wherry.storage.volume_mounts import mount_of, open_volume

_INSIDE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS


class Snapshots(Protocol):
    """What is used of the snapshotter."""

    def view(self, chain: Sequence[Digest]) -> View: ...


class Volumes(Protocol):
    """What is used of the volumes' storage."""

    def get(self, name: str) -> Volume: ...
    def path(self, name: str) -> Path: ...
    def ensure(self, name: str) -> Path: ...


class MountTrees:
    """Opens binds, volumes and images."""

    def __init__(self, kernel: Kernel, snapshots: Snapshots, volumes: Volumes) -> None:
        self._kernel = kernel
        self._snapshots = snapshots
        self._volumes = volumes

    def is_shared(self, wanted: MountSpec) -> bool:
        """Whether it is a volume's own file system, which those that run with it have among them."""
        if wanted.kind is not MountKind.VOLUME:
            return False
        found = mount_of(self._volumes.get(wanted.volume).options)
        return found is not None and not found.bind

    def open(self, wanted: MountSpec) -> int:
        """Return a detached mount of what `wanted` shows. Raises OSError, StartFailed, NotFound."""
        k = self._kernel
        recursive = False
        match wanted.kind:
            case MountKind.BIND:
                recursive = not wanted.non_recursive
                whole = mount.clone_tree(k, os.fsencode(wanted.source), recursive=recursive)
            case MountKind.VOLUME:
                volume = self._volumes.get(wanted.volume)
                if mount_of(volume.options) is None:
                    whole = mount.clone_tree(k, os.fsencode(self._volumes.ensure(volume.name)))
                else:
                    whole = open_volume(k, volume, str(self._volumes.path(volume.name)))
            case MountKind.IMAGE:
                whole = self._image(wanted.chain)
            case MountKind.TMPFS:
                raise OSError(22, "a tmpfs has no content before its container runs")
        try:
            tree = self._below(whole, wanted.subpath)
            try:
                mount.change(k, tree, propagation=abi.MS_PRIVATE, recursive=recursive)
                if wanted.read_only:
                    mount.change(k, tree, set_=abi.MOUNT_ATTR_RDONLY, recursive=recursive)
            except BaseException:
                os.close(tree)
                raise
        finally:
            os.close(whole)
        return tree

    def _image(self, chain: Sequence[Digest]) -> int:
        layers = tuple(os.fsencode(path) for path in self._snapshots.view(chain).lowers)
        if len(layers) == 1:
            return mount.clone_tree(self._kernel, layers[0])
        return open_overlay(self._kernel, Overlay(layers))

    def _below(self, whole: int, subpath: str) -> int:
        if not subpath:
            return os.dup(whole)
        spot = open_in_root(whole, subpath, os.O_PATH, resolve=_INSIDE)
        try:
            return copy_part(self._kernel, whole, spot)
        finally:
            os.close(spot)

    def attach_all(self, root: int, wanted: Sequence[MountSpec], *, making: bool) -> set[str]:
        """Attach what can be attached to the detached mount `root`; return the targets that were.

        Links of the container's lead nowhere outside of it. With `making` missing targets are made.
        Kernels before 6.15 attach nothing to what is attached nowhere itself, so `root` is meanwhile.
        """
        opened: list[tuple[MountSpec, int]] = []
        try:
            for one in sorted(wanted, key=lambda each: each.target.rstrip("/").count("/")):
                if one.kind is MountKind.TMPFS or self.is_shared(one):
                    continue
                with contextlib.suppress(OSError, WherryError):
                    opened.append((one, self.open(one)))
            if not opened:
                return set()
            if done := self._attach_opened(root, opened, making=making):
                return done
            with attached(self._kernel, root):
                return self._attach_opened(root, opened, making=making)
        finally:
            for _, tree in opened:
                os.close(tree)

    def _attach_opened(
        self, root: int, opened: Sequence[tuple[MountSpec, int]], *, making: bool
    ) -> set[str]:
        done: set[str] = set()
        for one, tree in opened:
            with contextlib.suppress(OSError):
                spot = self._place(root, one.target, tree, making=making)
                try:
                    mount.attach(self._kernel, tree, spot)
                finally:
                    os.close(spot)
                done.add(one.target)
        return done

    def _place(self, root: int, target: str, tree: int, *, making: bool) -> int:
        try:
            return open_in_root(root, target, os.O_PATH)
        except FileNotFoundError:
            if not making:
                raise
        stage = Stage(self._kernel, root, root)
        return place(stage, target, directory=is_directory(tree))
