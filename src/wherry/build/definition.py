"""A graph as the list of operations that BuildKit's provenance holds: sources, execs, file actions. Pure.

[source debian] > [exec make] > [file copy /out] > …      each names the operations that it takes from
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from wherry.build.steps import (
    AddStep,
    ConfigStep,
    CopyStep,
    FromContext,
    FromImage,
    FromStage,
    Graph,
    MountKind,
    RunMount,
    RunStep,
    Scratch,
    Source,
    Stage,
    Step,
    WorkdirStep,
)
from wherry.images.config import parse_platform
from wherry.model.build import BuildRequest
from wherry.model.ids import Digest, Reference
from wherry.model.images import Image, Platform

Object = dict[str, object]
_NETWORKS = {"host": 1, "none": 2}
_MOUNTS = {MountKind.SECRET: 1, MountKind.SSH: 2, MountKind.CACHE: 3, MountKind.TMPFS: 4}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; `lines` is where it stands in the Dockerfile, first and last, 1-based."""

    id: str
    what: Object
    platform: Platform | None
    inputs: tuple[str, ...]
    lines: tuple[int, int] | None = None

    @property
    def digest(self) -> str:
        """What stands for it."""
        return str(Digest.of(json.dumps(self.wire(), sort_keys=True).encode()))

    def wire(self) -> Object:
        """Return its JSON."""
        op: Object = {"Op": self.what}
        if self.platform is not None:
            runs: Object = {"Architecture": self.platform.architecture, "OS": self.platform.os}
            if self.platform.variant:
                runs["Variant"] = self.platform.variant
            op["platform"] = runs
        if self.what:
            op["constraints"] = {}
        wire: Object = {"id": self.id, "op": op}
        if self.inputs:
            wire["inputs"] = [f"{name}:0" for name in self.inputs]
        return wire


def definition(
    graph: Graph, request: BuildRequest, images: Mapping[FromImage, Image]
) -> tuple[Operation, ...]:
    """Return the operations in an order in which each comes after those that it takes from."""
    writing = _Writing(graph, request, images)
    last = writing.stage(graph.stage(graph.target))
    writing.add({}, None, (last,) if last else ())
    return tuple(writing.found)


class _Writing:
    def __init__(
        self, graph: Graph, request: BuildRequest, images: Mapping[FromImage, Image]
    ) -> None:
        self._graph = graph
        self._request = request
        self._images = images
        self._stages: dict[int, str] = {}
        self._sources: dict[Source, str] = {}
        self.found: list[Operation] = []

    def add(
        self,
        what: Object,
        platform: Platform | None,
        inputs: tuple[str, ...],
        lines: tuple[int, int] | None = None,
    ) -> str:
        """Add one; return its id."""
        made = Operation(f"step{len(self.found)}", what, platform, inputs, lines)
        self.found.append(made)
        return made.id

    def stage(self, stage: Stage) -> str:
        """Return the id of what a stage comes to; "" for nothing."""
        if stage.index not in self._stages:
            span = stage.instruction.span
            at = self.source(stage.base, (span.first_line, span.last_line))
            for step in stage.steps:
                at = self._step(step, stage, at)
            self._stages[stage.index] = at
        return self._stages[stage.index]

    def source(self, source: Source, lines: tuple[int, int] | None = None) -> str:
        """Return the id of where files come from; "" for nothing."""
        what: Object
        platform: Platform | None
        match source:
            case FromStage(index):
                return self.stage(self._graph.stage(index))
            case Scratch():
                return ""
            case FromImage():
                what, platform = self._image(source)
            case FromContext(name):
                what = {"source": {"identifier": f"local://{name or 'context'}"}}
                platform = None
            case _:
                assert_never(source)
        if source not in self._sources:
            self._sources[source] = self.add(what, platform, (), lines)
        return self._sources[source]

    def _image(self, source: FromImage) -> tuple[Object, Platform]:
        name = str(Reference.parse(source.reference).with_default_tag())
        image = self._images.get(source)
        pinned = f"@{image.manifest}" if image is not None and "@" not in name else ""
        return {"source": {"identifier": f"docker-image://{name}{pinned}"}}, parse_platform(
            source.platform
        )

    def _step(self, step: Step, stage: Stage, at: str) -> str:
        span = step.common.instruction.span
        lines = None if step.common.from_base else (span.first_line, span.last_line)
        match step:
            case ConfigStep():
                return at
            case WorkdirStep():
                made: Object = {"path": step.path, "mode": 0o755, "makeParents": True}
                return self._file({"mkdir": made | {"timestamp": -1}}, at, "", lines)
            case RunStep():
                return self._run(step, stage, at, lines)
            case CopyStep() | AddStep():
                return self._copy(step, at, lines)
            case _:
                assert_never(step)

    def _file(self, action: Object, at: str, other: str, lines: tuple[int, int] | None) -> str:
        inputs = tuple(name for name in (at, other) if name)
        wire: Object = {
            "input": 0 if at else -1,
            "secondaryInput": len(inputs) - 1 if other else -1,
            "output": 0,
            "Action": action,
        }
        return self.add({"file": {"actions": [wire]}}, None, inputs, lines)

    def _copy(self, step: CopyStep | AddStep, at: str, lines: tuple[int, int] | None) -> str:
        for file in step.files:
            made: Object = {"path": step.destination, "mode": 0o644, "name": file.name}
            at = self._file({"mkfile": made | {"timestamp": -1}}, at, "", lines)
        for path in step.sources:
            wire: Object = {"src": path, "dest": step.destination, "mode": -1}
            wire |= {
                "followSymlink": True,
                "dirCopyContents": True,
                "createDestPath": True,
                "allowWildcard": True,
                "allowEmptyWildcard": True,
                "timestamp": -1,
            }
            if step.chown:
                wire["owner"] = {"user": step.chown}
            if step.chmod:
                wire["modeStr"] = step.chmod
            if step.excludes:
                wire["excludePatterns"] = list(step.excludes)
            if isinstance(step, AddStep) and step.unpack is not False:
                wire["attemptUnpackDockerCompatibility"] = True
            at = self._file({"copy": wire}, at, self.source(step.origin), lines)
        return at

    def _run(self, step: RunStep, stage: Stage, at: str, lines: tuple[int, int] | None) -> str:
        inputs = [at] if at else []
        mounts: list[Object] = [{"dest": "/"} if at else {"input": -1, "dest": "/"}]
        for mount in step.mounts:
            other = self.source(mount.origin) if mount.origin is not None else ""
            if other and other not in inputs:
                inputs.append(other)
            mounts.append(_mount(mount, inputs.index(other) if other else -1))
        meta: Object = {"args": list(step.argv), "env": list(step.key_env), "cwd": step.working_dir}
        if step.user:
            meta["user"] = step.user
        wire: Object = {"meta": meta, "mounts": mounts}
        network = self._request.network if step.network == "default" else step.network
        if network in _NETWORKS:
            wire["network"] = _NETWORKS[network]
        if step.insecure:
            wire["security"] = 1
        return self.add({"exec": wire}, stage.platform, tuple(inputs), lines)


def _mount(mount: RunMount, place: int) -> Object:
    wire: Object = {"input": place, "dest": mount.target}
    if mount.source and mount.kind is not MountKind.CACHE:
        wire["selector"] = mount.source
    if mount.read_only:
        wire["readonly"] = True
    if mount.kind in _MOUNTS:
        wire["mountType"] = _MOUNTS[mount.kind]
    if mount.kind is MountKind.CACHE:
        wire["cacheOpt"] = {"ID": mount.id, "sharing": mount.sharing.value}
    if mount.kind in (MountKind.SECRET, MountKind.SSH):
        asked: Object = {"ID": mount.id, "mode": 0o400 if mount.mode is None else mount.mode}
        if not mount.required:
            asked["optional"] = True
        wire["secretOpt" if mount.kind is MountKind.SECRET else "sshOpt"] = asked
    return wire
