"""FFmpeg outside of the server: a host that has loaded it once, and a process forked from it for each stream."""
