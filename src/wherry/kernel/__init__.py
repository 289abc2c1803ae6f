"""The kernel, as calls that can be handed in. The only package that touches ctypes.

It refuses to decide anything: what to mount or to join is planned elsewhere and performed through it.
Read `calls` (the Protocol), `linux` (the real one), then `mount` and `paths`, which most others use.
"""
