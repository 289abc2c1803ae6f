"""What an engine says that is in no swarm, in Docker's words."""

from __future__ import annotations

NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this '
    "node to swarm and try again."
)
