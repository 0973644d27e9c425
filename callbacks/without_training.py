"""Callback that measures likelihoods without training, for comparison with the model."""

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from datamodules import AudioDataModule
from harmonicrnn.audio.dataset import Split
from harmonicrnn.evaluation.untrained import ProgressBar, Untrained, measure_untrained, no_bar
from harmonicrnn.files import side_product
from harmonicrnn.metrics.statistics_cache import default_cache
from harmonicrnn.models.predictors_alone import FILTERS, PREDICTORS

CURVE = "val/bits_of_predictors"


class WithoutTraining(Callback):
    """Measure likelihoods that need no training on the samples that the model is measured on.

    `measure` is called on the first rank only, before the other ranks start. In training, the likelihood of the validation split under the
    linear predictors is printed, and logged as the constant curve `val/bits_of_predictors`.
    """

    def __init__(self) -> None:
        self.found: list[Untrained] = []

    def measure(self, trainer: L.Trainer, data: AudioDataModule, stage: str, bar: ProgressBar = no_bar) -> None:
        """Compute the likelihoods for a stage, or read them from the cache; a failure gives a warning.

        Args:
            trainer: Its limits on batches apply.
            data: Set up for the stage.
            stage: fit, validate or test.
            bar: Progress bar.
        """
        split: Split = "test" if stage == "test" else "validation"
        there = len(data.in_order(split))
        limit = trainer.limit_test_batches if stage == "test" else trainer.limit_val_batches
        used = int(there * limit) if isinstance(limit, float) else min(there, limit or 0)
        if not used:
            return
        with side_product("likelihoods without training"):
            self.found = measure_untrained(
                data,
                split,
                default_cache(),
                names=(PREDICTORS,) if stage == "fit" else tuple(FILTERS),
                training=None if stage == "fit" else data.with_training(),
                batches=used if used < there else None,
                bar=bar,
            )

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for each in self.found:
            rank_zero_info(f"Without training: {each.name} reach {each.bits_per_sample:.3f} bits/sample on the validation split")

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            for each in self.found:
                logger.log_metrics({CURVE: each.bits_per_sample}, trainer.global_step)
