"""The exported graphs compute what `transformers` computes from the same checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.activations import ACT2FN

from export.checkpoint import open_checkpoint
from export.graph import Graph
from export.repository import NANO
from export.whisper import ACTIVATIONS, activation
from tests.export.checkpoints import Cache, Graphs, config, local_session, random_whisper, save, thirty_seconds

# The first two are the official dimensions; the third has large-v3-turbo's proportions: 128 mels, a deep encoder and
# four decoder layers, with few dimensions so that it is quick.
SHAPES = {
    "tiny": config(384, (4, 4), 6),
    "base": config(512, (6, 6), 8),
    "turbo-like": config(128, (8, 4), 4, n_mels=128, vocabulary=51_866),
}
TOLERANCE = 1e-3
FP16_TOLERANCE = 0.03  # of values that spread by about 1; measured 0.005
N_TOKENS = 24
SHORT = 250  # frames of a 5 s window


@dataclass
class Pair:
    """What transformers says of a window and some tokens, and our graphs."""

    folder: Path
    graphs: Graphs
    audio: np.ndarray
    tokens: np.ndarray  # (1, n)
    hidden: np.ndarray  # (T, d)
    logits: np.ndarray  # (n, vocab)
    short_logits: np.ndarray  # the same tokens over the first `SHORT` frames only
    attention: list[np.ndarray]  # per decoder layer (H, n, T)


@pytest.fixture(scope="module", params=list(SHAPES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    shape = SHAPES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    model = random_whisper(shape)
    save(model, folder)
    audio = thirty_seconds()
    extractor = WhisperFeatureExtractor(feature_size=shape.num_mel_bins)
    features = extractor(audio.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt").input_features
    tokens = torch.randint(0, shape.vocab_size, (1, N_TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden = model.model.encoder(features).last_hidden_state
        whole = model(encoder_outputs=(hidden,), decoder_input_ids=tokens, output_attentions=True)
        short = model(encoder_outputs=(hidden[:, :SHORT],), decoder_input_ids=tokens)
    return Pair(
        folder,
        Graphs(open_checkpoint(str(folder)), folder),
        audio,
        tokens.numpy(),
        hidden[0].numpy(),
        whole.logits[0].numpy(),
        short.logits[0].numpy(),
        [a[0].numpy() for a in whole.cross_attentions],
    )


def test_the_encoder_turns_pcm_into_the_hidden_states_of_transformers(pair: Pair):
    assert pair.hidden.shape[0] == 1500
    assert pair.hidden.std() > 0.5  # the tolerance below means something
    np.testing.assert_allclose(pair.graphs.encode(pair.audio), pair.hidden, atol=TOLERANCE, rtol=0)


def test_the_decoder_gives_the_logits_of_transformers_in_one_pass(pair: Pair):
    assert pair.logits.std() > 0.5
    cross = pair.graphs.cross(pair.graphs.encode(pair.audio)[None])
    logits, _, _ = pair.graphs.decode(pair.tokens, cross, pair.graphs.empty())
    np.testing.assert_allclose(logits[0], pair.logits, atol=TOLERANCE, rtol=0)


def test_the_decoder_gives_the_same_logits_token_by_token_through_its_cache(pair: Pair):
    cross = pair.graphs.cross(pair.graphs.encode(pair.audio)[None])
    cache = pair.graphs.empty()
    for i in range(N_TOKENS):
        logits, _, cache = pair.graphs.decode(pair.tokens[:, i : i + 1], cross, cache)
        np.testing.assert_allclose(logits[0, 0], pair.logits[i], atol=TOLERANCE, rtol=0, err_msg=f"token {i}")
    assert cache.length == N_TOKENS


def test_the_attention_that_word_times_come_from_is_that_of_transformers(pair: Pair):
    heads = open_checkpoint(str(pair.folder)).alignment_heads
    assert len(heads) >= 4
    cross = pair.graphs.cross(pair.hidden[None])
    _, attention, _ = pair.graphs.decode(pair.tokens, cross, pair.graphs.empty())
    expected = np.stack([pair.attention[layer][head] for layer, head in heads])
    np.testing.assert_allclose(attention[0], expected, atol=1e-5, rtol=0)


def test_rows_of_different_length_and_window_step_together_as_they_do_alone(pair: Pair):
    """As the scheduler batches them: caches aligned to the right, the shorter window padded and masked."""
    graphs = pair.graphs
    lengths, frames = (12, 7), (1500, SHORT)
    rows = []
    for length, n in zip(lengths, frames, strict=True):
        cross = graphs.cross(pair.hidden[None, :n])
        rows.append((cross, graphs.decode(pair.tokens[:, :length], cross, graphs.empty())[2]))

    def padded(arrays: list[np.ndarray], axis: int, *, left: bool) -> np.ndarray:
        size = max(a.shape[axis] for a in arrays)
        out = []
        for a in arrays:
            pad = [(0, 0)] * a.ndim
            pad[axis] = (size - a.shape[axis], 0) if left else (0, size - a.shape[axis])
            out.append(np.pad(a, pad, constant_values=9.0))  # not zero: a mask that leaks shows
        return np.concatenate(out)

    cross = {n: padded([r[0][n] for r in rows], 3 if "_k_" in n else 2, left=False) for n in rows[0][0]}
    past = {n: padded([r[1].past[n] for r in rows], 2, left=True) for n in rows[0][1].past}
    self_mask = np.zeros((2, 1, 1, 13), np.float32)
    self_mask[1, :, :, :5] = -1e4
    cross_mask = np.zeros((2, 1, 1, 1500), np.float32)
    cross_mask[1, :, :, SHORT:] = -1e4
    logits, _, _ = graphs.decode(
        np.stack([pair.tokens[0, n : n + 1] for n in lengths]),
        cross,
        Cache(past, 12),
        positions=np.array([[n] for n in lengths]),
        self_mask=self_mask,
        cross_mask=cross_mask,
    )
    np.testing.assert_allclose(logits[0, 0], pair.logits[12], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(logits[1, 0], pair.short_logits[7], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("pair", ["tiny", "turbo-like"], indirect=True)
def test_fp16_stays_close_to_transformers_in_fp32(pair: Pair, tmp_path: Path):
    graphs = Graphs(open_checkpoint(str(pair.folder)), tmp_path, "fp16")
    hidden = graphs.encode(pair.audio)
    assert hidden.dtype == np.float32  # one type on the wire, whatever the precision
    logits, _, _ = graphs.decode(pair.tokens, graphs.cross(hidden[None]), graphs.empty())
    assert logits.dtype == np.float32
    np.testing.assert_allclose(hidden, pair.hidden, atol=FP16_TOLERANCE, rtol=0)
    np.testing.assert_allclose(logits[0], pair.logits, atol=FP16_TOLERANCE, rtol=0)
    assert np.array_equal(logits[0].argmax(-1), pair.logits.argmax(-1))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_precision_of_the_checkpoint_in_the_box_says_what_transformers_says(precision, speak, tmp_path: Path):
    """Trained weights, in a window as it serves them: int8 is only as good as the distribution of real weights lets it."""
    text = "The meeting is on Tuesday, the third of May."
    audio = np.zeros(480_000, np.int16)
    spoken = speak(text).audio
    audio[: len(spoken)] = spoken
    specials = [1537, 1544]
    tokens = np.array([[*specials, *Tokenizer.from_file(str(NANO / "tokenizer.json")).encode(" " + text).ids]])
    model = WhisperForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32).eval()
    extractor = WhisperFeatureExtractor(feature_size=80)
    features = extractor(audio.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = model(features, decoder_input_ids=torch.from_numpy(tokens)).logits[0].numpy()
    graphs = Graphs(open_checkpoint(str(NANO)), tmp_path, precision)
    logits, _, _ = graphs.decode(tokens, graphs.cross(graphs.encode(audio)[None]), graphs.empty())
    if precision == "fp32":
        np.testing.assert_allclose(logits[0], expected, atol=TOLERANCE, rtol=0)
    assert np.corrcoef(logits[0].ravel(), expected.ravel())[0, 1] > (0.99 if precision == "int8" else 0.999999)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_that_of_transformers(name: str, tmp_path: Path):
    x = np.linspace(-6, 6, 241, dtype=np.float32)
    g = Graph("one")
    g.output(activation(g, g.input("x", ["n"]), name), "y", ["n"])
    g.save(tmp_path / "one.onnx")
    (y,) = local_session(tmp_path / "one.onnx").run(["y"], {"x": x})
    np.testing.assert_allclose(y, ACT2FN[name](torch.from_numpy(x)).numpy(), atol=2e-6)
