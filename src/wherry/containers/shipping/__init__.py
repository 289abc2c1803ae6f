"""Logs sent elsewhere: syslog, gelf, fluentd, journald.

The supervisor writes a container's output to files, whatever the driver; here the files are read as they
grow and sent on. So a collector that is slow or gone holds up no container, `docker logs` works with
every driver, and a kill -9 of anything loses no line: the place reached is kept beside the logs.

`options` (checked at create) > `shipper` (a task a container) > `syslog`, `gelf`, `fluentd`, `journald`
(an entry to bytes, pure) > `sinks` (the sockets). Source: docker-run(1), "Logging drivers".
"""
