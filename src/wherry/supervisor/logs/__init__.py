"""A container's output on disk: written by the supervisor, read by wherryd and by attached clients.

Owns the logs folder of a container. Refuses formats on disk: output is stored as it came, with an index
of when each piece came, and is rendered when read. Read `segment` (the files), then `writer`,
`cursor` (an attached client's place) and `reader` (`docker logs`).
"""
