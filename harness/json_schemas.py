"""Driver. JSON Schemas of every YAML file that a person writes, so that editors complete and check it while typing.

They are made from the same types that the loader reads with, and stand in ``harness/schemas``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.documents import ImageDefinition, Recipe, SuiteDocument
from harness.expectation import Expectations
from harness.frozen import Frozen
from harness.gate import Policy
from harness.scenario import Scenario
from harness.signature import SignatureSets
from harness.yaml_typed import SCHEMA, schema_name

FOLDER = Path(__file__).parent / "schemas"

#: Each kind of YAML file, and what it is read as.
DOCUMENTS: dict[str, type[Frozen]] = {
    "scenario": Scenario,
    "suite": SuiteDocument,
    "signatures": SignatureSets,
    "recipe": Recipe,
    "image": ImageDefinition,
    "policy": Policy,
    "expectations": Expectations,
}

#: What the loader fills in and no file may set.
HIDDEN = {"scenario": frozenset({"service_digests"})}


def yaml_schema(kind: str) -> dict[str, Any]:
    """Give the JSON Schema of one kind of YAML file."""
    schema = DOCUMENTS[kind].model_json_schema()
    properties = {
        SCHEMA: {"const": schema_name(kind), "description": "Says what this file is."},
        **{name: value for name, value in schema["properties"].items() if name not in HIDDEN.get(kind, ())},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://hts-compat.invalid/schemas/{kind}-1.json",
        **schema,
        "properties": properties,
        "required": [SCHEMA, *schema.get("required", [])],
    }


def schema_text(kind: str) -> str:
    """Give the schema as it stands in ``harness/schemas``."""
    return json.dumps(yaml_schema(kind), ensure_ascii=False, indent=1) + "\n"


def write_schemas(folder: Path = FOLDER) -> None:
    """Write all schemas; run it after a change of a document's type (a test notices when it was not)."""
    for kind in DOCUMENTS:
        (folder / f"{kind}.schema.json").write_text(schema_text(kind), encoding="utf-8")


if __name__ == "__main__":
    write_schemas()
