"""Handlers of stop signals outside of training."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Event, Thread
from types import FrameType
from typing import Any

AGAIN = 0.05
"""Seconds until a signal is sent again whose exception Python ignored."""

STOPPING = (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
"""Sent by terminals, `kill` and clusters; SIGUSR1 is SLURM's usual warning of a job's end (`--signal=USR1@300`)."""


@contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Turns stop signals inside the context into KeyboardInterrupt, so that clean-up runs, and appends them to the yielded list; a second
    SIGINT ends the program at once.

    Python ignores exceptions raised in finalisers and weak references' callbacks: a signal that arrives there is sent again.
    """
    received: list[int] = []
    over = Event()

    def end(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    def ignored(what: "sys.UnraisableHookArgs") -> None:
        if not received or not isinstance(what.exc_value, KeyboardInterrupt):
            show(what)
            return
        signum = received.pop()
        signal.signal(signum, end)
        returned = Event()
        try:
            Thread(target=send_again, args=(signum, returned), daemon=True).start()
        finally:  # another signal may arrive meanwhile
            returned.set()

    def send_again(signum: int, returned: Event) -> None:
        returned.wait()  # a start can take longer than AGAIN, and what arrives meanwhile would be ignored too
        if not over.wait(AGAIN):
            os.kill(os.getpid(), signum)

    before, show = {signum: signal.signal(signum, end) for signum in STOPPING}, sys.unraisablehook
    sys.unraisablehook = ignored
    try:
        yield received
    finally:
        over.set()
        sys.unraisablehook = show
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
