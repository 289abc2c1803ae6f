"""A context that was sent is held until its build is over, or until none came."""

from __future__ import annotations

import asyncio

from tests.api.fakes import FakeContexts
from wherry.api.promises import Promises
from wherry.model.build import ContextKind, ContextRef


def test_a_build_claims_and_time_releases() -> None:
    async def work() -> None:
        contexts = FakeContexts()
        promises = Promises(contexts, 0.01)
        promises.add("")
        promises.add("one")
        promises.add("one")
        promises.add("two")
        promises.claim(ContextRef(ContextKind.TREE, "one"))
        promises.claim(ContextRef(ContextKind.OCI_LAYOUT, "two:tag@sha256:x"))
        promises.claim(ContextRef(ContextKind.TREE, "unknown"))
        promises.claim(ContextRef(ContextKind.EMPTY))
        async with asyncio.timeout(30):
            while not contexts.released:
                await asyncio.sleep(0.001)
        assert contexts.released == [ContextRef(ContextKind.TREE, "one")]

    asyncio.run(work())
