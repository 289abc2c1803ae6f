"""The page of what is compatible says what the tests hold."""

from __future__ import annotations

from tests.contract.compatibility import OPERATIONS, PAGE, reasons, render


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == render(), "run: python -m tests.contract.compatibility"


def test_what_is_uncovered_is_an_operation_and_has_a_reason() -> None:
    operations = {line.partition("\t")[0] for line in OPERATIONS.read_text().splitlines()}
    assert reasons().keys() <= operations
    assert all(reasons().values())
