"""JSON to model and back, one module per subject. No I/O, and no JSON dictionary travels beyond it.

Read `codec` first. Names in structs are those on the wire, so that no table of renames is needed.
Source: Engine API v1.51, and the answers of Docker 28.5 where the description is silent.
"""
