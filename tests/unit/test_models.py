"""Which model a client gets for the name it asks for."""

from __future__ import annotations

import pytest

from frontend.errors import UnknownModel
from frontend.inference.fake import FakeEngine
from frontend.observability.metrics import Metrics
from frontend.protocols.base import StreamOptions
from frontend.server.sessions import Services, asr_stream, model_of
from frontend.settings import Settings


def services(**settings: object) -> Services:
    loaded = ("nano", "base", "large-v3")
    return Services(FakeEngine(models=loaded), Metrics(), Settings(**settings), "nano")


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, "nano"),
        ("large-v3", "large-v3"),
        ("base", "base"),
        ("base-phonecall", "nano"),
        ("nova-3", "nano"),
        ("nova-2-medical", "nano"),
        ("whisper-1", "nano"),
        ("gpt-4o-mini-transcribe", "nano"),
        ("parrot", "parrot"),
    ],
)
def test_loaded_models_keep_their_names_and_foreign_ones_mean_the_servers(asked: str | None, given: str):
    assert model_of(services(), StreamOptions(model=asked)) == given


def test_aliases_are_the_operators():
    own = services(model_aliases={"nova-3*": "large-v3", "nova*": ""})
    assert model_of(own, StreamOptions(model="nova-3-medical")) == "large-v3"
    assert model_of(own, StreamOptions(model="nova-2")) == "nano"
    assert model_of(own, StreamOptions(model="whisper-1")) == "whisper-1"


def test_a_name_that_is_none_is_refused():
    with pytest.raises(UnknownModel, match="'parrot' is not loaded"):
        asr_stream(services(), StreamOptions(model="parrot"))
