"""The signals that ask the program to stop, and what it does about them outside of training."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What terminals, `kill` and clusters send; the last is how SLURM is usually told to warn of a job's end (`--signal=USR1@300`)."""


@contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Any of the signals raises KeyboardInterrupt, so that what was begun is cleaned up, and is put into the list; a second SIGINT ends
    the program at once."""
    received: list[int] = []

    def end(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, end) for signum in STOPPING}
    try:
        yield received
    finally:
        restore(before)


def restore(handlers: dict[signal.Signals, Any]) -> None:
    """Give signals back the handlers that they had."""
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
