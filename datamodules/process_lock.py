"""One process at a time."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_warn

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def sole_process(path: Path, taken: Callable[[], None]) -> Iterator[None]:
    """Holds a lock file, which the system frees when this process ends, however it ends; processes forked from this one do not hold it.

    Where the file system has no locks, that is warned of.

    Args:
        path: the lock file, in a folder that exists.
        taken: called where another process holds it; it may raise, else that process is waited for.
    """
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock outlives a process that is killed
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            taken()
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        rank_zero_warn(f"{path}: cannot be locked ({error.strerror}); see to it yourself that no other process writes there")
    try:
        yield
    finally:
        lock.release()
