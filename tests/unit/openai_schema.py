"""Checks JSON against the published schema of OpenAI's REST endpoints."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from frontend import protocols

SCHEMA = json.loads((Path(protocols.__file__).parent / "openai.schema.json").read_text())


def validate(message: object, kind: str) -> None:
    """As it arrives, through JSON; `kind` is a name of the schema's `$defs`."""
    Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]}).validate(json.loads(json.dumps(message)))
