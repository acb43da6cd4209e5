"""OpenAI's own clients against the real server, with nothing changed but base URL and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.conftest import TRAIN, WINDOW
from tests.unit.openai_schema import validate

Run = Callable[..., Any]
BOTH = f"{TRAIN} {WINDOW}"
CLIENTS = pytest.mark.parametrize("client", ["python_openai", "javascript_openai"])


@CLIENTS
def test_every_response_format(run: Run, client: str):
    told = run(client, "whole")
    assert all(answer["idle"].startswith("prompt, temperature") for answer in told.values())
    for format_ in ("json", "verbose_json", "diarized_json"):
        validate(json.loads(told[format_]["raw"]), format_)
        assert told[format_]["text"] == BOTH
    assert told["text"]["text"] == f"{BOTH}\n"
    first, second = told["srt"]["text"].strip().split("\n\n")
    assert first.startswith("1\n00:00:00,")
    assert first.endswith(f"\n{TRAIN}")
    assert second.endswith(f"\n{WINDOW}")
    assert told["vtt"]["text"].startswith("WEBVTT\n\n00:00:00.")
    if client == "python_openai":
        types = {format_: answer["type"] for format_, answer in told.items()}
        assert types == {
            "json": "Transcription", "text": "str", "srt": "str", "vtt": "str", "verbose_json": "TranscriptionVerbose",
            "diarized_json": "TranscriptionDiarized",
        }  # fmt: skip


@CLIENTS
def test_words_and_segments_and_log_probabilities(run: Run, client: str):
    told = run(client, "whole")
    verbose = json.loads(told["verbose_json"]["raw"])
    assert (verbose["task"], verbose["language"]) == ("transcribe", "english")
    assert [s["text"] for s in verbose["segments"]] == [TRAIN, WINDOW]
    assert [w["word"] for w in verbose["words"]] == BOTH.replace(".", "").split()
    starts = [w["start"] for w in verbose["words"]]
    assert starts == sorted(starts)
    assert verbose["words"][-1]["end"] <= verbose["duration"]
    for segment in verbose["segments"]:
        assert segment["tokens"]
        assert segment["avg_logprob"] < 0
    assert "".join(p["token"] for p in json.loads(told["json"]["raw"])["logprobs"]) == BOTH
    assert {s["speaker"] for s in json.loads(told["diarized_json"]["raw"])["segments"]} == {"A"}
    assert "response_format=diarized_json" in told["diarized_json"]["idle"]


@CLIENTS
def test_nothing_but_file_and_model(run: Run, client: str):
    told = run(client, "default")
    validate(told, "json")
    assert told["text"] == BOTH


@CLIENTS
def test_streams_add_to_what_they_told(run: Run, client: str):
    for events in run(client, "stream").values():
        for event in events:
            validate(event, "event")
        deltas = [e["delta"] for e in events if e["type"] == "transcript.text.delta"]
        assert len(deltas) == 2
        assert events[-1]["type"] == "transcript.text.done"
        assert "".join(deltas) == events[-1]["text"] == BOTH


@CLIENTS
def test_segments_of_a_diarized_stream(run: Run, client: str):
    events = run(client, "stream")["diarized"]
    segments = [e for e in events if e["type"] == "transcript.text.segment"]
    assert [(s["text"], s["speaker"]) for s in segments] == [(TRAIN, "A"), (WINDOW, "A")]
    assert [s["id"] for s in segments] == [e["segment_id"] for e in events if e["type"] == "transcript.text.delta"]


@CLIENTS
def test_models(run: Run, client: str):
    told = run(client, "models")
    validate({"object": "list", "data": told["list"]}, "models")
    owners = {m["id"]: m["owned_by"] for m in told["list"]}
    assert owners["nano"] == told["ours"]["owned_by"] == "voiceforge"
    assert owners["whisper-1"] == owners["gpt-4o-transcribe"] == told["theirs"]["owned_by"] == "voiceforge:nano"


@CLIENTS
def test_what_is_refused(run: Run, client: str):
    told = run(client, "refusals")
    for refusal in told.values():
        validate(refusal["body"], "error")
        assert refusal["type"] == "invalid_request_error"
    assert {why: (r["class"], r["status"], r["code"], r["param"]) for why, r in told.items()} == {
        "translation": ("BadRequestError", 400, "unsupported_task", None),
        "model": ("NotFoundError", 404, "model_not_found", "model"),
        "empty": ("BadRequestError", 400, "invalid_audio_format", "file"),
        "no audio": ("BadRequestError", 400, "invalid_audio_format", "file"),
        "no audio to stream": ("BadRequestError", 400, "invalid_audio_format", "file"),
        "too large": (other(client), 413, "message_too_big", None),
        "format": ("BadRequestError", 400, "invalid_config", "response_format"),
        "retrieve": ("NotFoundError", 404, "model_not_found", "model"),
    }
    assert "cannot translate; it can transcribe" in told["translation"]["body"]["error"]["message"]


def other(client: str) -> str:
    """What a client makes of a status that it has no class for."""
    return "APIStatusError" if client == "python_openai" else "APIError"


@CLIENTS
def test_a_wrong_key(run: Run, client: str):
    for refusal in run(client, "wrong_key", key="wrong").values():
        assert (refusal["class"], refusal["status"], refusal["code"]) == ("AuthenticationError", 401, "invalid_api_key")
        validate(refusal["body"], "error")
