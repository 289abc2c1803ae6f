"""Images: their names, configurations and layers; how they come in and go out without a registry.

Owns the image tables and the rules of tag, rmi and prune. Refuses to run anything and to speak HTTP.
Read first: `store` (what an image is here), `making` (how a new one is made), `archive` (load and
save), `service` (the asynchronous front that the API uses).
"""
