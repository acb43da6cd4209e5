"""docs/audio.md and the schema name every encoding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frontend.audio.format import ENCODINGS

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_documented(encoding: str):
    assert (
        f"`{encoding}`" in (ROOT / "docs/audio.md").read_text()
        or f"encoding={encoding}" in (ROOT / "docs/audio.md").read_text()
    )


def test_the_schema_lists_the_encodings():
    schema = json.loads((ROOT / "frontend/protocols/native.schema.json").read_text())
    assert set(schema["$defs"]["config"]["properties"]["encoding"]["enum"]) == set(ENCODINGS)
