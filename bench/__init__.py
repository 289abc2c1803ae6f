"""Measures any engine that speaks the Engine API, or two of them alternately, from outside.

Owns no knowledge of wherry's code and imports none of it: `api` speaks HTTP over the socket,
`engine` the few resources needed, `cases` hold what is measured, `samples` turns figures into a
table. Read `run` first; docs/performance.md says how to use it.
"""
