"""Starts WhisperLive's server, by the Python of its own environment: the wheel has no run_server.py."""

from __future__ import annotations

import argparse

from whisper_live.server import TranscriptionServer  # pyright: ignore[reportMissingImports]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batched", action="store_true")
    args = parser.parse_args()
    TranscriptionServer().run(
        "127.0.0.1",
        port=args.port,
        backend="faster_whisper",
        faster_whisper_custom_model_path=args.model,
        single_model=True,
        max_clients=10_000,
        max_connection_time=3600,
        batch_enabled=args.batched,
        batch_beam_size=5,
        batch_max_queue_wait_s=3600,
        batch_max_admissions_per_s=10_000,
    )


if __name__ == "__main__":
    main()
