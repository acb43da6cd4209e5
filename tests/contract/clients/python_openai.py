"""openai 3 as an application uses it. Prints what happened as JSON."""

import asyncio
import json
import sys

import openai

task = json.loads(sys.argv[1])
place = {"base_url": f"http://{task['host']}/v1", "api_key": task["key"]}
client = openai.OpenAI(**place)
FORMATS = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 300}


def recording():
    return open(task["wav"], "rb")


def whole() -> dict:
    """What came over the wire, and what the client made of it."""
    told = {}
    for format_ in FORMATS:
        more = {"timestamp_granularities": ["word", "segment"]} if format_ == "verbose_json" else {}
        more |= {"include": ["logprobs"]} if format_ == "json" else {}
        answer = client.audio.transcriptions.with_raw_response.create(
            file=recording(), model="gpt-4o-transcribe", response_format=format_, language="en", temperature=0.2,
            prompt="Trains.", chunking_strategy=VAD, **more,
        )  # fmt: skip
        parsed = answer.parse()
        text = parsed if isinstance(parsed, str) else parsed.text
        idle = answer.headers["x-voiceforge-not-in-effect"]
        told[format_] = {"raw": answer.text, "type": type(parsed).__name__, "text": text, "idle": idle}
    return told


def default() -> dict:
    return client.audio.transcriptions.create(file=recording(), model="whisper-1").to_dict()


def stream() -> dict:
    plain = client.audio.transcriptions.create(
        file=recording(), model="gpt-4o-mini-transcribe", stream=True, include=["logprobs"], chunking_strategy="auto"
    )
    diarized = client.audio.transcriptions.create(
        file=recording(), model="gpt-4o-transcribe-diarize", stream=True, response_format="diarized_json"
    )
    return {
        "plain": [e.to_dict() for e in plain],
        "diarized": [e.to_dict() for e in diarized],
        "async": asyncio.run(stream_async()),
    }


async def stream_async() -> list:
    async with openai.AsyncOpenAI(**place) as other:
        events = await other.audio.transcriptions.create(file=recording(), model="gpt-4o-transcribe", stream=True)
        return [e.to_dict() async for e in events]


def models() -> dict:
    return {
        "list": [m.to_dict() for m in client.models.list()],
        "ours": client.models.retrieve("nano").to_dict(),
        "theirs": client.models.retrieve("whisper-1").to_dict(),
    }


def refusals() -> dict:
    speech = client.audio.transcriptions
    return {
        "translation": refused(lambda: client.audio.translations.create(file=recording(), model="whisper-1")),
        "model": refused(lambda: speech.create(file=recording(), model="parrot")),
        "empty": refused(lambda: speech.create(file=("a.wav", b""), model="whisper-1")),
        "no audio": refused(lambda: speech.create(file=("a.wav", b"no audio" * 100), model="whisper-1")),
        "no audio to stream": refused(
            lambda: speech.create(file=("a.wav", b"no audio" * 100), model="whisper-1", stream=True)
        ),
        "too large": refused(lambda: speech.create(file=("a.wav", bytes(30_000_000)), model="whisper-1")),
        "format": refused(lambda: speech.create(file=recording(), model="whisper-1", response_format="xml")),
        "retrieve": refused(lambda: client.models.retrieve("parrot")),
    }


def wrong_key() -> dict:
    return {
        "models": refused(client.models.list),
        "speech": refused(lambda: client.audio.transcriptions.create(file=recording(), model="whisper-1")),
    }


def refused(ask) -> dict:
    try:
        ask()
    except openai.APIStatusError as error:
        told = {"type": error.type, "code": error.code, "param": error.param}
        return {"class": type(error).__name__, "status": error.status_code, "body": error.response.json(), **told}
    raise AssertionError("was not refused")


sys.stdout.write(json.dumps({f.__name__: f for f in (whole, default, stream, models, refusals, wrong_key)}[task["do"]]()))
