"""A byte-level BPE of our own in the files of a Whisper tokenizer, Whisper's special tokens included.

The order of ids is Whisper's: text tokens, `<|endoftext|>`, `<|startoftranscript|>`, languages, tasks, `<|notimestamps|>`,
then 1,501 timestamps of 20 ms. A checkpoint of one language takes the prompt of the official `.en` models:
`<|startoftranscript|>`, then `<|notimestamps|>` or a first timestamp.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

N_TIMESTAMPS = 1501


def special_tokens(languages: Sequence[str]) -> list[str]:
    return [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in languages),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]


def languages_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The codes that a tokenizer made here was trained with."""
    first, last = (tokenizer.token_to_id(t) for t in ("<|startoftranscript|>", "<|translate|>"))
    assert first is not None
    assert last is not None
    return tuple((tokenizer.id_to_token(i) or "")[2:-2] for i in range(first + 1, last))


def train(sentences: Iterable[str], vocab_size: int, languages: Sequence[str] = ("en",)) -> Tokenizer:
    """Learns `vocab_size` byte-level tokens from the sentences and appends the special ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((" " + s for s in sentences), trainer)
    stamps = [f"<|{i * 0.02:.2f}|>" for i in range(N_TIMESTAMPS)]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special_tokens(languages)])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in stamps])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes `tokenizer.json` and the files that transformers' slow and fast Whisper tokenizers look for."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = special_tokens(languages_of(tokenizer))
    added = {t: tokenizer.token_to_id(t) for t in special + [f"<|{i * 0.02:.2f}|>" for i in range(N_TIMESTAMPS)]}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    end = "<|endoftext|>"
    (folder / "special_tokens_map.json").write_text(
        json.dumps(
            {
                "bos_token": end,
                "eos_token": end,
                "pad_token": end,
                "unk_token": end,
                "additional_special_tokens": special,
            }
        )
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "WhisperTokenizer",
                "bos_token": end,
                "eos_token": end,
                "pad_token": end,
                "unk_token": end,
                "errors": "replace",
                "model_max_length": 448,
                "processor_class": "WhisperProcessor",
                "return_attention_mask": False,
            },
            indent=1,
        )
    )
