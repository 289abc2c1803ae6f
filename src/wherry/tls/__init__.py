"""TLS beside the program instead of in it: plain bytes on a socket pair, ciphertext on the network.

Who speaks HTTP here hands its connection's descriptor to others (a hijacked attach goes to the
supervisor), and half-closes it. Neither can be done to a TLS connection, so TLS ends one hop before: `pump`
carries between the two sockets, half-close included, and `terminator` is the daemon's process of many
pumps. It refuses to know HTTP. Read `pump` first.
"""
