"""What integration tests share: a private engine, the two clients, and the account of leftovers.

Refuses to know any resource of the API: tests say what they want through the clients.
Read `engine` first; `tests/conftest.py` turns these into fixtures.
"""
