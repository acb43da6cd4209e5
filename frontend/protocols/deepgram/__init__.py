"""Deepgram's `/v1/listen`, live and pre-recorded: applications written for it change host and key. See docs/deepgram.md."""
