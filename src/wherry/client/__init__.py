"""The Engine API from the caller's side: addresses, HTTP/1.1, upgraded streams, errors by kind.

Refuses: knowing what a container is, and anything that is shown to a person (`wherry.cli` does that).
Read first: `engine.Engine`, then `http.Connection`.

The modules here are on the path of every `wherry` command, so they import only what CPython has
already loaded or has in C: no `socket`, `json`, `re`, `typing` or `dataclasses`, which together cost
more than a whole request.
"""
