"""Finals of a stream as plain text, JSON, SubRip or WebVTT."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Final = dict[str, Any]
"""A `final` message of the native protocol."""

LINE_WORDS = 12
"""A cue holds about this many words: two lines of a television subtitle."""


def _clock(seconds: float, separator: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{separator}{ms % 1000:03}"


def _cues(finals: Iterable[Final]) -> Iterable[tuple[float, float, str]]:
    for final in finals:
        words: Sequence[dict[str, Any]] = final["words"]
        if not words:
            if final["transcript"]:
                yield final["start"], final["start"] + final["duration"], final["transcript"]
            continue
        n_cues = -(-len(words) // LINE_WORDS)
        size = -(-len(words) // n_cues)
        for i in range(0, len(words), size):
            part = words[i : i + size]
            yield part[0]["start"], max(part[-1]["end"], part[0]["start"] + 0.1), " ".join(w["word"] for w in part)


def text(finals: Sequence[Final]) -> str:
    return "".join(f["transcript"] + "\n" for f in finals if f["transcript"])


def as_json(finals: Sequence[Final]) -> str:
    return (
        json.dumps(
            {"text": " ".join(f["transcript"] for f in finals if f["transcript"]), "segments": list(finals)}, indent=1
        )
        + "\n"
    )


def srt(finals: Sequence[Final]) -> str:
    return "".join(f"{i}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{t}\n\n" for i, (a, b, t) in enumerate(_cues(finals), 1))


def vtt(finals: Sequence[Final]) -> str:
    cues = ((_clock(a, "."), _clock(b, "."), html.escape(t, quote=False)) for a, b, t in _cues(finals))
    return "WEBVTT\n\n" + "".join(f"{a} --> {b}\n{t}\n\n" for a, b, t in cues)


FORMATS: dict[str, Callable[[Sequence[Final]], str]] = {"txt": text, "json": as_json, "srt": srt, "vtt": vtt}
