"""The session's logic: when speech starts and ends, what to decode, what to tell. Pure: no I/O, no clock, no audio.

Time is an integer sample index at 16 kHz from the start of the stream.
"""
