"""Audio, pictures and histograms for the loggers that take them."""

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from harmonicrnn.files import side_product

AUDIO, PICTURES, HISTOGRAMS = "log_audio", "log_image", ""
"""Methods by which loggers other than TensorBoard's accept them, as Lightning's WandbLogger; there is none for histograms."""


def takes(logger: Logger, method: str) -> bool:
    """Return whether a logger supports `AUDIO`, `PICTURES` or `HISTOGRAMS`."""
    return isinstance(logger, TensorBoardLogger) or hasattr(logger, method)


def name_of(logger: Logger) -> str:
    """Return the name of a logger's class as a config names it."""
    return next(kind.__name__ for kind in type(logger).__mro__ if not kind.__module__.startswith("callbacks."))


def left_out(logger: Logger) -> str:
    """Return the kinds a logger does not support, such as \"audio, histograms\"; empty if none."""
    kinds = {"audio": AUDIO, "pictures": PICTURES, "histograms": HISTOGRAMS}
    return ", ".join(kind for kind, method in kinds.items() if not takes(logger, method))


def show_audio(trainer: L.Trainer, tag: str, samples: Tensor, sample_rate: int) -> None:
    """Log a waveform, float (T,) in [-1, 1]."""
    step = trainer.global_step

    def show(logger: Any) -> None:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_audio(tag, [samples.numpy()], step=step, sample_rate=[sample_rate])
        elif len(samples) > 1:  # TensorBoard rejects audio of a single sample
            logger.experiment.add_audio(tag, samples, step, sample_rate=sample_rate)

    _show(trainer, tag, AUDIO, show)


def show_figure(trainer: L.Trainer, tag: str, draw: Callable[[], Figure]) -> None:
    """Log a figure; `draw` is called only if a logger supports figures."""
    step = trainer.global_step

    def show(logger: Any) -> None:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(tag, draw(), step)
        else:
            logger.log_image(tag, [_pixels(draw())], step=step)

    _show(trainer, tag, PICTURES, show)


def show_histogram(trainer: L.Trainer, tag: str, values: Tensor) -> None:
    """Log a histogram of values of any shape."""
    _show(trainer, tag, HISTOGRAMS, lambda logger: logger.experiment.add_histogram(tag, values, trainer.global_step))


def _show(trainer: L.Trainer, tag: str, method: str, show: Callable[[Any], None]) -> None:
    for logger in trainer.loggers if trainer.is_global_zero else ():
        if takes(logger, method):
            with side_product(f"{name_of(logger)}: {tag}"):
                show(logger)


def _pixels(figure: Figure) -> Any:
    """Return the pixels of a figure, uint8 (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
