"""Images in archives: what `docker load` takes and `docker save` gives.

Two layouts, often both in one archive: Docker's (`manifest.json`, before that `repositories`) and
OCI's (`index.json`). A body on a socket cannot be read twice and has its parts in any order, so
`spool` stores it while reading, once, hashing on the way; `docker`, `legacy` and `oci` then find the
images in it, as data; `load` unpacks and registers them. `save` writes. Archives are hostile.
"""
