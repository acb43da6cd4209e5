"""Deepgram's wire for recordings, against the real server and the real Triton."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from tests.conftest import RATE, silence
from tests.http_site import Site
from tests.server.deepgram import RAW, TRAIN, WINDOW, post, wav
from tests.unit.deepgram_schema import validate


def test_a_recording_is_transcribed_with_everything_asked_for(deepgram, speak):
    audio = np.concatenate([speak(TRAIN).audio, silence(2.5), speak(WINDOW).audio])
    query = {"smart_format": True, "utterances": True, "search": "window", "tag": "x", "diarize": True, "model": "nova-3"}
    data = wav(audio)
    answer = post(deepgram, query=query, content=data)
    told = answer.json()
    assert answer.headers["dg-request-id"] == told["metadata"]["request_id"]
    assert told["metadata"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["metadata"]["duration"] == pytest.approx(len(audio) / RATE, abs=0.002)
    assert told["metadata"]["not_in_effect"] == ["diarize"]
    (channel,) = told["results"]["channels"]
    assert channel["alternatives"][0]["transcript"] == "The train to London leaves at half past 3. " + WINDOW
    assert [u["transcript"] for u in told["results"]["utterances"]] == [
        "The train to London leaves at half past 3.", WINDOW,
    ]  # fmt: skip
    assert len(channel["alternatives"][0]["paragraphs"]["paragraphs"]) == 2
    assert channel["search"][0]["hits"][0]["snippet"] == "window"


def test_channels_of_a_recording(deepgram, speak):
    data = wav(speak(TRAIN).audio, speak(WINDOW).audio)
    told = post(deepgram, query={"multichannel": True, "punctuate": True}, content=data).json()
    assert [c["alternatives"][0]["transcript"] for c in told["results"]["channels"]] == [TRAIN, WINDOW]


def test_samples_without_a_header(deepgram, speak):
    data = speak(TRAIN).audio.astype("<i2").tobytes()
    told = post(deepgram, query=RAW | {"punctuate": True}, content=data).json()
    assert told["results"]["channels"][0]["alternatives"][0]["transcript"] == TRAIN


def test_a_recording_is_fetched(deepgram, site: Site, speak):
    site.files["/train.wav"] = wav(speak(TRAIN).audio)
    told = post(deepgram, query={"punctuate": True}, json={"url": f"{site.url}/train.wav"}).json()
    assert told["results"]["channels"][0]["alternatives"][0]["transcript"] == TRAIN


def test_a_recording_for_a_callback_is_answered_at_once(deepgram, site: Site, speak):
    site.refuse = 1
    query = {"punctuate": True, "callback": f"{site.url}/done"}
    accepted = post(deepgram, query=query, content=wav(speak(TRAIN).audio)).json()
    (body,) = site.wait(1)
    validate(body)
    assert accepted == {"request_id": body["metadata"]["request_id"]}
    assert body["results"]["channels"][0]["alternatives"][0]["transcript"] == TRAIN


def test_a_callback_also_hears_what_went_wrong(deepgram, site: Site):
    accepted = post(deepgram, query={"callback": f"{site.url}/done"}, content=b"no audio" * 100).json()
    (body,) = site.wait(1)
    validate(body)
    assert (body["request_id"], body["err_code"]) == (accepted["request_id"], "Bad Request")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"no audio" * 100}, 400, "Bad Request"),
        ({"content": b""}, 400, "Bad Request"),
        ({"content": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"}, 400, "Bad Request"),
        ({"json": {}}, 400, "Bad Request"),
        ({"json": {"url": "http://127.0.0.1:9/x.wav"}}, 400, "REMOTE_CONTENT_ERROR"),
        ({"content": b"x", "query": {"model": "parrot"}}, 400, "Bad Request"),
        ({"content": b"x", "query": {"redact": "pci", "language": "ja"}}, 400, "Bad Request"),
        ({"content": b"x", "key": {"Authorization": "Token wrong"}}, 401, "INVALID_AUTH"),
    ],
)
def test_a_recording_that_is_refused(deepgram, request_: dict[str, Any], status: int, code: str):
    answer = post(deepgram, **request_)
    assert (answer.status_code, answer.json()["err_code"]) == (status, code)
    assert answer.headers["dg-request-id"] == answer.json()["request_id"]


def test_hosts_that_are_not_public_are_refused_by_default(start_server, site: Site):
    server = start_server()
    for url in (site.url, site.url.replace("127.0.0.1", "localhost")):
        answer = post(server, json={"url": url})
        assert (answer.status_code, answer.json()["err_code"]) == (400, "REMOTE_CONTENT_ERROR")
        answer = post(server, query={"callback": site.url}, content=b"x")
        assert (answer.status_code, answer.json()["err_code"]) == (400, "REMOTE_CONTENT_ERROR")
    assert post(server, content=b"x" * 100).status_code == 400
    assert site.received == []


def test_recordings_have_limits_and_give_their_slots_back(start_server, speak):
    server = start_server(max_upload_bytes="100000", max_connections="1")
    answer = post(server, content=b"x" * 200_000)
    assert (answer.status_code, answer.json()["err_code"]) == (413, "MESSAGE_TOO_BIG")
    assert post(server, content=wav(speak("Yes.").audio)).status_code == 200
