"""An engine without its API, for tests of the solver: `in_engine` wires it, works, and takes it down."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.harness.engine import script
from wherry.build.context.store import ContextStore
from wherry.build.service import Builds
from wherry.daemon import wiring
from wherry.daemon.config import Config
from wherry.daemon.late_builds import LateBuilds
from wherry.images.service import ImageService
from wherry.kernel.paths import remove_path
from wherry.model.build import (
    BuildRequest,
    ContextKind,
    ContextRef,
    Finished,
    Progress,
    StepCached,
    StepDone,
    StepFailed,
    StepOutput,
    StepStarted,
)
from wherry.model.errors import WherryError
from wherry.model.images import Image

T = TypeVar("T")


class Secrets:
    """Secrets by name."""

    def __init__(self, **values: bytes) -> None:
        self._values = values

    async def secret(self, name: str) -> bytes | None:
        """Return a secret."""
        return self._values.get(name)

    async def agent(self, name: str) -> str | None:
        """Return None: no agents."""
        del name


@dataclass
class Outcome:
    """What a build told."""

    events: list[Progress] = field(default_factory=list[Progress])
    error: WherryError | None = None

    @property
    def finished(self) -> Finished:
        """The end; fails where there was none."""
        assert self.error is None, self.error
        (end,) = (event for event in self.events if isinstance(event, Finished))
        return end

    @property
    def output(self) -> bytes:
        """All that commands wrote."""
        return b"".join(event.data for event in self.events if isinstance(event, StepOutput))

    def titles(self, kind: type[StepCached] | type[StepDone] | type[StepFailed]) -> list[str]:
        """The steps that had an event of this kind, those that run or copy alone."""
        wanted = ("RUN", "COPY", "ADD", "WORKDIR")
        return [
            event.step.title
            for event in self.events
            if isinstance(event, kind) and event.step.title.startswith(wanted)
        ]


class Built:
    """The engine, as tests use it."""

    def __init__(self, wired: wiring.Wired, builds: Builds, root: Path) -> None:
        images = wired.services.images
        assert isinstance(images, ImageService)
        self.images = images
        self.builds = builds
        self.root = root
        self.contexts: ContextStore = self.builds._contexts  # type: ignore[attr-defined]

    def context(
        self,
        files: Mapping[str, str],
        mtimes: Mapping[str, float] | None = None,
        epoch: int | None = None,
    ) -> ContextRef:
        """Return a context with these files; `epoch` is the time of its commit."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime, entry.mode = len(text), 1_700_000_000, 0o644
                if mtimes:
                    entry.mtime = mtimes.get(name, entry.mtime)  # type: ignore[assignment]
                archive.addfile(entry, io.BytesIO(text.encode()))
        buffer.seek(0)
        return ContextRef(ContextKind.TREE, self.contexts.receive(buffer), epoch=epoch)

    async def build(
        self,
        dockerfile: str,
        context: ContextRef | None = None,
        *,
        secrets: Secrets | None = None,
        **wanted: Any,
    ) -> Outcome:
        """Build, and return what was told."""
        contexts = {"": context} if context else {}
        request = BuildRequest(dockerfile.encode(), contexts=contexts, **wanted)
        outcome = Outcome()
        try:
            async for event in self.builds.build(request, secrets=secrets or Secrets()):
                outcome.events.append(event)
        except WherryError as error:
            outcome.error = error
        return outcome

    async def image(self, outcome: Outcome) -> Image:
        """Return the image that was built."""
        return await self.images.inspect(outcome.finished.image_id)

    def leftovers(self) -> list[str]:
        """Return what a build left lying about."""
        containers = [path.name for path in (self.root / "data/containers").iterdir()]
        scratch = [path.name for path in (self.root / "data/build/scratch").iterdir()]
        return containers + scratch


def in_engine(root: Path, work: Callable[[Built], Awaitable[T]]) -> T:
    """Run `work` in an engine below `root`, which has busybox."""

    async def run() -> T:
        wired = await wiring.build(
            # No default network: nothing of the machine is touched.
            Config(
                data_root=root / "data", exec_root=root / "run", pidfile=root / "pid", bridge="none"
            )
        )
        try:
            builds = wired.services.builds
            assert isinstance(builds, LateBuilds)
            built = Built(wired, (await builds.made()).builds, root)
            if not built.images._store.ids():  # type: ignore[attr-defined]
                async for _ in built.images.bootstrap("busybox", {}):
                    pass
            return await asyncio.wait_for(work(built), 60)
        finally:
            await wired.close()

    return asyncio.run(run())


def stop_engine(root: Path) -> None:
    """Take down all that runs of the engines below `root`."""
    roots = ["--data-root", str(root / "data"), "--exec-root", str(root / "run")]
    subprocess.run([script("wherryd"), *roots, "stop"], capture_output=True, timeout=30, check=True)


def remove_engine(root: Path) -> None:
    """Take down all that runs of the engines below `root`, and the folder."""
    stop_engine(root)
    remove_path(root)


async def until_started(events: list[Progress], title: str) -> None:
    """Wait until a step has written something."""
    async with asyncio.timeout(20):
        while not any(
            isinstance(event, StepOutput) and event.step.title == title for event in events
        ):
            await asyncio.sleep(0.01)


__all__ = [
    "Built",
    "Outcome",
    "Secrets",
    "StepStarted",
    "in_engine",
    "remove_engine",
    "stop_engine",
    "until_started",
]
