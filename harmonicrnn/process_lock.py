"""File lock that admits one process at a time."""

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def sole_process(path: Path, taken: Callable[[], None]) -> Iterator[None]:
    """Holds a lock file, which the system releases when this process ends; forked processes do not hold it.

    Warns if the file system does not support locks.

    Args:
        path: lock file, in an existing folder.
        taken: called if another process holds the lock; it may raise, otherwise that process is waited for.
    """
    from filelock import FileLock, Timeout  # here, as it imports much

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
        warnings.warn(f"{path}: cannot be locked ({error.strerror}); make sure that no other process writes there", stacklevel=3)
    try:
        yield
    finally:
        lock.release()
