"""The socket by which a build's step reaches the client's ssh agent."""

from __future__ import annotations

import asyncio
import os

from wherry.api.building import AgentSocket


def test_a_step_has_so_many_connections_and_no_more() -> None:
    """A Dockerfile may be anybody's: each connection takes descriptors of the engine."""

    async def work() -> None:
        asked = 0
        never = asyncio.Event()

        async def connect() -> object:
            nonlocal asked
            asked += 1
            await never.wait()
            return None

        agent = AgentSocket(connect)
        await agent.open()
        writers: list[asyncio.StreamWriter] = []
        try:
            async with asyncio.timeout(20):
                for _ in range(64):
                    writers.append((await asyncio.open_unix_connection(agent.path))[1])
                while asked < 64:
                    await asyncio.sleep(0)
                reader, writer = await asyncio.open_unix_connection(agent.path)
                writers.append(writer)
                assert await reader.read() == b""
            assert asked == 64
        finally:
            for writer in writers:
                writer.close()
            await agent.close()
        assert not os.path.exists(agent.path)

    asyncio.run(work())
