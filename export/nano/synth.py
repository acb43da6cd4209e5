"""Speech synthesis with what the engines know about time: phones and words with their ends.

- espeak-ng through its C library (`libespeak-ng.so.1`): events give each phone's and word's start in ms.
- flite through its command line: `-psdur` prints each phone with its end time; it does not say where words end.
- festival in batches through a Scheme script that writes the wave, the segments and the words of each utterance.
- hibari, a neural voice, in `neural.py`.
- SVOX Pico through its command line: the most natural of them, and it tells nothing but the sound. Trained with where it is
  installed; no test set is spoken by it.

All return 16 kHz mono int16. Debian packages: espeak-ng, flite, festival, festvox-kallpc16k, festvox-us-slt-hts, and of
`non-free` libttspico-utils (Apache-2.0; its voices come without what they were made from).
"""

from __future__ import annotations

import ctypes
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from export.nano.languages import LANGUAGES, Language

SAMPLE_RATE = 16_000
Pcm = npt.NDArray[np.int16]
Span = tuple[str, float, float]  # label, start_s, end_s


@dataclass(frozen=True)
class Voice:
    """One voice of one engine; `rate` and `pitch` are relative, 1.0 is the engine's own."""

    engine: str
    name: str
    rate: float = 1.0
    pitch: float = 1.0


@dataclass
class Utterance:
    """`audio` int16 (n,) at 16 kHz; phones and words where the engine tells them, else empty."""

    text: str
    voice: str
    audio: Pcm
    phones: list[Span] = field(default_factory=list)
    words: list[Span] = field(default_factory=list)
    language: str = "en"


FLITE_VOICES = ("rms", "slt", "awb", "kal16")
FESTIVAL_VOICES = ("cmu_us_slt_arctic_hts", "kal_diphone")
ESPEAK_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-us-nyc", "en-gb-scotland", "en-029")
ESPEAK_VARIANTS = (
    "", "f1", "f2", "f3", "f4", "m1", "m2", "m3", "m4", "m5", "klatt2", "linda", "steph", "belinda", "adam", "edward",
    "john", "michael", "paul", "victor", "max", "Andrea", "Alicia", "Annie", "Mike", "Denis",
)  # fmt: skip
VARIED, N_VARIED = "varied", 500
PICO = {"en": ("en-US", "en-GB"), "de": ("de-DE",), "es": ("es-ES",), "fr": ("fr-FR",), "it": ("it-IT",)}
UNSEEN_ACCENTS = ("en-gb-x-gbclan", "en-gb-x-gbcwmd")
UNSEEN_VARIANTS = ("f5", "m6", "m7", "m8", "iven", "robert", "Gene", "Marco", "travis", "steph3", "quincy", "aunty")


def easy_voice(r: random.Random, language: str = "en") -> Voice:
    """One of four of English that are the easiest to understand."""
    if language != "en":
        raise ValueError(f"easy voices speak English, not {language!r}")
    name = r.choice(["rms", "slt", "kal16", "en-us"])
    return Voice("espeak" if name == "en-us" else "flite", name)


def seen_voice(r: random.Random, language: str = "en") -> Voice:
    """A random voice of those that are trained with and tested."""
    if language != "en":
        return _foreign_voice(r, LANGUAGES[language], ESPEAK_VARIANTS)
    rate, pitch = r.uniform(0.85, 1.25), r.uniform(0.85, 1.2)
    x = r.random()
    if x < 0.56:
        return Voice("flite", r.choice(["rms", "rms", "slt", "slt", "awb", "kal16"]), rate, pitch)
    if x < 0.60:
        return Voice("festival", r.choice(FESTIVAL_VOICES), rate)
    accent = r.choice(ESPEAK_ACCENTS[:4] if r.random() < 0.8 else ESPEAK_ACCENTS[4:])
    variant = r.choice(ESPEAK_VARIANTS)
    return Voice("espeak", f"{accent}+{variant}" if variant else accent, rate, pitch)


def varied_voice(r: random.Random, language: str = "en") -> Voice:
    """One of `N_VARIED` voices, to train with, that espeak-ng does not have itself; see `variant`."""
    accents = ESPEAK_ACCENTS if language == "en" else LANGUAGES[language].accents
    number = r.randrange(N_VARIED)
    return Voice("espeak", f"{r.choice(accents)}+{VARIED}{number:03d}", r.uniform(0.8, 1.25), r.uniform(0.85, 1.2))


def pico_voice(r: random.Random, language: str = "en") -> Voice:
    """One of SVOX Pico's, to train with; see `has_pico`."""
    return Voice("pico", r.choice(PICO[language]), r.uniform(0.8, 1.3), r.uniform(0.75, 1.35))


def diphone_voice(r: random.Random, language: str) -> Voice:
    """One of festival's, whose joins make them the hardest to understand."""
    return Voice("festival", r.choice(LANGUAGES[language].festival), r.uniform(0.85, 1.2))


def concatenative_voice(r: random.Random, language: str = "en") -> Voice:
    """One of flite's and festival's, to train with: more than half of the voices tested, and misheard twice as often as
    espeak-ng's."""
    if language != "en":
        raise ValueError(f"these voices speak English, not {language!r}")
    rate, pitch = r.uniform(0.85, 1.25), r.uniform(0.85, 1.2)
    if r.random() < 0.12:
        return Voice("festival", r.choice(FESTIVAL_VOICES), rate)
    return Voice("flite", r.choice(FLITE_VOICES), rate, pitch)


def has_pico() -> bool:
    return shutil.which("pico2wave") is not None


def variant(number: int) -> str:
    """A voice variant of espeak-ng's as the text of its file: pitch, vocal tract, formants, breath, all at random.

    The format: espeak-ng's docs/voices.md.
    """
    r = random.Random(number)
    high = r.random() < 0.5
    pitch = r.uniform(130, 230) if high else r.uniform(60, 135)
    tract = r.uniform(1.0, 1.22) if high else r.uniform(0.84, 1.06)
    lines = [
        "language variant",
        f"name {VARIED}{number:03d}",
        f"gender {'female' if high else 'male'}",
        f"pitch {pitch:.0f} {pitch * r.uniform(1.2, 1.8):.0f}",
        f"flutter {r.randint(0, 12)}",
        f"roughness {r.choice([0, 0, 1, 2, 3, 4])}",
        f"voicing {r.uniform(70, 180):.0f}",
        f"consonants {r.uniform(70, 150):.0f} {r.uniform(70, 150):.0f}",
    ]
    for k in range(9):
        frequency = 100 * tract * r.uniform(0.93, 1.07)
        loudness = r.uniform(60, 130) if k < 3 else r.uniform(25, 110)
        lines.append(f"formant {k} {frequency:.0f} {loudness:.0f} {r.uniform(70, 170):.0f}")
    if r.random() < 0.3:
        lines.append("breath " + " ".join(f"{r.uniform(0, 10):.0f}" for _ in range(8)))
    if r.random() < 0.3:
        lines.append(f"tone 600 {r.uniform(150, 255):.0f} 1200 {r.uniform(80, 255):.0f} 2000 {r.uniform(50, 200):.0f}")
    if r.random() < 0.15:
        lines.append(f"echo {r.uniform(20, 140):.0f} {r.uniform(3, 15):.0f}")
    return "\n".join(lines) + "\n"


def unseen_voice(r: random.Random, language: str = "en") -> Voice:
    """A random voice that `seen_voice` never gives."""
    if language != "en":
        return _foreign_voice(r, replace(LANGUAGES[language], festival=()), UNSEEN_VARIANTS)
    accent = r.choice(UNSEEN_ACCENTS + ESPEAK_ACCENTS[:3])
    return Voice("espeak", f"{accent}+{r.choice(UNSEEN_VARIANTS)}", r.uniform(0.85, 1.2), r.uniform(0.85, 1.2))


def _foreign_voice(r: random.Random, language: Language, variants: Sequence[str]) -> Voice:
    rate, pitch = r.uniform(0.85, 1.2), r.uniform(0.85, 1.2)
    if language.festival and r.random() < 0.3:
        return Voice("festival", r.choice(language.festival), rate)
    accent, variant = r.choice(language.accents), r.choice(variants)
    return Voice("espeak", f"{accent}+{variant}" if variant else accent, rate, pitch)


def to_16k(audio: Pcm, rate: int) -> Pcm:
    """Resamples int16 mono to 16 kHz."""
    if rate == SAMPLE_RATE:
        return audio
    out = soxr.resample(audio.astype(np.float32), rate, SAMPLE_RATE, quality="HQ")
    return np.clip(np.round(out), -32768, 32767).astype(np.int16)


# --- espeak-ng ----------------------------------------------------------------------------------------------------


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_WORD, _PHONEME = 1, 7


def _linked(data: Path, folder: Path) -> Path:
    """espeak-ng's data as links in `folder`, but for the folder of voice variants, which is returned: it may have more."""
    variants = folder / "espeak-ng-data" / "voices" / "!v"
    variants.mkdir(parents=True)
    for source, target in (
        (data, variants.parents[1]),
        (data / "voices", variants.parent),
        (data / "voices" / "!v", variants),
    ):
        for entry in source.iterdir() if source.is_dir() else ():
            if not (target / entry.name).exists():
                (target / entry.name).symlink_to(entry)
    return variants


class _Espeak:
    """One espeak-ng per process: the library keeps its state in globals."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libespeak-ng.so.1")
        self._folder = tempfile.TemporaryDirectory()
        self._start(None)
        data = ctypes.c_char_p()
        self._lib.espeak_Info(ctypes.byref(data))
        self._lib.espeak_Terminate()
        self._variants = _linked(Path((data.value or b"").decode()), Path(self._folder.name))
        self.rate = self._start(self._folder.name.encode())
        self._callback = _Callback(self._collect)
        self._lib.espeak_SetSynthCallback(self._callback)
        self._chunks: list[Pcm] = []
        self._phones: list[tuple[str, int]] = []
        self._words: list[tuple[int, int, int]] = []

    def _start(self, folder: bytes | None) -> int:
        """With the data below `folder`; returns samples a second."""
        rate = self._lib.espeak_Initialize(2, 400, folder, 1)  # AUDIO_OUTPUT_SYNCHRONOUS, phoneme events
        if rate <= 0:
            raise RuntimeError("espeak-ng would not start; is espeak-ng-data installed?")
        return rate

    def _collect(self, wav: Any, n: int, events: Any) -> int:
        if n > 0:
            self._chunks.append(np.ctypeslib.as_array(wav, (n,)).copy())
        i = 0
        while events[i].type != 0:
            event = events[i]
            if event.type == _PHONEME:
                name = bytes(event.id.string).decode("utf-8", "ignore")
                self._phones.append((name, event.audio_position))
            elif event.type == _WORD:
                self._words.append((event.text_position - 1, event.length, event.audio_position))
            i += 1
        return 0

    def speak(self, text: str, voice: Voice) -> Utterance:
        lib = self._lib
        _, _, name = voice.name.partition("+")
        if name.startswith(VARIED) and not (self._variants / name).exists():
            (self._variants / name).write_text(variant(int(name.removeprefix(VARIED))))
        if lib.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.name!r}; `espeak-ng --voices` lists them")
        lib.espeak_SetParameter(1, int(165 * voice.rate), 0)  # words per minute
        lib.espeak_SetParameter(2, 40 if name.startswith(VARIED) else 100, 0)  # loud formants would be cut off
        lib.espeak_SetParameter(3, int(np.clip(50 * voice.pitch, 0, 99)), 0)
        self._chunks, self._phones, self._words = [], [], []
        data = text.encode()
        lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)  # UTF-8
        audio = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)
        seconds = len(audio) / self.rate
        starts = [p[1] / 1000 for p in self._phones] + [seconds]
        phones = [(p[0] or "pau", starts[i], starts[i + 1]) for i, p in enumerate(self._phones)]
        return Utterance(text, f"espeak:{voice.name}", to_16k(audio, self.rate), phones, self._word_spans(text, phones))

    def _word_spans(self, text: str, phones: Sequence[Span]) -> list[Span]:
        """The words between spaces, of which espeak makes one or more. A word event comes up to 50 ms before the word's
        first phone: phones decide where it starts and ends."""
        begins = [w[2] / 1000 for w in self._words] + [float("inf")]
        written = text.split()
        spans: dict[int, Span] = {}
        for i, (position, _, _) in enumerate(self._words):
            inside = [p for p in phones if p[0] not in PAUSES and begins[i] - 1e-6 <= p[1] < begins[i + 1] - 1e-6]
            if inside:
                k = len(text[: position + 1].split()) - 1
                start = spans[k][1] if k in spans else inside[0][1]
                spans[k] = (written[k].strip(".,?!¿¡"), start, inside[-1][2])
        return list(spans.values())


PAUSES = frozenset({"pau", "_", "_:", "_!", "_|", "", "#", ",", "'", "%", "=", "sil"})


@cache
def _espeak() -> _Espeak:
    return _Espeak()


# --- flite --------------------------------------------------------------------------------------------------------


def _flite(text: str, voice: Voice, folder: Path) -> Utterance:
    wav = folder / "flite.wav"
    command = ["flite", "-voice", voice.name, "-psdur", "--setf", f"duration_stretch={1 / voice.rate:.3f}"]
    if voice.pitch != 1.0:
        mean = {"rms": 100, "slt": 172, "awb": 130, "kal16": 105}[voice.name]
        command += ["--setf", f"int_f0_target_mean={mean * voice.pitch:.1f}"]
    out = subprocess.run([*command, "-t", text, "-o", str(wav)], capture_output=True, text=True, check=True).stdout
    audio, rate = soundfile.read(wav, dtype="int16")
    phones: list[Span] = []
    start = 0.0
    for label, end in re.findall(r"(\S+):([\d.]+)", out):
        phones.append((label, start, float(end)))
        start = float(end)
    return Utterance(text, f"flite:{voice.name}", to_16k(np.asarray(audio, np.int16), rate), phones)


# --- SVOX Pico ----------------------------------------------------------------------------------------------------


def _pico(text: str, voice: Voice, folder: Path) -> Utterance:
    wav = folder / "pico.wav"
    marked = f'<speed level="{100 * voice.rate:.0f}"><pitch level="{100 * voice.pitch:.0f}">{escape(text)}</pitch></speed>'
    subprocess.run(["pico2wave", "-l", voice.name, "-w", str(wav), marked], capture_output=True, check=True)
    audio, rate = soundfile.read(wav, dtype="int16")
    return Utterance(text, f"pico:{voice.name}", to_16k(np.asarray(audio, np.int16), rate))


# --- festival -----------------------------------------------------------------------------------------------------

_FESTIVAL = r"""
(define (vf_say n text)
  (let ((utt (SynthText_quiet text)))
    (utt.save.wave utt (format nil "%s/%d.wav" vf_folder n) 'riff)
    (utt.save.segs utt (format nil "%s/%d.seg" vf_folder n))
    (set! vf_out (fopen (format nil "%s/%d.words" vf_folder n) "w"))
    (mapcar (lambda (w) (format vf_out "%s\t%f\t%f\n" (item.name w)
        (item.feat w 'word_start) (item.feat w 'word_end))) (utt.relation.items utt 'Word))
    (fclose vf_out)))
(define (SynthText_quiet text) (utt.synth (eval (list 'Utterance 'Text text))))
"""


def festival_batch(texts: Sequence[str], voice: Voice) -> Iterator[Utterance]:
    """Synthesises many sentences in one festival process (its start costs more than a sentence)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [
            f"(voice_{voice.name})",
            f"(Parameter.set 'Duration_Stretch {1 / voice.rate:.3f})",
            f'(set! vf_folder "{name}")',
        ]
        lines += [_FESTIVAL] + [f'(vf_say {i} "{t}")' for i, t in enumerate(texts)]
        script = folder / "batch.scm"
        script.write_text("\n".join(lines), "iso-8859-1")  # what its voices read
        subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)
        for i, text in enumerate(texts):
            audio, rate = soundfile.read(folder / f"{i}.wav", dtype="int16")
            segments = [
                line.split()
                for line in (folder / f"{i}.seg").read_text().splitlines()
                if line[:1].isspace() or line[:1].isdigit()
            ]
            ends = [(s[2], float(s[0])) for s in segments if len(s) >= 3]
            phones = [(label, ends[k - 1][1] if k else 0.0, end) for k, (label, end) in enumerate(ends)]
            rows = [line.split("\t") for line in (folder / f"{i}.words").read_text("iso-8859-1").splitlines()]
            words = [(w, float(a), float(b)) for w, a, b in rows]
            yield Utterance(text, f"festival:{voice.name}", to_16k(np.asarray(audio, np.int16), rate), phones, words)


def synthesise(text: str, voice: Voice) -> Utterance:
    """One sentence in one voice.

    Raises `ValueError` for a voice the engine does not have, `subprocess.CalledProcessError` when an engine fails.
    """
    if voice.engine == "espeak":
        return _espeak().speak(text, voice)
    if voice.engine == "festival":
        return next(festival_batch([text], voice))
    if voice.engine == "hibari":
        from export.nano.neural import hibari

        return hibari(text, voice)
    say = {"pico": _pico, "flite": _flite}[voice.engine]
    with tempfile.TemporaryDirectory() as folder:
        return say(text, voice, Path(folder))
