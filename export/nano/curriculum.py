"""What training sees, and when: clean and short at first, then all that may happen to speech."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Curriculum:
    """What one stretch of training sees; see `STAGES`."""

    max_s: float = 12.0
    easy_only: bool = False
    distort: float = 1.0
    spec: float = 1.0
    batch_s: float = 96.0
    span: int | None = None
    formants: float = 0.0
    """Share of utterances whose formants are moved."""
    microphone: float = 0.0
    """Share that is heard through another microphone."""
    pace: float = 0.0
    """Share that is spoken now faster, now slower."""
    crowd: float = 0.0
    """Share in which others talk, if there is noise at all."""
    sounds: float = 0.0
    """Share of the other noise that was recorded, where `sounds.py` has gathered any."""
    languages: Mapping[str, float] = field(default_factory=lambda: {"en": 12 / 7})
    """How often each is heard, of those that there are; 1 where none is said. English beside four others: 30 %."""
    rare: float = 0.0
    """Share of utterances that are drawn by how rare their words are; see `pools.py`."""
    engines: Mapping[str, float] = field(default_factory=dict[str, float])
    """Share of the utterances drawn that is heard, by who made them ("espeak"); all of those that are not named."""
    recorded: float = 0.07
    """Share of real speech."""
    spliced: float = 0.0
    """Share of real speech that is put together from halves of two recordings, where their words have times."""
    joined: float = 0.12
    """Chance that another sentence follows, and another."""
    closed_up: float = 0.0
    """Share of those that follow without a pause."""
    quietest_db: float = 8
    """Signal to noise ratio at the least."""
    noisy: float = 0.0
    """Share in which it is less than 15 dB, if there is noise at all."""
    spec_recorded: float | None = None
    """As `spec`, of real speech, of which there is so little."""
    single: float = 0.0
    """Share of which a word or two are heard, nothing else; numbers rather than other words."""
    cut_off: float = 0.0
    """Share that begins in the middle of a sentence."""
    prompted: float = 0.0
    """Share of those whose beginning is told as what was said before, and of others that are told what has nothing to do
    with them."""
    long: float = 0.0
    """Share of utterances padded to Whisper's 30 s window."""

    def of(self, batch: int) -> Curriculum:
        """The same with batches so many times as large."""
        return replace(self, batch_s=self.batch_s * batch)


_EASY = Curriculum(max_s=4, easy_only=True, distort=0, spec=0, batch_s=64, span=16)
_VOICES = replace(_EASY, easy_only=False, max_s=5, distort=0.3, span=24)
_SENTENCES = replace(_VOICES, max_s=12, distort=0.4, spec=0.1, batch_s=72, span=None)
_REAL = replace(_SENTENCES, distort=0.8, formants=0.4, recorded=0.15, joined=0.4, long=0.02)
_CUT = replace(_REAL, joined=0.6, cut_off=0.15)
_WORDS = replace(_CUT, distort=0.9, joined=0.5, cut_off=0.1, single=0.12, quietest_db=4)
_SPLICED = replace(_WORDS, spliced=0.75)
_OUTSIDE = replace(
    _SPLICED,
    spec_recorded=0.6,
    formants=0.5,
    microphone=0.4,
    pace=0.5,
    cut_off=0.15,
    prompted=0.7,
    quietest_db=3,
    noisy=0.5,
    crowd=0.25,
)
_FLUENT = replace(
    _OUTSIDE, distort=1.0, prompted=0.0, rare=0.5, closed_up=0.4, single=0.18, noisy=0.6, recorded=0.12, joined=0.55
)

STAGES: list[tuple[int, Curriculum]] = [
    (0, _EASY),
    (700, _VOICES),
    (1750, replace(_VOICES, span=48)),
    (3000, replace(_VOICES, span=100, max_s=8)),
    (4600, _SENTENCES),
    (6700, _REAL),
    (11600, _CUT),
    (13900, _WORDS),
    (17850, _SPLICED),
    (20400, _OUTSIDE),
    (25000, _FLUENT),
    (30700, replace(_FLUENT, recorded=0.2, long=0.03, engines={"espeak": 0.12, "pico": 0.4})),
    (32100, replace(_FLUENT, recorded=0.25, single=0.2, long=0.03, engines={"espeak": 0.4, "pico": 0.4})),
    (
        35600,
        replace(
            _FLUENT,
            recorded=0.3,
            single=0.2,
            long=0.03,
            engines={"espeak": 0.4, "pico": 0.4},
            sounds=0.7,
            distort=1.25,
            noisy=0.75,
        ),
    ),
]
"""The step from which on each is seen, in English."""

_FOREIGN = replace(_SPLICED, distort=0.6, joined=0.4, single=0.05, quietest_db=6)
_FOREIGN_WORDS = replace(
    _FOREIGN, languages={"en": 1.5, "fr": 1.4, "it": 1.2, "de": 0.8, "es": 0.8}, rare=0.6, formants=0.5, pace=0.3
)
_FOREIGN_OUTSIDE = replace(
    _FOREIGN_WORDS,
    languages={"en": 2.0, "fr": 1.2, "it": 1.2, "de": 0.8, "es": 0.8},
    distort=0.8,
    quietest_db=4,
    microphone=0.3,
    spec_recorded=0.6,
    rare=0.5,
    closed_up=0.3,
)
MULTILINGUAL: list[tuple[int, Curriculum]] = [
    (
        0,
        Curriculum(
            max_s=5, distort=0.3, spec=0, batch_s=64, formants=0.2, recorded=0.1, spliced=0.75, joined=0, single=0.05
        ),
    ),
    (1200, _FOREIGN),
    (5200, _FOREIGN_WORDS),
    (10800, _FOREIGN_OUTSIDE),
    (
        16500,
        replace(
            _FOREIGN_OUTSIDE,
            languages={"en": 3.0, "fr": 1.0, "it": 1.0, "de": 0.7, "es": 0.7},
            engines={"espeak": 0.2, "pico": 0.25},
        ),
    ),
    (
        17100,
        replace(
            _FOREIGN_OUTSIDE,
            languages={"en": 3.4, "fr": 1.0, "it": 0.9, "de": 0.7, "es": 0.7},
            engines={"espeak": 0.3, "pico": 0.3},
            recorded=0.12,
            noisy=0.5,
            single=0.1,
        ),
    ),
]
"""Of a run that `multilingual.py` began: the encoder can hear already, but four languages are spelled first in short, clean
sentences."""
