"""A client whose every answer is held against the OpenAPI file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tests.contract.specification import Operation, Specification
from tests.engine.raw import Answer, Api

VERSION = "v1.51"

# Streams of JSON objects, one a line.
_LINES = {"GET /events"}
# What the file forbids and Docker Engine 28.5 itself answers.
_WAIVED: dict[str, tuple[str, ...]] = {
    "GET /containers/{id}/json": (r"MemorySwappiness: None",),
    "GET /exec/{id}/json": (r"ExitCode: None",),
}


class Checked:
    """`call("GET", "/containers/json")`; `seen` are the operations that answered with success."""

    def __init__(self, specification: Specification, socket: str) -> None:
        self.specification = specification
        self.seen: set[str] = set()
        self.complaints: list[str] = []
        self.api = Api(socket)

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        /,
        *,
        expect: int | tuple[int, ...] = (200, 201, 204, 304),
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Any:
        """Ask, check, and return the answer decoded: a value of JSON, or bytes."""
        where = f"/{VERSION}{quote(path)}" + (f"?{urlencode(query)}" if query else "")
        answer = self.api(method, where, body, version="", kind=kind, timeout=60, headers=headers)
        expected = (expect,) if isinstance(expect, int) else expect
        assert answer.status in expected, f"{method} {path}: {answer.status} {answer.body[:400]!r}"
        operation = self.specification.find(method, path)
        assert operation is not None, f"{method} {path} is not in the file"
        return self._check(operation, answer)

    def note(self, method: str, path: str, status: int) -> None:
        """A stream was opened by hand: its status is checked, and the operation counts as seen."""
        operation = self.specification.find(method, path)
        assert operation is not None, f"{method} {path} is not in the file"
        if status not in operation.statuses:
            self.complaints.append(f"{operation.name}: status {status} is not documented")
        self.seen.add(operation.name)

    def _check(self, operation: Operation, answer: Answer) -> Any:
        status = answer.status
        if status < 400:
            self.seen.add(operation.name)
        value: Any = answer.body
        found: list[str] = []
        if operation.name in _LINES and status < 400:
            for line in answer.body.splitlines():
                found += self.specification.complaints(operation, status, json.loads(line))
        elif self.specification.wants_json(operation, status):
            value = json.loads(answer.body)
            found = self.specification.complaints(operation, status, value)
        if status not in operation.statuses:
            found = [f"status {status} is not documented"]
        waived = _WAIVED.get(operation.name, ())
        for text in found:
            if not any(re.search(pattern, text) for pattern in waived):
                self.complaints.append(f"{operation.name} {status}: {text}")
        return value
