"""A registry that needs nothing else: OCI distribution specification 1.1 over a folder.

What a request names is parsed by `targets`, `ranges` and `documents`, which do no I/O. `storage` is the
Protocol of a back end, `folder` the one that there is; `repositories` gives its records the meaning of
tags, manifests and referrers, `sessions` keeps unfinished uploads, `sweep` collects what nothing refers
to. `access` decides who may do what. `application` answers requests, `program` is the command. It
refuses to look into layers. Read `application` first.
"""
