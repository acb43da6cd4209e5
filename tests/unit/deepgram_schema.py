"""Checks messages against the published schema of Deepgram's wire."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from frontend import protocols
from frontend.errors import VoiceForgeError

SCHEMA = json.loads((Path(protocols.__file__).parent / "deepgram.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def validate(message: object) -> None:
    """As it arrives: through JSON."""
    VALIDATOR.validate(json.loads(json.dumps(message)))


def error_types(of: type[VoiceForgeError] = VoiceForgeError) -> list[type[VoiceForgeError]]:
    return [of, *(found for sub in of.__subclasses__() if sub.__module__ == of.__module__ for found in error_types(sub))]
