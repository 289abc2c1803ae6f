"""Base images out of the distribution's packages, without a registry.

`busybox` from the machine's static busybox, `debian` and `ubuntu` from its package mirror. Owns what
such an image contains; how it is stored is `making`'s affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from wherry.images.archive.load import layer_progress
from wherry.images.bootstrap.busybox import plan_busybox
from wherry.images.bootstrap.debian import DISTRIBUTIONS, plan_debian, run_mmdebstrap
from wherry.images.making import ImageMaker
from wherry.model.errors import Unsupported
from wherry.model.ids import DEFAULT_DOMAIN, Reference
from wherry.model.images import Image
from wherry.model.views import Progress
from wherry.storage.leftovers import remove_leftovers


class Bootstrapper:
    """Makes base images by name. Blocking."""

    def __init__(self, maker: ImageMaker, scratch: Path) -> None:
        self._maker = maker
        self._scratch = scratch

    def bootstrap(
        self,
        name: str,
        options: Mapping[str, str],
        report: Callable[[Progress], None],
        check: Callable[[], None],
    ) -> tuple[Image, Reference]:
        """Make `busybox` or `DISTRIBUTION:SUITE[-slim]` and return it with the name that it got.

        `check` is asked now and then, and raises to end it.

        Raises Invalid, Unsupported for another name or missing programs, Unavailable where the
        mirror does not answer, Full.
        """
        reference = Reference.parse(name).with_default_tag()
        family = reference.familiar_repository if reference.domain == DEFAULT_DOMAIN else ""
        progress = layer_progress("Unpacking", report)
        if family == "busybox" and not reference.digest:
            planned = plan_busybox(reference, options)
            image = self._maker.make(None, planned.write_layer, planned.new, progress)
        elif family in DISTRIBUTIONS and not reference.digest:
            wanted = plan_debian(reference, options)
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            image = self._maker.make(
                None,
                lambda out: run_mmdebstrap(wanted, self._scratch, out, report, check),
                wanted.new,
                progress,
            )
        else:
            raise Unsupported(
                f"no way to bootstrap {name!r}",
                hint="busybox, debian:SUITE[-slim] and ubuntu:SUITE are known",
            )
        return image, reference

    def clear(self) -> None:
        """Remove what a killed bootstrap left."""
        if self._scratch.is_dir():
            remove_leftovers(self._scratch)
