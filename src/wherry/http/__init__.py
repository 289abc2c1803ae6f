"""A small HTTP/1.1 server on asyncio: connections, framing, streamed bodies. Knows no API.

The Engine API and the registry stand on it, each with its `style`: the header fields that every answer
carries, and how an error looks. It refuses to route, to parse JSON, or to know what is served. Read
`messages` first, then `connection`. Why it is not a library: docs/decisions/0007.
"""
