"""One module per resource: each turns requests into calls of services and results into responses.

`all_routes` is the table of everything; `later` holds what answers 501. Nothing here knows how
anything is done, nor what a connection is.
"""
