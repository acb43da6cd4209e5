"""The form and the answers of OpenAI's transcription endpoints, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.audio.format import AudioFormat
from frontend.errors import TooManyConnections, Unauthorized, UnknownLanguage, UnknownModel, VoiceForgeError
from frontend.protocols.base import RATE, StreamOptions
from frontend.protocols.openai.errors import WrongParameter, error_body, error_object
from frontend.protocols.openai.languages import CODES, NAMES, name_of
from frontend.protocols.openai.responses import Transcript, model_body, model_list, server_sent, words
from frontend.protocols.openai.transcription import Wanted, understood
from frontend.speech.events import Final, Finished, Timings, Word
from tests.unit.deepgram_schema import error_types
from tests.unit.openai_schema import SCHEMA, validate


def wanted(task: str = "transcribe", **fields: Any) -> Wanted:
    return understood({k: v if isinstance(v, list) else [v] for k, v in fields.items()}, task)


def final(text: str, start_s: float = 1.0, language: str | None = "en") -> Final:
    """Words of half a second each, of two tokens each."""
    at = round(start_s * RATE)
    told = [Word(w, at + i * RATE // 2, at + (i + 1) * RATE // 2, 0.9) for i, w in enumerate(text.split())]
    n = len(told)
    return Final(
        1, at - 1600, at + n * RATE // 2 + 1600, text, 0.9, tuple(told), Timings(), language=language,
        tokens=tuple(range(2 * n)), logprobs=(-0.25,) * (2 * n), word_tokens=(2,) * n, no_speech_probability=0.02,
    )  # fmt: skip


def told(request: Wanted, *finals: Final) -> Transcript:
    transcript = Transcript(request)
    for one in (*finals, Finished()):
        transcript.add(one)
    return transcript


ONE, TWO = final("Good morning, all."), final("It's ten.", 4.0)
BOTH = "Good morning, all. It's ten."

# --- the form -----------------------------------------------------------------------------------------------------


def test_nothing_asked_for():
    request = wanted()
    assert request.options == StreamOptions(audio=AudioFormat("auto"), language="auto", interim_results=False)
    assert request.form.response_format == "json"
    assert request.not_in_effect == ()


def test_fields_that_are_in_effect():
    vad = {"type": "server_vad", "threshold": "0.7", "prefix_padding_ms": "100", "silence_duration_ms": "400"}
    request = wanted(
        model="whisper-1", language="en", response_format="verbose_json", temperature="0",
        **{"timestamp_granularities[]": ["word", "segment"]}, **{f"chunking_strategy[{k}]": v for k, v in vad.items()},
    )  # fmt: skip
    options = request.options
    assert (options.model, options.language) == ("whisper-1", "en")
    assert (options.vad_threshold, options.pre_roll_ms, options.endpointing_ms) == (0.7, 100, 400)
    assert request.form.timestamp_granularities == ["word", "segment"]
    assert request.not_in_effect == ()
    assert wanted(chunking_strategy=json.dumps(vad)).options.vad_threshold == 0.7


def test_the_defaults_of_server_vad_are_those_of_openai_and_auto_is_ours():
    options = wanted(**{"chunking_strategy[type]": "server_vad"}).options
    assert (options.vad_threshold, options.pre_roll_ms, options.endpointing_ms) == (0.5, 300, 200)
    assert wanted(**{"chunking_strategy[type]": "server_vad", "chunking_strategy[silence_duration_ms]": "0"}).options
    assert wanted(chunking_strategy="auto").options == wanted().options


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({"language": "de"}, "de"),
        ({"language": "English"}, "en"),
        ({"languages[]": ["fr"]}, "fr"),
        ({"languages[]": ["fr", "en"]}, "multi"),
        ({"language": "de", "languages[]": ["fr", "en"]}, "de"),
        ({"language": ""}, "auto"),
    ],
)
def test_languages(fields: dict[str, Any], language: str):
    assert wanted(**fields).options.language == language


def test_the_language_table_is_one_to_one():
    assert len(NAMES) == len(CODES) == 100
    assert name_of("en") == "english"
    assert name_of("xx") == "xx"
    assert name_of(None) == "unknown"


@pytest.mark.parametrize(
    ("fields", "idle"),
    [
        ({"prompt": "Names: Ada", "temperature": "0.4"}, ("prompt", "temperature")),
        ({"keywords[]": ["Ada"], "languages[]": ["fr", "en"]}, ("keywords", "languages")),
        ({"keywords": "Ada", "languages[]": ["fr"]}, ("keywords",)),
        ({"response_format": "diarized_json"}, ("response_format=diarized_json",)),
        (
            {"known_speaker_names[]": ["a"], "known_speaker_references[]": [""]},
            ("known_speaker_names", "known_speaker_references"),
        ),
        ({"timestamp_granularities[]": ["word"]}, ("timestamp_granularities",)),
        ({"include[]": ["logprobs"]}, ()),
        ({"include[]": ["logprobs"], "response_format": "srt"}, ("include",)),
        ({"stream": "true", "response_format": "srt"}, ("response_format",)),
        ({"stream": "true", "response_format": "text", "include[]": "logprobs"}, ()),
        ({"hotwords": "x", "bad name\r\n": "y"}, ("hotwords",)),
        ({f"x{i}": "1" for i in range(100)}, tuple(f"x{i}" for i in range(20))),
    ],
)
def test_what_changes_nothing_is_named(fields: dict[str, Any], idle: tuple[str, ...]):
    assert wanted(**fields).not_in_effect == idle


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"language": "e"}, "language"),
        ({"language": "auto"}, "language"),
        ({"languages[]": ["en", "?"]}, "languages"),
        ({"stream": "perhaps"}, "stream"),
        ({"timestamp_granularities[]": ["letter"]}, "timestamp_granularities"),
        ({"include[]": ["secrets"]}, "include"),
        ({"model": "x" * 200}, "model"),
        ({"chunking_strategy": "fast"}, "chunking_strategy"),
        ({"chunking_strategy": "[1]"}, "chunking_strategy"),
        ({"chunking_strategy[type]": "client_vad"}, "chunking_strategy"),
        ({"chunking_strategy[threshold]": "0.5"}, "chunking_strategy"),
        ({"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "2"}, "chunking_strategy"),
        ({"known_speaker_names[]": ["a", "b", "c", "d", "e"]}, "known_speaker_names"),
        ({"known_speaker_references[]": [""] * 5}, "known_speaker_references"),
    ],
)
def test_wrong_values_are_refused_by_name(fields: dict[str, Any], param: str):
    with pytest.raises(WrongParameter) as refused:
        wanted(**fields)
    assert error_object(refused.value)["param"] == param
    assert str(refused.value).startswith(param)


def test_translations():
    assert wanted("translate").options.task == "translate"
    with pytest.raises(WrongParameter, match="diarized_json"):
        wanted("translate", response_format="diarized_json")
    body = told(wanted("translate", response_format="verbose_json"), final("Hello.", language="de")).body(RATE)
    assert (body["task"], body["language"]) == ("translate", "english")


NAMES_SENT = st.sampled_from(
    ["model", "language", "languages[]", "response_format", "temperature", "stream", "include[]", "chunking_strategy",
     "chunking_strategy[type]", "chunking_strategy[threshold]", "timestamp_granularities[]", "prompt", "keywords[]", "["]
) | st.text(max_size=8)  # fmt: skip


@given(st.dictionaries(NAMES_SENT, st.lists(st.text(max_size=12) | st.just("server_vad"), min_size=1, max_size=3)))
def test_any_form_is_understood_or_refused_by_name(fields: dict[str, list[str]]):
    try:
        request = understood(fields, "transcribe")
    except WrongParameter as error:
        validate(error_body(error), "error")
    else:
        assert all(name.isascii() and name.isprintable() for name in request.not_in_effect)


# --- the answers --------------------------------------------------------------------------------------------------


def test_json():
    body = told(wanted(), ONE, TWO).body(6 * RATE)
    validate(body, "json")
    assert body == {"text": BOTH, "usage": {"type": "duration", "seconds": 6.0}}


def test_log_probabilities_join_to_the_text():
    body = told(wanted(**{"include[]": ["logprobs"]}), ONE, TWO).body(6 * RATE)
    validate(body, "json")
    assert "".join(p["token"] for p in body["logprobs"]) == BOTH
    assert {p["logprob"] for p in body["logprobs"]} == {-0.5}
    assert bytes(body["logprobs"][1]["bytes"]).decode() == " morning,"


def test_languages_are_told_where_some_were_named():
    body = told(wanted(**{"languages[]": ["de", "en"]}), ONE, final("Ja.", language="de"), TWO).body(RATE)
    assert body["languages"] == [{"code": "en"}, {"code": "de"}]
    validate(body, "json")


def test_verbose_json_has_segments_unless_words_alone_are_asked_for():
    body = told(wanted(response_format="verbose_json"), ONE, TWO).body(6 * RATE)
    validate(body, "verbose_json")
    assert (body["task"], body["language"], body["duration"], body["text"]) == ("transcribe", "english", 6.0, BOTH)
    first, second = body["segments"]
    assert (first["id"], first["seek"], first["start"], first["end"]) == (0, 90, 1.0, 2.5)
    assert (second["id"], second["text"], second["avg_logprob"]) == (1, "It's ten.", -0.25)
    assert first["tokens"] == list(range(6))
    assert first["no_speech_prob"] == 0.02
    assert "words" not in body
    body = told(wanted(response_format="verbose_json", **{"timestamp_granularities[]": ["word"]}), ONE).body(RATE)
    validate(body, "verbose_json")
    assert "segments" not in body
    assert body["words"] == [
        {"word": "Good", "start": 1.0, "end": 1.5},
        {"word": "morning", "start": 1.5, "end": 2.0},
        {"word": "all", "start": 2.0, "end": 2.5},
    ]


def test_a_repeated_text_compresses():
    segments = told(wanted(response_format="verbose_json"), final("no " * 99 + "no"), ONE).body(RATE)["segments"]
    assert segments[0]["compression_ratio"] > 2.4 > segments[1]["compression_ratio"]


def test_a_mark_alone_stays_a_word():
    assert [w["word"] for w in words(final("Well - no."))] == ["Well", "-", "no"]


def test_diarized_json_has_one_speaker():
    body = told(wanted(response_format="diarized_json"), ONE, TWO).body(6 * RATE)
    validate(body, "diarized_json")
    assert [(s["id"], s["speaker"], s["text"]) for s in body["segments"]] == [
        ("seg_0", "A", "Good morning, all."), ("seg_1", "A", "It's ten."),
    ]  # fmt: skip


@pytest.mark.parametrize("format_", ["json", "verbose_json", "diarized_json"])
def test_a_recording_without_speech(format_: str):
    body = told(wanted(response_format=format_)).body(RATE)
    validate(body, format_)
    assert body["text"] == ""


def test_the_deltas_of_a_stream_join_to_its_text():
    transcript = Transcript(wanted(stream="true", **{"include[]": ["logprobs"]}))
    deltas = []
    for one in (ONE, final(""), TWO):
        if added := transcript.add(one):
            deltas += transcript.events(added)
    done = transcript.done(6 * RATE)
    for event in (*deltas, done):
        validate(event, "event")
    assert "".join(d["delta"] for d in deltas) == done["text"] == BOTH
    for delta in deltas:
        assert "".join(p["token"] for p in delta["logprobs"]) == delta["delta"]
    assert [p for d in deltas for p in d["logprobs"]] == done["logprobs"]


def test_segments_follow_the_deltas_of_a_diarized_stream():
    transcript = Transcript(wanted(stream="true", response_format="diarized_json"))
    transcript.add(ONE)
    delta, segment = transcript.events(ONE)
    validate(delta, "text_delta")
    validate(segment, "text_segment")
    assert delta["segment_id"] == segment["id"]


def test_an_event_is_one_line_of_data():
    assert (
        server_sent({"type": "x", "text": "a\nb é"}) == '{"type": "x", "text": "a\\nb é"}'.join(("data: ", "\n\n")).encode()
    )


def test_models():
    told = model_list([model_body("nano", "nano", 7), model_body("whisper-1", "nano", 7)])
    validate(told, "models")
    assert [m["owned_by"] for m in told["data"]] == ["voiceforge", "voiceforge:nano"]


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [t for t in error_types() if t.__module__ == "frontend.errors"], ids=lambda t: t.__name__)
def test_every_error_has_a_body(kind: type[VoiceForgeError]):
    validate(error_body(kind("what is wrong; what to do")), "error")


def test_errors_by_openais_names():
    assert error_object(Unauthorized("x"))["code"] == "invalid_api_key"
    assert error_object(UnknownModel("x")) == {
        "type": "invalid_request_error", "code": "model_not_found", "message": "x", "param": "model",
    }  # fmt: skip
    assert error_object(UnknownLanguage("x"))["param"] == "language"
    assert error_object(TooManyConnections("x"), "file")["param"] == "file"
    assert error_object(TooManyConnections("x"))["type"] == "server_error"


def test_the_schema_has_no_kind_that_is_not_used():
    text = json.dumps(SCHEMA)
    assert all(f'"#/$defs/{name}"' in text for name in SCHEMA["$defs"])
