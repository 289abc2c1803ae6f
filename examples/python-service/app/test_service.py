"""The build fails where these do."""

import unittest

from app.service import answer


class Answers(unittest.TestCase):
    def test_hello(self) -> None:
        self.assertEqual(answer("/hello/you"), (200, {"hello": "you"}))

    def test_nothing(self) -> None:
        self.assertEqual(answer("/x")[0], 404)
