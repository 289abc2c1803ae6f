"""Workflows: what is done with containers, from create to remove.

Owns the containers' rows, their states and the files that wherry writes for them; refuses to touch
namespaces, mounts or processes itself (the supervisor's business) and to know HTTP. Read
`transitions` first (the states), then `create`, `start` and `exits` (the way round), then `service`,
which is the door.
"""
