"""The signals that ask the program to stop, and what it does about them outside of training."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
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


def leave_signals(worker: int = 0) -> None:
    """For a process that helps another: leaves signals, which may be sent to all, to the main one, which may need it to finish what it
    does; ends when that one asks with SIGTERM. Where the system does not tell who sent a signal (macOS), any SIGTERM ends it."""
    starter = parent_process()
    main = starter.pid if starter else os.getppid()  # a fork server stands between the two
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN if signum != signal.SIGTERM else signal.SIG_DFL)
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def watch() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
            pass
        os._exit(0)

    Thread(target=watch, daemon=True).start()


def restore(handlers: dict[signal.Signals, Any]) -> None:
    """Give signals back the handlers that they had."""
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
