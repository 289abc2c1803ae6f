"""The distribution protocol: how images go over the wire.

`names` and `media` are the grammar that both sides share. `server` is a registry that needs nothing
else. The client's side, blocking and without TLS until a registry wants it: `client` (a repository's
manifests and blobs), over `session` (connections, redirects, `auth`), over `dialling` and `messages`
(HTTP); `hosts` and `endpoints` say where a registry is reached and how it is trusted.
What an image is, the engine's own store knows: nothing here unpacks a layer or runs anything.
Source: OCI distribution specification 1.1 and Docker's image manifest version 2, schema 2.
"""
