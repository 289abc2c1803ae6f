"""Pull and push: images between the store and registries.

Owns the order of things (what to fetch, what is here already, what to send), sharing and resuming.
Speaks to registries by `wherry.registry.client`, to disks by `storage`. Read first: `pull`, `push`;
`service` is the asynchronous front that the API uses.
"""
