"""Frozen facts that every tier speaks of. Standard library only; no I/O; nothing here changes.

Start with `containers` (ContainerSpec is what is wanted, ContainerState what is observed), then
`oci` (what the runtime is given), `images`, `errors`.
"""
