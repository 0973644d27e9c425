"""Finding runs and their checkpoints.

A run is a folder `LOGS/NAME/version_N` with `config.yaml` and `checkpoints/` holding `best.ckpt` and `last.ckpt`. Folders without a
checkpoint are not runs: they were made by a training that stopped before its first one.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from errors import UserError

CHECKPOINTS = "checkpoints/*.ckpt"


@dataclass(frozen=True)
class Run:
    """A run's folder and one of its checkpoints."""

    folder: Path
    checkpoint: Path

    @property
    def config(self) -> Path:
        """The full configuration it was trained with; may be missing where the checkpoint was moved."""
        return self.folder / "config.yaml"

    @property
    def goes_on_in_place(self) -> bool:
        """Whether training that goes on from here stays in the folder, as the checkpoint is the run's newest."""
        last = self.checkpoint.with_name("last.ckpt")
        return self.config.is_file() and (self.checkpoint == last or not last.exists())


def find_run(checkpoint: str | None, logs: Path) -> Run:
    """The run meant by `--ckpt_path`.

    Args:
        checkpoint: a file, or "best" or "last" of the newest run below `logs`; None is best, or last where there is no best. A run that was
            killed between writing its first best and its first last goes on from the best, which was made at the same step.
        logs: where runs lie, at any depth.

    Raises:
        UserError: there is no such file or run.
    """
    if checkpoint not in (None, "best", "last"):
        path = Path(str(checkpoint))
        if not path.is_file():
            raise UserError(f"--ckpt_path {checkpoint}: there is no such file; give a checkpoint, best or last")
        path = path.resolve() if path.is_symlink() else path  # a link to a run's checkpoint is that checkpoint
        return Run(path.parents[1] if path.parent.name == "checkpoints" else path.parent, path)
    found = _checkpoints(logs)
    if not found:
        raise UserError(f"{logs}: no run with a checkpoint; train first (python train.py fit --config ...), or give --ckpt_path FILE")
    folder = max(found, key=lambda path: found[path]).parent
    for name in {"best": ["best"], "last": ["last", "best"]}.get(str(checkpoint), ["best", "last"]):
        if (folder / f"{name}.ckpt").is_file():
            return Run(folder.parent, folder / f"{name}.ckpt")
    raise UserError(f"{folder}: has no {checkpoint or 'best or last'}.ckpt; give --ckpt_path FILE")


def any_runs(logs: Path) -> bool:
    """Whether a run with a checkpoint lies below `logs`."""
    return bool(_checkpoints(logs))


def _checkpoints(logs: Path) -> dict[Path, float]:
    """Those below `logs`, and when each was changed; links to nothing, and those that vanish while being looked at, are none."""
    found = {}
    for path in logs.rglob(CHECKPOINTS):
        with suppress(OSError):
            if path.is_file():
                found[path] = path.stat().st_mtime
    return found


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


def check_writable(folder: Path) -> None:
    """Raises UserError where no file can be made in the folder; makes nothing itself."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"{folder}: runs cannot be written there: {error.strerror or os.strerror(error.errno or 0)}") from error
