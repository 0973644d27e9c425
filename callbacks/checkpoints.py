"""The two checkpoints that a run keeps."""

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: the lowest `val/bits` so far."""

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val/bits", enable_version_counter=False)


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`: after each validation, whether it was the best or not, and at the end of training.

    Lightning's own `save_last` skips validations that were not the best.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._last_global_step_saved != trainer.global_step:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
