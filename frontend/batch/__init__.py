"""Whole recordings: reading files, sending them to a server, writing transcripts."""
