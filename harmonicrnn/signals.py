"""Handlers of stop signals outside of training."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
"""Sent by terminals, `kill` and clusters; SIGUSR1 is SLURM's usual warning of a job's end (`--signal=USR1@300`)."""


@contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Turns stop signals inside the context into KeyboardInterrupt, so that clean-up runs, and appends them to the yielded list; a second
    SIGINT ends the program at once."""
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
    """Makes a helper process ignore stop signals, which may be sent to all processes, until its parent sends SIGTERM: the parent may need
    it to finish. On systems that do not report a signal's sender (macOS), any SIGTERM ends it."""
    starter = parent_process()
    main = starter.pid if starter else os.getppid()  # a fork server may be in between
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
    """Restores handlers of signals."""
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
