"""Bytes on the wire to 16 kHz mono int16 samples. Pure: no I/O, no clock."""
