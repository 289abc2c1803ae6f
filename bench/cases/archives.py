"""Images and files in and out: import, save, load, commit, export, cp."""

from __future__ import annotations

from pathlib import Path

from bench.cases.case import Settings, timed
from bench.engine import TREE, Engine
from bench.rootfs import debian_tar
from bench.samples import Row

COMMITTED = "bench-commit:latest"


class Archives:
    """One tree of about 190 MB through everything that packs or unpacks it."""

    rounds = 3

    def __init__(self, settings: Settings) -> None:
        self.tree = settings.tree or debian_tar(settings.cache)
        self.scratch = settings.scratch

    def prepare(self, engine: Engine) -> None:
        pass

    def sample(self, engine: Engine) -> dict[Row, float]:
        size = f"{self.tree.stat().st_size / 1e6:.0f} MB"
        saved = self.scratch / f"saved-{engine.name}.tar"
        copied = self.scratch / f"copied-{engine.name}.tar"
        figures: dict[str, float] = {}
        try:
            with timed() as watch:
                import_tar(engine, self.tree, TREE)
            figures["import"] = watch.seconds
            with timed() as watch:
                engine.api.drain(f"/images/{TREE}/get")
            figures["save"] = watch.seconds
            engine.api.download(f"/images/{TREE}/get", saved)
            engine.remove_image(TREE)
            with timed() as watch:
                load(engine, saved)
            figures["load"] = watch.seconds
            figures |= self._with_container(engine, copied)
        finally:
            engine.remove_image(TREE)
            saved.unlink(missing_ok=True)
            copied.unlink(missing_ok=True)
        return {Row(f"{name}, {size}", "s", 2): seconds for name, seconds in figures.items()}

    def _with_container(self, engine: Engine, copied: Path) -> dict[str, float]:
        figures: dict[str, float] = {}
        container = engine.run_to_end("cp", "-a", "/usr", "/copy", image=TREE)
        path = f"/containers/{container}"
        try:
            with timed() as watch:
                engine.api.drain(f"{path}/export")
            figures["export with a copy of /usr"] = watch.seconds
            with timed() as watch:
                engine.api.drain(f"{path}/archive", path="/usr")
            figures["cp of /usr out of a container"] = watch.seconds
            engine.api.download(f"{path}/archive", copied, path="/usr")
            with timed() as watch:
                engine.api.upload("PUT", f"{path}/archive", copied, path="/tmp")
            figures["cp of /usr into a container"] = watch.seconds
        finally:
            engine.remove(container)
        # A container of its own, so that what is committed is the copy alone.
        container = engine.run_to_end("cp", "-a", "/usr", "/copy", image=TREE)
        try:
            repo, _, tag = COMMITTED.partition(":")
            with timed() as watch:
                engine.api.call("POST", "/commit", {}, container=container, repo=repo, tag=tag)
            figures["commit of a copy of /usr"] = watch.seconds
        finally:
            engine.remove(container)
            engine.remove_image(COMMITTED)
        return figures

    def finish(self, engine: Engine) -> None:
        pass


def import_tar(engine: Engine, tar: Path, name: str) -> None:
    """Import a root file system as the image `name`."""
    repo, _, tag = name.partition(":")
    answer = engine.api.upload(
        "POST", "/images/create", tar, fromSrc="-", repo=repo, tag=tag, changes="CMD sh"
    )
    _check_progress(answer)


def load(engine: Engine, tar: Path) -> None:
    """Load a saved image."""
    _check_progress(engine.api.upload("POST", "/images/load", tar, quiet=1))


def _check_progress(answer: bytes) -> None:
    # Progress is sent with status 200; a failure is a line of it.
    if b'"error"' in answer:
        raise ValueError(answer.decode(errors="replace").strip()[-300:])
