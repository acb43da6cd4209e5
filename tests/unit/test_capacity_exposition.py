"""What Prometheus expositions say, and what changed between two."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.capacity.exposition import Exposition, parse, together

TRITON = """\
# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="silero_vad",version="1"} 15
nv_inference_count{model="whisper_nano",version="1"} 16
# TYPE voiceforge_model_memory_bytes gauge
voiceforge_model_memory_bytes{model="whisper_nano",instance="whisper_nano_0_0"} 200
voiceforge_model_memory_bytes{model="whisper_nano",instance="whisper_nano_0_1"} 300
"""
HISTOGRAM = """\
# TYPE d histogram
d_bucket{le="0.1"} %d
d_bucket{le="0.5"} %d
d_bucket{le="+Inf"} %d
d_sum 1
d_count %d
"""


def test_counters_are_found_by_the_name_that_the_server_gives_them():
    found = parse(TRITON)
    assert "nv_inference_count" in found
    assert found.total("nv_inference_count") == 31
    assert found.total("nv_inference_count", model="silero_vad") == 15
    assert found.by("nv_inference_count", "model") == {"silero_vad": 15, "whisper_nano": 16}
    assert "nv_gpu_utilization" not in found


def test_what_nobody_tells_is_none_or_nothing():
    empty = parse("")
    assert empty.most("x") is None
    assert (empty.total("x"), empty.of("x"), empty.by("x", "y"), empty.most_by("x", "y")) == (0, {}, {}, {})
    assert empty.quantile("x", 0.95) is None


def test_the_largest_of_a_label():
    found = parse(TRITON)
    assert found.most("voiceforge_model_memory_bytes") == 300
    assert found.most_by("voiceforge_model_memory_bytes", "model") == {"whisper_nano": 300}


def test_what_was_counted_since_and_a_counter_that_began_anew():
    before, after = (
        parse("# TYPE a counter\na 10\n# TYPE b counter\nb 10\n"),
        parse("# TYPE a counter\na 25\n# TYPE b counter\nb 4\n# TYPE c counter\nc 3\n"),
    )
    done = after.since(before)
    assert (done.total("a"), done.total("b"), done.total("c")) == (15, 4, 3)


def test_several_servers_are_told_apart():
    both = together({"a": parse(TRITON, 2.0), "b": parse(TRITON, 1.0)})
    assert both.at == 1.0
    assert both.by("nv_inference_count", "server") == {"a": 31, "b": 31}


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((0, 10, 10), 0.5, 0.3),  # linear within its bucket
        ((10, 10, 10), 0.95, 0.095),
        ((0, 0, 10), 0.5, 0.5),  # above all bounds: the last one
        ((0, 0, 0), 0.5, None),
    ],
)
def test_quantiles_are_those_of_promql(counts: tuple[int, int, int], q: float, expected: float | None):
    found = parse(HISTOGRAM % (*counts, counts[-1])).quantile("d", q)
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("text", ["<html>hello</html>", 'a{b="c" 1', "a{b=c} 1", "a one", "a{} ", '{"ready": true}'])
def test_what_is_no_exposition_is_a_value_error(text: str):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the parser says
        parse(text + "\n")


LINES = st.lists(
    st.sampled_from(["a 1", "# TYPE a counter", 'a{x="1"} 2', "# HELP a", "#", "a{", '"', "a 1 2 3", "a NaN", "\\"])
)


@given(st.one_of(st.text(), LINES.map("\n".join), st.binary().map(lambda b: b.decode("latin-1"))))
def test_any_text_is_an_exposition_or_a_value_error(text: str):
    with contextlib.suppress(ValueError):
        assert isinstance(parse(text), Exposition)


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.floats(0.01, 0.99))
def test_a_quantile_lies_within_the_bounds(counts: list[int], q: float):
    low, middle, high = counts[0], counts[0] + counts[1], sum(counts)
    found = parse(HISTOGRAM % (low, middle, high, high)).quantile("d", q)
    assert found is None if high == 0 else found is not None and 0 <= found <= 0.5 and math.isfinite(found)
