"""The two checkpoints that a run keeps, and how they are written."""

import io
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from callbacks.final_validation import is_done
from callbacks.run_record import run_directory
from callbacks.stopping import Stopped, StopSignals
from harmonicrnn.errors import UserError
from harmonicrnn.files import remove_parts, replacing
from harmonicrnn.old_names import bring_up_to_date
from harmonicrnn.runs import CHECKPOINTS


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one it replaces, which stays until the new one is whole and on disk.

    Lightning's own writes to the system's temporary folder and moves the file from there: across file systems, which is what most have,
    that copies it over the old one bit by bit; nor does it wait for the disk.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            with replacing(Path(path)) as file:
                file.write(content.getbuffer())
        except OSError as error:
            raise UserError(
                f"{path}: the checkpoint cannot be written ({error.strerror or error}); the one before it is kept: make room, and go on "
                "from it with --ckpt_path last"
            ) from error

    @override
    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        checkpoint = super().load_checkpoint(path, *args, **options)
        bring_up_to_date(checkpoint)
        return checkpoint


class OneFile(ModelCheckpoint):
    """A checkpoint under one name, each replacing the one before."""

    def __init__(self, filename: str, **options: Any) -> None:
        super().__init__(filename=filename, enable_version_counter=False, **options)

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Lightning's own choice of a folder would hang on the loggers. That of the first rank counts.
        self.dirpath = self.dirpath or str(run_directory(trainer) / CHECKPOINTS)
        super().setup(trainer, pl_module, stage)

    @override
    def _should_remove_checkpoint(self, trainer: L.Trainer, previous: str, current: str) -> bool:
        # Lightning compares spellings of paths: of a folder that is now reached by another one it would remove the new file.
        return False

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The same comparison would forget the best so far; a run that goes on in its folder has the file there, a new one has not.
        if (Path(self.dirpath or "") / f"{self.filename}.ckpt").is_file():
            state_dict = state_dict | {"dirpath": self.dirpath}
        super().load_state_dict(state_dict)


class BestCheckpoint(OneFile):
    """`best.ckpt`: the best so far by a value that is logged at validation.

    Args:
        monitor: Its name.
        mode: Whether the lowest or the highest is the best.
    """

    def __init__(self, monitor: str = "val/bits", mode: Literal["min", "max"] = "min") -> None:
        super().__init__("best", monitor=monitor, mode=mode)


class LastCheckpoint(OneFile):
    """`last.ckpt`: after each validation, whether it was the best or not, every few minutes, at the end of training, and when a signal
    asks it to stop, which ends it after the step (and validation) under way with `Stopped`.

    Lightning's own `save_last` skips validations that were not the best, and its `train_time_interval` those minutes at which gradients
    are still being accumulated.

    Args:
        minutes: Minutes between two checkpoints; null for none between validations.
    """

    def __init__(self, minutes: float | None = 10) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"checkpoint.minutes must be above 0, or null, got {minutes}")
        super().__init__("last")
        self.minutes = minutes

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._signals = StopSignals()
        self._signals.ignore_after(trainer._signal_connector)
        if trainer.is_global_zero and self.dirpath:
            remove_parts(Path(self.dirpath))

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Among the CPUs, so that asking after each step takes a fraction of a millisecond and makes no GPU wait.
        self._group = None
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=getattr(trainer.strategy, "_timeout", None))
        self._saved_at = time.monotonic()
        self._signals.watch()

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate() or is_done(trainer):
            return  # gradients that are waiting for the rest of their step are in no checkpoint
        signum, due = self._asked(trainer)
        # A run that went on from here would leave out a validation that is to follow; it saves, and stops, itself.
        if (signum or due) and not loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
            self._save(trainer)
            self._stop(trainer, signum)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.sanity_checking or is_done(trainer):
            return
        signum, due = self._asked(trainer)
        if signum or due:
            self._save(trainer)
        self._stop(trainer, signum)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)

    def _asked(self, trainer: L.Trainer) -> tuple[int, bool]:
        """A signal that any rank has received, 0 for none, and whether the time for a checkpoint has come by the first rank's clock."""
        due = trainer.is_global_zero and self.minutes is not None and time.monotonic() - self._saved_at >= 60 * self.minutes
        asked = torch.tensor([self._signals.received, due])
        if self._group is not None:
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(asked[0]), bool(asked[1])

    def _save(self, trainer: L.Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    @override
    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._saved_at = time.monotonic()

    def _stop(self, trainer: L.Trainer, signum: int) -> None:
        if signum:
            raise Stopped(trainer, signum, Path(self.best_model_path))
