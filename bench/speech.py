"""Test clips for benchmarks: held-out sentences in seen voices, with the true ends of speech."""

from frontend.capacity.speech import synthesised as clips

__all__ = ["clips"]
