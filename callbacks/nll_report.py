"""Callback that measures and reports the likelihood of a split in bits per sample."""

import json
import math
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from callbacks.forgiving_loggers import UNTRAINED
from callbacks.run_record import run_directory
from callbacks.show import show_figure
from datamodules import AudioDataModule
from harmonicrnn.audio.dataset import Batch, Split
from harmonicrnn.checkpoints import read_checkpoint
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.figures import position_figure
from harmonicrnn.evaluation.untrained import ProgressBar, Untrained, measure_untrained, no_bar, worse_than_untrained
from harmonicrnn.files import pasteable, side_product, write_json
from harmonicrnn.metrics import Likelihood, NegativeLogLikelihood
from harmonicrnn.metrics.statistics_cache import default_cache
from harmonicrnn.provenance import sha256

COMPARED = "an exact mean over all samples; the published tables average batches and drop the last, which differs in the third decimal"


class NLLReport(Callback):
    """Log `val/bits` and `test/bits`; after `validate` and `test`, print a table and write a report to the run's folder.

    The report is `nll_SPLIT.json`, or `nll_SPLIT_partial.json` if not all batches were measured. A report of another checkpoint or
    protocol is first renamed to `nll_SPLIT_NAME_STEP.json`.

    `measure`, called on the first rank only, before the other ranks start, adds likelihoods that need no training, on the same samples. In
    training, they are printed and logged as the constant curves `UNTRAINED`, with a unigram that is estimated from some clips.

    Raises UserError if the likelihood is not finite in `validate` or `test`.
    """

    def __init__(self) -> None:
        self.metric = NegativeLogLikelihood()
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
                training=data.with_training(),
                estimated=stage == "fit",
                batches=used if used < there else None,
                bar=bar,
            )

    def _finish(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str, tag: str) -> None:
        measured = self.metric.likelihood()
        pl_module.log(tag, measured.bits_per_sample, prog_bar=True, sync_dist=True)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            show_figure(trainer, f"{tag}_by_position", lambda: position_figure([(tag, measured.by_position)]))
        if trainer.state.fn == "fit":
            return
        if not math.isfinite(measured.bits_per_sample):
            raise UserError(f"{trainer.ckpt_path}: its likelihoods are not finite: the training diverged")
        if trainer.is_global_zero:
            self._tell(trainer, split, measured)

    def _tell(self, trainer: L.Trainer, split: str, measured: Likelihood) -> None:
        checkpoint, whole = Path(trainer.ckpt_path) if trainer.ckpt_path else None, _is_whole(trainer, split)
        report = {"split": split, **asdict(measured)} | {
            "protocol": trainer.datamodule.protocol,  # type: ignore[attr-defined]
            "mean": COMPARED,
            # None for a module without a checkpoint.
            "checkpoint": checkpoint and str(checkpoint),
            "sha256": checkpoint and sha256(checkpoint),
            "step": checkpoint and read_checkpoint(checkpoint)["global_step"],
            "batches": "all" if whole else "limited by trainer.limit_*_batches",
            "untrained": [asdict(each) for each in self.found],
        }
        table = Table("split", "bits/sample", "samples", "clips")
        table.add_row(split, f"{measured.bits_per_sample:.4f}", f"{measured.samples:,}", f"{measured.clips:,}")
        if self.found:
            table.add_row("without training:")
        for each in self.found:
            table.add_row(f"  {each.name}", f"{each.bits_per_sample:.4f}", f"{each.samples:,}", f"{each.clips:,}")
        Console().print(table)
        if worse := worse_than_untrained(measured.bits_per_sample, self.found):
            print(f"The model is {worse}")
        print(report["protocol"])
        path = run_directory(trainer) / f"nll_{split}{'' if whole else '_partial'}.json"
        with side_product(path):
            keep_apart(path, report)
            write_json(path, report)
            print(f"Written to {pasteable(path)}")

    @override
    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.metric.to(pl_module.device)
        self.metric.reset()

    on_test_epoch_start = on_validation_epoch_start

    @override
    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.metric.update(outputs, batch.valid, batch.context, batch.start)

    on_test_batch_end = on_validation_batch_end

    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "validation", "val/bits")

    @override
    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "test", "test/bits")

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for each in self.found:
            rank_zero_info(f"Without training: {each.name}, {each.bits_per_sample:.3f} bits/sample on the validation split")

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        for logger in trainer.loggers if trainer.is_global_zero and self.found else ():
            logger.log_metrics({UNTRAINED[each.name]: each.bits_per_sample for each in self.found}, trainer.global_step)


def _is_whole(trainer: L.Trainer, split: str) -> bool:
    limit = trainer.limit_test_batches if split == "test" else trainer.limit_val_batches
    return limit == 1.0 and isinstance(limit, float)


def keep_apart(path: Path, report: dict[str, Any]) -> None:
    """Rename an existing report at `path` if its checkpoint or protocol differs from those of the new report.

    Raises OSError if it cannot be read or renamed.
    """
    with suppress(FileNotFoundError, ValueError, AttributeError, TypeError):
        before = json.loads(path.read_text())
        if any(before.get(key) != report[key] for key in ("sha256", "protocol")):
            name = f"{path.stem}_{Path(before.get('checkpoint') or 'old').stem}_{before.get('step', 'old')}"
            names = (path.with_stem(f"{name}_{number}" if number else name) for number in count())
            path.replace(next(free for free in names if not free.exists()))
