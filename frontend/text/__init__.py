"""Text steps over recognised words that keep their times: numbers, punctuation, redaction, replacement, search. Pure.

Words go in and come out; a `TextPipeline` holds the options and what one stream must remember between its segments.
"""
