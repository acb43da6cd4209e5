"""Wire formats: frames to commands, events to frames. Pure; one module a protocol."""
