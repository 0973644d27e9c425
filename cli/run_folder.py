"""The folder that a training writes, kept to one process."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from harmonicrnn.errors import UserError
from harmonicrnn.files import check_writable
from harmonicrnn.runs import CHECKPOINTS


def new_folder(logger: TensorBoardLogger, is_set: bool) -> Path:
    """Makes the folder of a new run: of the version that was set, or of the first free number, which no other can take any more.

    Raises:
        UserError: the one that was set holds a run.
    """
    while True:
        folder = Path(logger.log_dir)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if is_set and any(folder.glob(CHECKPOINTS)):
                raise UserError(f"{folder}: holds a run already; go on with it (--ckpt_path last), or set another version") from None
            if is_set:
                return folder
            logger._version = None  # another training that started at the same time was faster
        else:
            return folder


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keeps a run's folder to this process; the system ends that when the process does, however it ends.

    Raises:
        UserError: another process trains there, or nothing can be written there.
    """
    check_writable(folder)
    with (folder / "lock").open("a") as lock:
        try:
            # Of this process alone: one that it forked, and that outlives it, would keep a lock of flock's.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UserError(
                f"{folder}: another training writes there; let it end, or begin a run of its own: without --ckpt_path, or from weights "
                "with --model.init_from"
            ) from error
        except OSError as error:
            rank_zero_warn(f"{lock.name}: cannot be locked ({error.strerror}); see to it yourself that no other training writes there")
        yield
