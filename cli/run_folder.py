"""The folder that a training writes, kept to one process."""

from contextlib import AbstractContextManager
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

from datamodules.process_lock import sole_process
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
            if is_set and any((folder / CHECKPOINTS).glob("*.ckpt")):
                raise UserError(f"{folder}: holds a run already; go on with it (--ckpt_path last), or set another version") from None
            if is_set:
                return folder
            logger._version = None  # another training that started at the same time was faster
        else:
            return folder


def sole_writer(folder: Path) -> AbstractContextManager[None]:
    """Keeps a run's folder to this process; the system ends that when the process does, however it ends.

    Raises:
        UserError: another process trains there, or nothing can be written there.
    """

    def refuse() -> None:
        raise UserError(
            f"{folder}: another training writes there; let it end, or begin a run of its own: without --ckpt_path, or from weights "
            "with --model.init_from"
        )

    check_writable(folder)
    return sole_process(folder / "lock", taken=refuse)
