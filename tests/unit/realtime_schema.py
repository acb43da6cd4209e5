"""Checks events against the published schema of OpenAI's Realtime wire."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from frontend.protocols import openai

SCHEMA = json.loads((Path(openai.__file__).parent / "realtime.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def validate(event: object) -> None:
    """As it arrives: through JSON."""
    VALIDATOR.validate(json.loads(json.dumps(event, allow_nan=False, ensure_ascii=False).encode()))
