"""The distribution protocol: how images go over the wire.

`names` and `media` are the grammar that both sides share. `server` is a registry that needs nothing
else. What an image is, the engine's own store knows: nothing here unpacks a layer or runs anything.
Source: OCI distribution specification 1.1 and Docker's image manifest version 2, schema 2.
"""
