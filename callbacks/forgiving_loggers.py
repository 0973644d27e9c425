"""TensorBoard and CSV loggers that write to the run's folder and warn instead of failing."""

import csv
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from typing_extensions import override

from harmonicrnn.evaluation.untrained import ESTIMATED_UNIGRAM, UNIGRAM
from harmonicrnn.files import side_product
from harmonicrnn.models.predictors_alone import FILTERS

UNTRAINED = {name: f"val/bits_of_{name.replace(' ', '_')}" for name in FILTERS} | dict.fromkeys(
    (UNIGRAM, ESTIMATED_UNIGRAM), "val/bits_of_unigram"
)
"""Metrics of the likelihoods without training, by the names of these."""

LINES = {"train/bits": "training", "val/bits": "validation"} | {tag: tag.removeprefix("val/bits_of_") for tag in UNTRAINED.values()}
"""Metrics of the first chart, and the names of their lines."""

SPEED = "train/samples_per_second"


def in_folder(logger: Logger, settings: Mapping[str, Any], folder: Path) -> Logger:
    """Return a TensorBoard or CSV logger with these settings that writes to `folder`; any other logger is returned as it is."""
    kind = {TensorBoardLogger: Curves, CSVLogger: Table}.get(type(logger))
    return logger if kind is None else kind(**{**settings, "save_dir": folder.parent, "name": "", "version": folder.name})


class Forgiving:
    """Proxy of a writer that warns at the first failed call and ignores all later calls; `writer` None ignores all calls."""

    def __init__(self, writer: Any, name: str) -> None:
        self._writer, self._name = writer, name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            writer, self._writer = self._writer, None
            if writer is not None:
                with side_product(self._name):
                    result = getattr(writer, method)(*args, **kwargs)
                    self._writer = writer
                    return result
            return None

        return call


class ForgivingLogger:
    """Mixin for loggers: a write that fails gives a warning."""

    _experiment: Any
    log_dir: str

    @property
    def experiment(self) -> Any:
        if self._experiment is None:
            threading.excepthook = _told_elsewhere  # first: the writer's thread may fail while the writer is being made
            with side_product(f"{self.log_dir}: curves"):
                self._experiment = Forgiving(self._writer(), f"{self.log_dir}: curves")
        return Forgiving(None, "") if self._experiment is None else self._experiment

    def _writer(self) -> Any:
        return super().experiment  # type: ignore[misc]

    def save(self) -> None:
        with side_product(f"{self.log_dir}: hparams.yaml"):
            super().save()  # type: ignore[misc]


class Curves(ForgivingLogger, TensorBoardLogger):
    """TensorBoard logger with the most important charts first; TensorBoard sorts charts by tag.

    The first chart shows the likelihoods of training, of validation and of what needs no training, each logged as a run of its own in a
    subfolder. The second shows samples per second. Epoch and learning rate come last.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines: dict[str, Curves] = {}

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # type: ignore[override]
        last = {tag: f"z_schedule/{tag}" for tag in metrics if tag == "epoch" or tag.startswith("lr-")}
        shown = {last.get(tag, tag): value for tag, value in metrics.items()}
        if SPEED in metrics:
            shown["at_a_glance/samples_per_second"] = metrics[SPEED]
        super().log_metrics(shown, step)
        for tag in metrics.keys() & LINES.keys():
            if tag not in self._lines:
                self._lines[tag] = Curves(self.log_dir, "", LINES[tag])
            self._lines[tag].experiment.add_scalar("at_a_glance/bits_per_sample", metrics[tag], step)

    @override
    def finalize(self, status: str) -> None:
        super().finalize(status)
        for line in self._lines.values():
            line.experiment.close()


class Table(ForgivingLogger, CSVLogger):
    """CSV logger that appends to the file of a resumed run; Lightning's would remove it."""

    @override
    def _writer(self) -> "Appending":
        return Appending(self.log_dir)


class Appending(ExperimentWriter):
    """CSV writer that appends to an existing file."""

    @override
    def _check_log_dir_exists(self) -> None:
        with suppress(OSError, StopIteration), Path(self.metrics_file_path).open(newline="") as file:
            self.metrics_keys = next(csv.reader(file))


def _told_elsewhere(args: Any) -> None:
    # An error in TensorBoard's writer thread is raised again by the next call.
    if not isinstance(args.thread, _AsyncWriterThread):
        threading.__excepthook__(args)
