"""The checkpoints `best.ckpt` and `last.ckpt`, written atomically; stop signals, and the validation after the last step."""

import io
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from typing_extensions import override

from callbacks.run_record import run_directory
from harmonicrnn.errors import UserError
from harmonicrnn.files import remove_parts, replacing
from harmonicrnn.old_names import bring_up_to_date
from harmonicrnn.runs import CHECKPOINTS
from harmonicrnn.signals import STOPPING, restore

TRY_AGAIN = os.EX_TEMPFAIL
"""Exit status (75) of a training that was stopped by a signal and can be resumed from its last checkpoint."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically: the old file is replaced once the new one is complete and on disk.

    Lightning writes to the system's temporary folder and moves the file, which is not atomic across file systems and does not sync.
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
                f"{path}: the checkpoint cannot be written ({error.strerror or error}); the previous one is kept: free disk space "
                "and resume with --ckpt_path last"
            ) from error

    @override
    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        checkpoint = super().load_checkpoint(path, *args, **options)
        bring_up_to_date(checkpoint)
        return checkpoint


class OneFile(ModelCheckpoint):
    """Save checkpoints under one fixed name, each replacing the previous one."""

    def __init__(self, filename: str, **options: Any) -> None:
        super().__init__(filename=filename, enable_version_counter=False, **options)

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Lightning would derive the folder from the loggers. The first rank's folder is used.
        self.dirpath = self.dirpath or str(run_directory(trainer) / CHECKPOINTS)
        super().setup(trainer, pl_module, stage)

    @override
    def _should_remove_checkpoint(self, trainer: L.Trainer, previous: str, current: str) -> bool:
        # Lightning compares paths as strings, and would remove the new file if the folder is now reached by another path.
        return False

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The same comparison would discard the best so far. A resumed run has the file in its folder, a new run has not.
        if (Path(self.dirpath or "") / f"{self.filename}.ckpt").is_file():
            state_dict = state_dict | {"dirpath": self.dirpath}
        super().load_state_dict(state_dict)


class BestCheckpoint(OneFile):
    """Save `best.ckpt`, the best checkpoint by a metric logged at validation.

    Args:
        monitor: Name of the metric.
        mode: Whether the lowest (min) or the highest (max) value is best.
    """

    def __init__(self, monitor: str = "val/bits", mode: Literal["min", "max"] = "min") -> None:
        super().__init__("best", monitor=monitor, mode=mode)


class Stopped(Exception):  # noqa: N818 - not an error
    """Training was stopped by a signal after its checkpoint was saved; raised on all ranks after the same step.

    Attributes:
        checkpoint: the checkpoint to resume from.
        status: exit status for this process.
    """

    def __init__(self, trainer: L.Trainer, signum: int, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        environment = getattr(trainer.strategy, "cluster_environment", None)
        # Lightning kills the first rank if another rank that it launched exits with a status other than 0.
        self.status = 0 if trainer.local_rank > 0 and isinstance(environment, LightningEnvironment) else TRY_AGAIN
        super().__init__(f"{signal.Signals(signum).name}: stopped after step {trainer.global_step}")


class StopSignals:
    """Record the first signal received during training; a second SIGINT ends the program at once.

    Replaces Lightning's handlers, which communicate between processes inside the handler and can hang. Lightning restores the handlers
    from before its own when training ends or fails.
    """

    def __init__(self) -> None:
        self.received = 0
        self._outside = {signum: signal.getsignal(signum) for signum in STOPPING}

    def ignore_after(self, connector: _SignalConnector) -> None:
        """Restore the previous handlers once Lightning has registered its own, so that a signal before the first step ends the program.

        Lightning has no hook at this point that every training calls.
        """
        register = type(connector).register_signal_handlers

        def register_and_restore() -> None:
            register(connector)
            restore(self._outside)

        connector.register_signal_handlers = register_and_restore  # type: ignore[method-assign]

    def watch(self) -> None:
        """Start recording signals."""
        for signum in STOPPING:
            signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = self.received or signum
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


class LastCheckpoint(OneFile):
    """Save `last.ckpt` after each validation, every few minutes, at the end of training, and on a stop signal.

    After a stop signal, the current step and validation are finished and `Stopped` is raised. Lightning's `save_last` skips validations
    that are not the best, and its `train_time_interval` skips intervals that end while gradients are accumulated.

    Args:
        minutes: Minutes between checkpoints; null to save at validations only.
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
        # Gloo: the reduction after each step runs on the CPU and does not synchronise the GPU.
        self._group = None
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=getattr(trainer.strategy, "_timeout", None))
        self._saved_at = time.monotonic()
        self._signals.watch()

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate() or is_done(trainer):
            return  # accumulated gradients are not saved in checkpoints
        signum, due = self._asked(trainer)
        # A run resumed from here would skip a validation that is due now; on_validation_end saves and stops instead.
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
        """Return the signal received by any rank (0 for none), and whether a checkpoint is due by the first rank's clock."""
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


class FinalValidation(Callback):
    """Validate after the last step regardless of `trainer.val_check_interval`, as the last checkpoint may be the best."""

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loop = trainer.fit_loop.epoch_loop
        due = loop._should_check_val_fx

        def due_or_done(fetcher: object) -> bool:
            return due(fetcher) or (trainer.enable_validation and not loop._should_accumulate() and is_done(trainer))  # type: ignore[arg-type]

        loop._should_check_val_fx = due_or_done  # type: ignore[method-assign]


def is_done(trainer: L.Trainer) -> bool:
    """Return whether the current step is the last one of the training."""
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs  # type: ignore[operator]
    steps_done = 0 <= trainer.max_steps <= trainer.global_step
    return steps_done or bool(last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)
