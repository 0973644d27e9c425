"""Checkpoints under fixed names that replace one another whole, and the best one, `best.ckpt`."""

import io
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from callbacks.run_record import run_directory
from harmonicrnn.errors import UserError
from harmonicrnn.files import replacing
from harmonicrnn.old_names import bring_up_to_date
from harmonicrnn.runs import CHECKPOINTS


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
