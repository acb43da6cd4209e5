"""Turns of a Realtime transcription: what was said becomes items, each told to begin, to be committed, and to be complete.

An item is an utterance, however many finals it takes; with `turn_detection: null` it is what was sent up to a commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from frontend.protocols.base import RATE, Body
from frontend.protocols.openai.realtime_items import Item
from frontend.protocols.openai.realtime_session import SessionConfig
from frontend.speech.events import Event, Final, Finished, Flushed, NothingSaid, Partial, SpeechEnded, SpeechStarted

TRANSCRIPTION = "conversation.item.input_audio_transcription"


class Turns:
    """Gives the bodies of server events, without their ids. `beta`: by the older names."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._open: Item | None = None
        """What is being said."""
        self._committed: deque[Item] = deque()
        """Items that wait for finals, in the order of speech, as finals come."""
        self._last: str | None = None
        self._forgotten = 0
        """Where the last clear was."""

    def tell(self, event: Event, config: SessionConfig, *, beta: bool) -> list[Body]:
        match event:
            case SpeechStarted(at) if not config.manual:
                self._open = self._item()
                start = max(0, at - (config.options.pre_roll_ms or 0) * RATE // 1000)
                return [_of(self._open, "input_audio_buffer.speech_started", audio_start_ms=_ms(start))]
            case SpeechEnded(at) if self._open and not config.manual:
                told = _of(self._open, "input_audio_buffer.speech_stopped", audio_end_ms=_ms(at))
                return [told, *self._commit(self._open, beta=beta)]
            case Flushed(at, discarded=True):
                self._forgotten, self._open = at, None
                return [{"type": "input_audio_buffer.cleared"}]
            case Flushed(ended=ended) if config.manual or not ended:
                item = self._open or self._item()
                item.on_request = True
                return self._commit(item, beta=beta)
            case Partial():
                item = self._current(config)
                return self._add(item, event, config) if item else []
            case Final():
                return self._final(event, config)
            case NothingSaid() if self._committed and not self._committed[0].on_request:
                return [self._complete(config)]
            case Finished() if self._open and self._open.text:
                # The server ends the session: what was heard and not committed is told as if it were.
                return [*self._commit(self._open, beta=beta), self._complete(config)]
            case _:
                return []

    def failed(self, error: Body) -> list[Body]:
        """Of items whose finals will not come."""
        return [_of(item, f"{TRANSCRIPTION}.failed", content_index=0, error=error) for item in self._committed]

    def _current(self, config: SessionConfig) -> Item | None:
        """The open item; without server turns there is always one."""
        if self._open is None and config.manual:
            self._open = self._item()
        return self._open

    def _final(self, event: Final, config: SessionConfig) -> list[Body]:
        waiting = self._committed[0] if self._committed else None
        item = waiting or self._current(config)
        told = self._add(item, event, config) if item else []
        if waiting and event.start >= waiting.since and (event.requested if waiting.on_request else event.ends_utterance):
            told.append(self._complete(config))
        return told

    def _add(self, item: Item, event: Partial | Final, config: SessionConfig) -> list[Body]:
        """Nothing of what was cleared."""
        delta, logprobs = item.add(event) if event.start >= item.since else ("", [])
        more: Body = {"logprobs": logprobs} if config.logprobs else {}
        return [_of(item, f"{TRANSCRIPTION}.delta", content_index=0, delta=delta, **more)] if delta else []

    def _item(self) -> Item:
        return Item(self._new_id(), self._forgotten)

    def _commit(self, item: Item, *, beta: bool) -> list[Body]:
        """The turn is over: its audio is an item, whose text is still to follow."""
        before, self._last, self._open = self._last, item.id, None
        self._committed.append(item)
        body: Body = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        kinds = ["conversation.item.created"] if beta else ["conversation.item.added", "conversation.item.done"]
        return [
            _of(item, "input_audio_buffer.committed", previous_item_id=before),
            *({"type": kind, "previous_item_id": before, "item": body} for kind in kinds),
        ]

    def _complete(self, config: SessionConfig) -> Body:
        """Of the first item that waits."""
        item = self._committed.popleft()
        more: Body = {"logprobs": item.logprobs} if config.logprobs else {}
        told = {"content_index": 0, "transcript": item.text, "usage": item.usage(), **more}
        return _of(item, f"{TRANSCRIPTION}.completed", **told)


def _of(item: Item, kind: str, **fields: object) -> Body:
    return {"type": kind, "item_id": item.id, **fields}


def _ms(samples: int) -> int:
    return round(samples * 1000 / RATE)
