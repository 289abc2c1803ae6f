"""The Engine API: HTTP in, model out, and back. Owns parsing, versions, status codes and streams.

It refuses to know how anything is done: `services` declares what it needs, `daemon.wiring` supplies it.
Read `server` first (one connection), then `routes`, then `wire` (JSON to model and back).
"""
