"""OCI specification to process. Owns what happens between a RuntimeSpec and execve.

It refuses to know images, networks' addresses or the API. Read `plan` (pure: what will be done, and in
which order), then `steps` (each one describes and performs itself), then `child` (the process that
performs them and becomes the container).
"""
