"""The daemon: settings in, services wired together, sockets opened, signals obeyed. Nothing else lives here.

`config` turns flags and daemon.json into one Config (`options` is the table of both); `wiring` is the
only place that names concrete classes; `main` is the program. Read `main` first.
"""
