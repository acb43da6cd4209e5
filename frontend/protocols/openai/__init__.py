"""OpenAI's transcription endpoints: applications written for them change base URL and key. See docs/openai.md."""
