"""A logger with the audio and picture methods of Lightning's WandbLogger, whose package comes with `[fad]` alone."""

from typing import ClassVar

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class StandIn(Logger):
    """Records each call in `given`, as (kind, key, step, value, ...)."""

    made: ClassVar = []

    def __init__(self, name=None, save_dir=".", version=None, offline=False, project=None):
        super().__init__()
        self.settings = {"name": name, "save_dir": save_dir, "offline": offline, "project": project}
        self.given = []
        StandIn.made.append(self)

    name = property(lambda self: self.settings["project"])
    version = property(lambda self: "an id")

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        self.given += [("curve", key, step, float(value)) for key, value in metrics.items()]

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    @rank_zero_only
    def log_audio(self, key, audios, step=None, **kwargs):
        self._keep("audio", key, audios, step, kwargs)

    @rank_zero_only
    def log_image(self, key, images, step=None, **kwargs):
        self._keep("image", key, images, step, kwargs)

    def _keep(self, kind, key, items, step, options):
        """Makes the same checks as Lightning's WandbLogger."""
        assert isinstance(items, list)
        assert all(len(option) == len(items) for option in options.values())
        self.given.append((kind, key, step, items, options))


class Failing(StandIn):
    """Accepts only curves: audio and pictures raise ConnectionError."""

    def log_audio(self, *args, **kwargs):
        raise ConnectionError("no route to host")

    log_image = log_audio
