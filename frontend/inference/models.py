"""What is known of a model before it decodes: from the parameters of its Triton config, which the exporter wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from frontend.errors import UnknownLanguage, UnsupportedTask

AUTO = "auto"
"""The language is to be found by the model."""
FULL_WINDOW_S = 30.0

# Whisper's codes where they are not those of BCP 47.
_CODES = {"nb": "no", "iw": "he", "jv": "jw", "fil": "tl", "cmn": "zh", "in": "id"}


@dataclass(frozen=True)
class ModelInfo:
    """One model, as `model=` names it. `languages` are Whisper's codes; empty when the export did not record them."""

    name: str
    multilingual: bool = False
    languages: tuple[str, ...] = ("en",)
    tasks: tuple[str, ...] = ("transcribe",)
    windows_s: tuple[float, ...] = (FULL_WINDOW_S,)
    """Lengths that audio is padded to, ascending; the last one bounds a segment."""
    precision: str = ""
    source: str = ""

    @classmethod
    def from_parameters(cls, name: str, parameters: Mapping[str, str]) -> ModelInfo:
        """Of a Triton config. Exports of earlier versions lack some: then nothing is claimed."""

        def listed(key: str, default: str = "") -> tuple[str, ...]:
            return tuple(v for v in parameters.get(key, default).split(",") if v)

        multilingual = parameters.get("multilingual") == "true"
        return cls(
            name,
            multilingual,
            listed("languages", "" if multilingual else "en"),
            listed("tasks", "transcribe,translate" if multilingual else "transcribe"),
            tuple(float(s) for s in listed("windows_s", f"{FULL_WINDOW_S:g}")),
            parameters.get("precision", ""),
            parameters.get("source", ""),
        )

    @property
    def window_s(self) -> float:
        """The longest window."""
        return self.windows_s[-1]

    def language(self, asked: str) -> str:
        """Whisper's code for a language tag (`pt-BR`, `nb`) or `auto`; raises `UnknownLanguage`."""
        if asked == AUTO:
            return AUTO if self.multilingual else self._only
        code = asked.replace("_", "-").split("-")[0].lower()
        code = _CODES.get(code, code)
        if not self.languages or code in self.languages:
            return code
        if not self.multilingual:
            what = "English-only" if self._only == "en" else f"for {self._only} only"
            raise UnknownLanguage(f"model {self.name!r} is {what}; leave language out, or choose a multilingual model")
        raise UnknownLanguage(f"model {self.name!r} does not know language {asked!r}; it knows {', '.join(self.languages)}")

    @property
    def _only(self) -> str:
        return self.languages[0] if self.languages else "en"

    def check_task(self, task: str) -> None:
        """Raises `UnsupportedTask`."""
        if task not in self.tasks:
            raise UnsupportedTask(f"model {self.name!r} cannot {task}; it can {', '.join(self.tasks)}")
