"""The checkpoints in the box, from an empty folder: see `cli.py`."""

import logging


def show_log() -> None:
    """What is under way, to the terminal: in each process that has something to tell."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
