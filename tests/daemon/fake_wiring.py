"""wherryd with fakes in the place of containers and images: `python -m tests.daemon.fake_wiring OPTIONS`."""

from __future__ import annotations

import os
import sys
import types

from wherry.api.services import Services
from wherry.daemon.config import Config
from wherry.daemon.main import main
from wherry.model.errors import Unsupported


class Wired:
    """Fakes; says on standard error when it is let go of."""

    def __init__(self) -> None:
        # Here, since it imports asyncio, which wherryd imports in a way of its own.
        from tests.api.fakes import fake_services

        self.services: Services = fake_services()

    def reload(self, config: Config) -> None:
        print("fakes follow", config.labels, file=sys.stderr)

    async def close(self) -> None:
        print("fakes closed", file=sys.stderr)


async def build(_: Config, *, ending: bool = False) -> Wired:
    if "WHERRY_FAKE_FAILURE" in os.environ:
        raise Unsupported("this machine is a fake")
    return Wired()


if __name__ == "__main__":
    wiring = types.ModuleType("wherry.daemon.wiring")
    wiring.build = build  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules["wherry.daemon.wiring"] = wiring
    sys.exit(main())
