"""The name service at 127.0.0.11: names of neighbours answered, everything else forwarded.

`wherry-names` is a process of its own (`process`, `service`), so that answers go on while wherryd restarts.
It has the sockets that the supervisor opened inside each container's network namespace, and is told what it
knows by wherryd's `client` over a socket below the exec root. `message` is the codec, `zone` what the names
mean, `answer` and `forward` the two ways to an answer, `relay` the way in for ports published on `[::1]`.
Everything but `client` is standard library without asyncio: the process stays small.
"""
