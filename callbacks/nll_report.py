"""The likelihood of a split, in bits per sample."""

import json
from dataclasses import asdict
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from callbacks.run_record import run_directory
from harmonicrnn.audio.dataset import Batch
from harmonicrnn.evaluation.figures import position_figure
from harmonicrnn.files import replacing
from harmonicrnn.metrics import NegativeLogLikelihood

COMPARED = "an exact mean over all samples; the published tables average batches and drop the last, which differs in the third decimal"


class NLLReport(Callback):
    """Logs `val/bits` and `test/bits`; after `validate` and `test` prints a table and writes `nll_SPLIT.json` into the run's folder."""

    def __init__(self) -> None:
        self.metric = NegativeLogLikelihood()

    def _finish(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str, tag: str) -> None:
        measured = self.metric.likelihood()
        pl_module.log(tag, measured.bits_per_sample, prog_bar=True, sync_dist=True)
        if trainer.state.fn == "fit" and trainer.logger is not None and trainer.is_global_zero and not trainer.sanity_checking:
            writer = trainer.logger.experiment  # type: ignore[attr-defined]
            writer.add_figure(f"{tag}_by_position", position_figure([(tag, measured.by_position)]), trainer.global_step)
        if trainer.state.fn == "fit" or not trainer.is_global_zero:
            return
        report = {"split": split, **asdict(measured)} | {
            "protocol": trainer.datamodule.protocol,  # type: ignore[attr-defined]
            "mean": COMPARED,
            "checkpoint": str(trainer.ckpt_path),
            "batches": "all" if _is_whole(trainer, split) else "limited by trainer.limit_*_batches",
        }
        path = run_directory(trainer) / f"nll_{split}.json"
        with replacing(path) as file:
            file.write((json.dumps(report, indent=2) + "\n").encode())
        table = Table("split", "bits/sample", "samples", "clips")
        table.add_row(split, f"{measured.bits_per_sample:.4f}", f"{measured.samples:,}", f"{measured.clips:,}")
        console = Console()
        console.print(table)
        for line in (report["protocol"], f"Written to {path}"):
            console.print(line, soft_wrap=True, highlight=False)

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


def _is_whole(trainer: L.Trainer, split: str) -> bool:
    limit = trainer.limit_test_batches if split == "test" else trainer.limit_val_batches
    return limit == 1.0 and isinstance(limit, float)
