"""Processes and their streams: started, kept, logged, attached to, and given back after a crash.

Owns every process that a container runs, its standard streams and its logs. Refuses policy: what to
start, and when to start it again, is decided above. Three processes take part:

    wherryd --SEQPACKET supervisor.sock--> supervisor --SEQPACKET socketpair--> keeper

`keeper` holds descriptors and reaps, and does nothing else, so it does not die; `main` does the work
and may be killed at any moment; `client` is wherryd's end. Read `messages` (what is asked and
answered), then `keeper`, then `main`, `server` and `table`. Only `client` uses asyncio; all else is the
standard library, started with `-I -S`.
"""
