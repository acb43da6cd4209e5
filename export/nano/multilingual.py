"""Begins a checkpoint of many languages with what one of English has learned.

Encoder and decoder layers are taken over as they are. A token of the new tokenizer that the old one had keeps its
embedding; another one begins as the mean of the old tokens that spell it, so that the first step already knows what a
token sounds like.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from export.nano import corpus
from export.nano import tokenizer as bpe
from export.nano.package import unpack

log = logging.getLogger(__name__)
SENTENCES = 30_000
"""Of each language, to learn tokens from."""


def balanced(items: Iterable[corpus.Item], languages: Sequence[str], seed: int = 1) -> list[str]:
    """As many sentences of each language, so that none is spelled letter by letter."""
    texts: dict[str, list[str]] = {code: [] for code in languages}
    for item in items:
        texts[item.language].append(item.text)
    r = random.Random(seed)
    n = min(SENTENCES, *map(len, texts.values()))
    return [text for code in languages for text in r.sample(texts[code], n)]


def embeddings(old: Tensor, before: Tokenizer, after: Tokenizer) -> Tensor:
    """(new vocabulary, d) from (old vocabulary, d)."""
    known, mean, spread = before.get_vocab(), old.mean(0), old.std(0)
    new = torch.empty(after.get_vocab_size(), old.shape[1])
    for token, i in after.get_vocab().items():
        if token in known:
            new[i] = old[known[token]]
        elif token.startswith("<|"):  # a language
            new[i] = mean + 0.1 * spread * torch.randn(old.shape[1])
        else:
            spelled = [t.id for t in before.model.tokenize(token)]
            new[i] = old[spelled].mean(0) + 0.1 * spread * torch.randn(old.shape[1])
    return new


def begin(
    checkpoint: Path, data: Path, out: Path, vocab: int, languages: Sequence[str], recorded: Sequence[corpus.Item] = ()
) -> None:
    """Makes of a packed `checkpoint` of English a run of all `languages` at step 0, on the shards in `data`.

    Raises `ValueError` where a language has no sentences.
    """
    items = corpus.read(data)
    missing = sorted(set(languages) - {i.language for i in items})
    if missing:
        raise ValueError(f"{data} has no speech in {', '.join(missing)}; `synthesise --language {missing[0]}` makes it")
    unpack(checkpoint, data, out, step=0)
    before = Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json"))
    tokens = bpe.train([*balanced(items, languages), *(i.text for i in recorded)], vocab, languages)
    bpe.save(tokens, out / "tokenizer")
    saved = torch.load(out / "last.pt", map_location="cpu", weights_only=True)
    name = "decoder.embed_tokens.weight"
    torch.manual_seed(1)
    saved["model"][name] = embeddings(saved["model"][name], before, tokens)
    torch.save(saved, out / "last.pt")
    log.info("%d tokens, languages %s", tokens.get_vocab_size(), ", ".join(languages))
