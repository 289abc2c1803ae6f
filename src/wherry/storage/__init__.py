"""Bytes and trees on disk: blobs by digest, layers as archives and directories, snapshots.

Owns what lies under the engine's root: `content` (blobs), `layers` (archives), `snapshots` and
`overlay` (trees for containers), `changes` (what a container changed), `leases` (what a running
operation still needs), `durable` (the one way a file or tree becomes permanent). Refuses to mount
anything: it answers with paths, as data. Read `durable` and `snapshots` first.
"""
