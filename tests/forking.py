"""Forks children whose exit status tells how they ended."""

import os
import sys
from collections.abc import Callable
from pathlib import Path


def in_child(function: Callable[[], int | None], output: Path | None = None) -> int:
    """Forks a child, in a process group of its own, that runs `function` and exits with its result.

    Args:
        function: returns an exit status; None counts as 0.
        output: file that stdout and stderr are appended to.

    Returns:
        the child's process id.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        os.setsid()
        if output is not None:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pytest has replaced the originals
        status = function() or 0
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        if output is not None:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(status)


def status_of(pid: int) -> int:
    """Waits for a child and returns its exit status; negative if a signal killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
