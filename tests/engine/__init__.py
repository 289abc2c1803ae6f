"""The whole engine through its front doors: real containers, the unmodified docker client, docker-py, raw HTTP.

Every expectation here was first proved on Docker 28.5: with WHERRY_TEST_HOST=unix://… in the
environment the same tests run against the engine behind that socket instead of a private wherryd.
Where wherry differs from Docker on purpose, the test says both through the `either` fixture.
Read `conftest` first.
"""
