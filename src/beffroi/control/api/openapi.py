# SPDX-License-Identifier: Apache-2.0
"""The description of the admin API as OpenAPI 3.1, from the same structs that read and write it.

In: operations. Out: a document, served at `/api/v1/openapi.json`, committed as `docs/reference/openapi.json`.
"""

import re
from typing import Any

import msgspec

from beffroi import __version__
from beffroi.control.api.operation import MOST, ORGANISATION, PAGE, Listed, Operation
from beffroi.control.api.problems import Problem

_PARTS = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{name}"
_JSON, _PROBLEM = "application/json", "application/problem+json"


def answer_of(operation: Operation) -> Any:
    """The type of the whole answer."""
    if operation.paged:
        return Listed[operation.answer]  # type: ignore[name-defined]
    return operation.answer


def document(operations: tuple[Operation, ...], prefix: str) -> dict[str, Any]:
    """The description of those that the port answers."""
    shown = [each for each in operations if each.needs is not None]
    types: list[Any] = [Problem]
    for each in shown:
        types += [kind for kind in (answer_of(each), each.ask) if kind is not None]
        types += [field.type for field in _fields(each)]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = {_name(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for each in shown:
        paths.setdefault(prefix + each.path, {})[each.method.lower()] = _operation(each, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Beffroi admin API",
            "version": __version__,
            "description": "Organisations, keys, limits and what happens in them. How it is used: docs/reference/admin-api.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8401"}],
        "security": [{"adminKey": []}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(each) for each in shown)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "adminKey": {"type": "http", "scheme": "bearer", "description": "An admin key, `bfa-…`."}
            },
        },
    }


def _fields(operation: Operation) -> tuple[msgspec.structs.FieldInfo, ...]:
    return () if operation.query is None else msgspec.structs.fields(operation.query)


def _name(kind: Any) -> str:
    return repr(kind)


def _tag(operation: Operation) -> str:
    return operation.path.split("/")[1]


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _identifier(operation),
        "tags": [_tag(operation)],
        "summary": operation.summary,
        "description": f"Needs `{operation.needs}`.",
        "parameters": list(_parameters(operation, schemas)),
        "responses": _responses(operation, schemas),
    }
    if operation.ask is not None:
        empty = not any(field.required for field in msgspec.structs.fields(operation.ask))
        schema = schemas[_name(operation.ask)]
        found["requestBody"] = {"required": not empty, "content": {_JSON: {"schema": schema}}}
    return found


def _identifier(operation: Operation) -> str:
    words = [operation.method.lower(), *(part.strip("{}") for part in operation.path.split("/") if part)]
    return "_".join(word.replace("-", "_") for word in words)


def _parameters(operation: Operation, schemas: dict[str, Any]) -> Any:
    for name in _PARTS.findall(operation.path):
        yield _parameter(name, "path", {"type": "string", "minLength": 1, "maxLength": 200}, required=True)
    yield _parameter(
        "organisation",
        "query",
        {"type": "string", "pattern": ORGANISATION},
        "The organisation acted on, where the key is the operator's; `*` to list those of all.",
    )
    if operation.paged:
        limit = {"type": "integer", "minimum": 1, "maximum": MOST, "default": PAGE}
        yield _parameter("limit", "query", limit, "Objects of a page.")
        yield _parameter("cursor", "query", {"type": "string"}, "`next` of the page before.")
    for field in _fields(operation):
        yield _parameter(field.encode_name, "query", schemas[_name(field.type)], required=field.required)
    if operation.method in ("PATCH", "DELETE", "POST", "PUT"):
        pattern = {"type": "string", "pattern": '^("[0-9]{1,18}"|\\*)$'}
        yield _parameter("If-Match", "header", pattern, "The ETag that it must still have; else 412.")
    if operation.method == "POST" and not operation.repeats:
        key = {"type": "string", "pattern": "^[!-~]{1,200}$"}
        yield _parameter("Idempotency-Key", "header", key, "The same key gets the same answer for a day.")


def _parameter(
    name: str, where: str, schema: dict[str, Any], description: str = "", *, required: bool = False
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "in": where, "required": required, "schema": schema}
    return found | ({"description": description} if description else {})


def _responses(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    well: dict[str, Any] = {"description": "Done." if operation.status != 202 else "Begun."}
    if operation.status != 204:
        kind = answer_of(operation)
        well["content"] = {_JSON: {"schema": {} if kind is None else schemas[_name(kind)]}}
    problem = {"content": {_PROBLEM: {"schema": schemas[_name(Problem)]}}}
    return {
        str(operation.status): well,
        "401": {"description": "No admin key, or none that is good.", **problem},
        "429": {"description": "Too many calls, or wrong keys, from one address; see Retry-After.", **problem},
        "4XX": {"description": "Refused; `code` and `detail` say why.", **problem},
        "503": {"description": "Not now; see Retry-After.", **problem},
    }
