"""The curves of a run, without which it goes on."""

import threading
from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from typing_extensions import override

from harmonicrnn.files import side_product


class Curves(TensorBoardLogger):
    """TensorBoard's logger, of which what cannot be written is left out, with a warning."""

    @property
    @override
    def experiment(self) -> Any:
        if self._experiment is None:
            with side_product(f"{self.log_dir}: curves"):
                self._experiment = Forgiving(super().experiment, f"{self.log_dir}: curves")
        return Forgiving(None, "") if self._experiment is None else self._experiment

    @override
    def save(self) -> None:
        with side_product(f"{self.log_dir}: hparams.yaml"):
            super().save()


class Forgiving:
    """Calls a SummaryWriter until it fails, and from then on nothing; with None nothing at all."""

    def __init__(self, writer: Any, name: str) -> None:
        self._writer, self._name = writer, name
        threading.excepthook = _told_elsewhere

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


def _told_elsewhere(args: Any) -> None:
    # What fails in the thread that writes is raised again by the next call.
    if not isinstance(args.thread, _AsyncWriterThread):
        threading.__excepthook__(args)
