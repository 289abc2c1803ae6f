"""Networks on the host: addresses, bridges, rules and published ports, planned as data and performed.

Owns what bears the engine's name in the host's network namespace: bridges, one nftables table, sockets
that reserve ports. What is inside a container's namespace is made by the supervisor from the `Wiring`
that is planned here; what is kept over a restart is kept by `containers`, and handed in by `open`.

Read `service` (the facade), then `pools` and `addresses`, `hostlinks`, `rules`, `ports`, and `dns` for the
name service. No third-party package.
"""
