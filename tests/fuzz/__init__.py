"""Coverage-guided fuzzing of what clients send, by atheris (libFuzzer)."""
