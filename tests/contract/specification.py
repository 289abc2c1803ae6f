"""The Engine API's OpenAPI file as something that answers can be held against.

The file is Swagger 2.0; its schemas become JSON Schema: `x-nullable` allows null, and so does every list
and map, since Go's encoder writes an empty one as null. Objects whose properties are listed may have
no others, so that a misspelt name is seen.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator

_BESIDE = Path(__file__).resolve().parents[3] / "shared/reference/engine-api-v1.51.yaml"
_METHODS = ("get", "head", "post", "put", "delete")
_NOT_SCHEMA = (
    *("example", "examples", "default", "description", "format", "enum", "title"),
    *("x-nullable", "x-go-name", "x-omitempty", "x-go-type", "x-go-custom-tag"),
)


def find_file() -> Path | None:
    """Return the OpenAPI file: where WHERRY_API_SPEC says, or beside the checkout; None without one."""
    path = Path(os.environ.get("WHERRY_API_SPEC") or _BESIDE)
    return path if path.exists() else None


@dataclass(frozen=True)
class Operation:
    """One method of one path, as in the file."""

    method: str
    path: str
    tags: tuple[str, ...]
    statuses: dict[int, dict[str, Any]]
    """Status to its `responses` entry."""
    parameters: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """`GET /containers/json`."""
        return f"{self.method} {self.path}"


class Specification:
    """The operations of the file, and what is wrong with an answer."""

    def __init__(self, path: Path) -> None:
        # The C loader takes a second for half a megabyte, the other ten.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._data: dict[str, Any] = yaml.load(path.read_text(), loader)
        raw = self._data["definitions"]
        self._definitions = {name: _schema(body, raw) for name, body in raw.items()}

    @cached_property
    def operations(self) -> dict[str, Operation]:
        """By name, as `GET /containers/json`."""
        found: dict[str, Operation] = {}
        for path, methods in self._data["paths"].items():
            for method in _METHODS:
                if (body := methods.get(method)) is None:
                    continue
                operation = Operation(
                    method.upper(),
                    path,
                    tuple(body.get("tags", ())),
                    {int(status): entry for status, entry in body["responses"].items()},
                    (*methods.get("parameters", ()), *body.get("parameters", ())),
                )
                found[operation.name] = operation
        return found

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str], Operation]]:
        fixed_first = sorted(self.operations.values(), key=lambda one: one.path.count("{"))
        return [
            (
                one.method,
                re.compile(
                    re.sub(
                        r"\\\{(\w+)\\\}",
                        lambda found: "(.+)" if found[1] == "name" else "([^/]+)",
                        re.escape(one.path),
                    )
                ),
                one,
            )
            for one in fixed_first
        ]

    def find(self, method: str, path: str) -> Operation | None:
        """Return the operation that a request without version and query is of."""
        for wanted, pattern, operation in self._patterns:
            if wanted == method and pattern.fullmatch(path):
                return operation
        return None

    def complaints(self, operation: Operation, status: int, body: Any) -> list[str]:
        """Return what `body`, decoded, has that the schema of `status` has not allowed."""
        entry = operation.statuses.get(status)
        if entry is None:
            known = ", ".join(map(str, operation.statuses))
            return [f"status {status} is not documented ({known})"]
        if (wanted := entry.get("schema")) is None:
            return []
        schema = {**_schema(wanted, self._data["definitions"]), "definitions": self._definitions}
        return [
            f"{'.'.join(map(str, error.absolute_path)) or 'the answer'}: {error.message[:200]}"
            for error in Draft4Validator(schema).iter_errors(body)
        ]

    def wants_json(self, operation: Operation, status: int) -> bool:
        """Whether the answer of `status` is one JSON value."""
        entry = operation.statuses.get(status, {})
        schema = entry.get("schema")
        return schema is not None and schema.get("type") not in ("string", "file")


def _schema(node: Any, definitions: dict[str, Any]) -> Any:
    """Return a Swagger 2.0 schema as JSON Schema, draft 4."""
    if isinstance(node, list):
        return [_schema(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        if node.get("x-nullable"):
            return {"anyOf": [{"type": "null"}, {"$ref": node["$ref"]}]}
        return {"$ref": node["$ref"]}
    if "allOf" in node and len(node["allOf"]) == 1 and "properties" not in node:
        return _schema({**node["allOf"][0], "x-nullable": node.get("x-nullable")}, definitions)
    if "allOf" in node:
        return _schema(_merged(node, definitions), definitions)
    out = {
        key: {name: _schema(body, definitions) for name, body in value.items()}
        if key == "properties"
        else _schema(value, definitions)
        for key, value in node.items()
        if key not in _NOT_SCHEMA
    }
    nullable = node.get("x-nullable") or node.get("type") in ("array", "object")
    if "enum" in node:
        out["enum"] = [*node["enum"], None] if nullable else list(node["enum"])
    if nullable and isinstance(node.get("type"), str):
        out["type"] = [node["type"], "null"]
    if "properties" in node and "additionalProperties" not in node:
        out["additionalProperties"] = False
    return out


def _merged(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the object that has the properties of every part of an allOf."""
    merged: dict[str, Any] = {key: value for key, value in node.items() if key != "allOf"}
    merged["type"] = "object"
    merged["properties"] = dict(node.get("properties", {}))
    for part in node["allOf"]:
        while "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        if "allOf" in part:
            part = _merged(part, definitions)
        merged["properties"].update(part.get("properties", {}))
        merged.setdefault("required", [])
        merged["required"] = [*merged["required"], *part.get("required", ())]
    if not merged["required"]:
        del merged["required"]
    return merged
