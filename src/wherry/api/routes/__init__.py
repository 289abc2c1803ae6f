"""One module per resource: each turns requests into calls of services and results into responses.

`api.application` puts their tables together; `later` holds what answers 501. Nothing here knows how
anything is done, nor what a connection is. Read `containers` first.
"""
