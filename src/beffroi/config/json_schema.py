# SPDX-License-Identifier: Apache-2.0
"""JSON Schema 2020-12 of a configuration file and of a file of tenants, for editors.

In: the structs of `schema` and `declaration`. Out: plain data. It tells form: names, types, bounds; what goes beyond, `config check` tells.
"""

from typing import Any

import msgspec

from beffroi.config.declaration import Declaration
from beffroi.config.schema import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Of a configuration file."""
    return _schema(Document, "Beffroi's configuration file")


def tenants_schema() -> dict[str, Any]:
    """Of a file of tenants."""
    return _schema(Declaration, "Beffroi's file of tenants")


def _schema(root: type[msgspec.Struct], title: str) -> dict[str, Any]:
    """Every group refuses names that are not in it, as the reader does."""
    made = msgspec.json.schema(root)
    for name, part in made["$defs"].items():
        if "properties" in part:
            part["additionalProperties"] = False
            part["title"] = f"{name[0]}{name[1:].lower()}"
            if not part["required"]:
                del part["required"]
    return {"$schema": DIALECT, "title": title, **made}
